"""The files that ``predict`` writes."""

import torch
from toy_model import ToyModel, make_batch, make_loader

from mvsplat.callbacks import PredictionWriter
from mvsplat.export import load_ply
from mvsplat.export.files import file_name


def test_a_file_for_every_scene(make_trainer, tmp_path):
    model = ToyModel()
    make_trainer(PredictionWriter()).predict(model, make_loader(range(2)))
    files = sorted((tmp_path / "predictions").iterdir())
    assert [f.name for f in files] == sorted(f"{file_name(f'scene/{i}')}.ply" for i in range(2))
    expected = model.encoder(make_batch(1).context)
    loaded = load_ply(tmp_path / "predictions" / f"{file_name('scene/1')}.ply")
    torch.testing.assert_close(loaded.means, expected.means)
    torch.testing.assert_close(loaded.opacities, expected.opacities)
