"""The files that ``predict`` writes."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from toy_model import SplattingModel, ToyModel, make_batch, make_loader

from mvsplat.evaluation.prediction_writer import PredictionWriter
from mvsplat.export import load_cameras, load_depth_png, load_ply
from mvsplat.export.films import FilmSettings
from mvsplat.files import file_name
from mvsplat.training.progress_bar import ProgressBar

SCENES = [file_name(f"scene/{number}") for number in range(2)]
SHORT = FilmSettings(frames=4, size=(32, 48))


@pytest.fixture
def predict(make_trainer, tmp_path):
    """Predicts two scenes and returns the folder."""

    def run(model, **settings):
        trainer = make_trainer(PredictionWriter(**settings))
        trainer.predict(model, make_loader(range(2)), return_predictions=False)
        return tmp_path / "predictions"

    return run


def test_everything_of_every_scene(predict):
    folder = predict(SplattingModel(), film=SHORT)
    names = ("", ".cameras.json", ".ply", "_interpolation.mp4")
    assert sorted(p.name for p in folder.iterdir()) == sorted(s + n for s in SCENES for n in names)
    model, batch = ToyModel(), make_batch(1)
    expected = model.encoder(batch.context)
    loaded = load_ply(folder / f"{SCENES[1]}.ply")
    torch.testing.assert_close(loaded.means, expected.means)
    torch.testing.assert_close(loaded.opacities, expected.opacities)

    frames = folder / SCENES[1]
    kinds = ("", "_depth", "_depth_color")
    assert sorted(p.name for p in frames.iterdir()) == sorted(
        f"{frame:06d}{kind}.png" for frame in (10, 11) for kind in kinds
    )
    depth = load_depth_png(frames / "000011_depth.png")
    # The far bound is 4: the PNG's unit is 0.0001.
    torch.testing.assert_close(depth, torch.full((16, 16), 2.0), atol=0.00005, rtol=0)
    picture = np.asarray(Image.open(frames / "000010.png")) / 255
    truth = batch.context.image[0, 0].permute(1, 2, 0).numpy()
    assert np.abs(picture - truth).max() <= 0.5 / 255 + 1e-6


def test_the_cameras_are_those_of_the_context_views(predict):
    folder, context = predict(SplattingModel(), film=SHORT), make_batch(0).context
    cameras = load_cameras(folder / f"{SCENES[0]}.cameras.json")
    assert (cameras.near, cameras.far) == (1.0, 4.0)
    for view, frame in enumerate(cameras.frames):
        torch.testing.assert_close(frame.extrinsics, context.extrinsics[0, view])
        torch.testing.assert_close(frame.intrinsics, context.intrinsics[0, view])
        assert frame.image == folder / SCENES[0] / f"{view:06d}.png"


def test_the_film_goes_from_the_first_to_the_last_view(predict):
    folder, model = predict(SplattingModel(), film=SHORT), SplattingModel()
    video = cv2.VideoCapture(str(folder / f"{SCENES[0]}_interpolation.mp4"))
    frames = []
    while (frame := video.read())[0]:
        frames.append(torch.from_numpy(cv2.cvtColor(frame[1], cv2.COLOR_BGR2RGB)) / 255)
    assert len(frames) == 4 and frames[0].shape == (32, 48, 3)
    context = make_batch(0).context
    cameras = (context.extrinsics, context.intrinsics, context.near, context.far)
    with torch.no_grad():
        expected = model.decoder(model.encoder(context), *cameras, (32, 48)).color[0].clamp(0, 1)
    for end in (0, -1):
        assert (frames[end].permute(2, 0, 1) - expected[end]).abs().mean() < 0.03


def test_everything_can_be_left_out(predict):
    nothing = {"splats": False, "views": False, "depth": (), "films": ()}
    assert not predict(ToyModel(), **nothing).exists()


def test_a_scene_without_estimated_depth_gets_the_rendered_one(predict):
    class Plain(SplattingModel):
        def predict_step(self, batch, batch_idx):
            gaussians = super().predict_step(batch, batch_idx)
            gaussians.estimate = None
            return gaussians

    folder = predict(Plain(), depth=["npy"], films=())
    files = sorted((folder / SCENES[0]).glob("*.npy"))
    assert [file.name for file in files] == ["000000_depth.npy", "000001_depth.npy"]
    depth = np.load(files[0])
    assert depth.shape == (16, 16) and np.median(depth[depth > 0]) == pytest.approx(2, abs=0.1)


def test_a_film_from_no_file_is_refused():
    with pytest.raises(ValueError, match=r"film\.file"):
        PredictionWriter(films=["file"])


def test_a_film_shows_its_progress(make_trainer, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "rich.progress.Progress.advance", lambda self, task, amount=1: shown.append(task)
    )
    callbacks = [PredictionWriter(depth=(), film=SHORT), ProgressBar()]
    trainer = make_trainer(*callbacks, enable_progress_bar=True)
    trainer.predict(SplattingModel(), make_loader(range(2)), return_predictions=False)
    assert len(shown) == 2 * 4 and len(set(shown)) == 2, "two films of four frames"
    assert len(trainer.progress_bar_callback.progress.tasks) == 1, "the films' bars are gone"
