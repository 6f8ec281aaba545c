"""The results that ``test`` writes, with a model whose scores can be worked out."""

import csv
import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch.utils.data import DataLoader
from toy_model import SplattingModel, ToyModel, make_batch, make_loader

from mvsplat.data import EvaluationViewSampler, GeneratedScenes, SceneDataModule
from mvsplat.evaluation import load_results
from mvsplat.evaluation.lpips import PerceptualDistance
from mvsplat.evaluation.metrics import psnr
from mvsplat.evaluation.test_results import TestResults
from mvsplat.export import load_depth_png
from mvsplat.export.films import FilmSettings
from mvsplat.files import file_name


def run(make_trainer, tmp_path, loader, **settings):
    trainer = make_trainer(TestResults(**settings))
    trainer.test(ToyModel(), loader, verbose=False)
    return json.loads((tmp_path / "test" / "scores.json").read_text())


def test_scores_are_complete_and_right(make_trainer, tmp_path, capsys):
    scores = run(make_trainer, tmp_path, make_loader(range(3)), baselines=True)
    assert list(scores["scenes"]) == ["scene/0", "scene/1", "scene/2"]
    methods = ["model", "zeroed_cost_volume", "median_plane", "nearest_view", "mean_color"]
    assert list(scores["mean"]) == methods

    batch = make_batch(1)
    first = batch.context.image[:, :1]
    expected = psnr(first.expand(-1, 3, -1, -1, -1), batch.target.image)[0]
    views = scores["scenes"]["scene/1"]["scores"]["model"]["views"]
    assert [view["frame"] for view in views] == [10, 11, 12]
    assert [view["psnr"] for view in views] == pytest.approx(expected.tolist(), abs=1e-3)

    of_scenes = [s["scores"]["model"]["mean"] for s in scores["scenes"].values()]
    for metric in ("psnr", "ssim", "abs_rel"):
        mean = sum(scene[metric] for scene in of_scenes) / 3
        assert scores["mean"]["model"][metric] == pytest.approx(mean)
    depth = batch.context.depth
    assert of_scenes[1]["abs_rel"] == pytest.approx(((2 - depth).abs() / depth).mean().item())
    zeroed = scores["scenes"]["scene/1"]["scores"]["zeroed_cost_volume"]["mean"]
    assert zeroed["abs_rel"] == pytest.approx(((3 - depth).abs() / depth).mean().item())
    assert "abs_rel" in scores["mean"]["median_plane"]
    assert "abs_rel" not in scores["mean"]["nearest_view"]

    printed = capsys.readouterr().out
    assert "Mean over 3 scenes" in printed and "model, cost volume zeroed" in printed
    assert f"{scores['mean']['model']['psnr']:.2f}" in printed


def test_every_view_is_a_line_of_the_csv(make_trainer, tmp_path):
    scores = run(make_trainer, tmp_path, make_loader(range(2)))
    with (tmp_path / "test" / "scores.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["scene"], line["frame"]) for line in lines] == [
        (f"scene/{scene}", str(10 * scene + view)) for scene in range(2) for view in range(3)
    ]
    value = scores["scenes"]["scene/1"]["scores"]["model"]["views"][2]["ssim"]
    assert float(lines[-1]["ssim"]) == value and lines[-1]["lpips"] == ""


def test_a_picture_for_as_many_scenes_as_asked(make_trainer, tmp_path):
    run(make_trainer, tmp_path, make_loader(range(3)), images=2)
    pictures = sorted((tmp_path / "test" / "sheets").iterdir())
    assert len(pictures) == 2 and all(p.name.startswith("scene_") for p in pictures)
    assert Image.open(pictures[0]).width > 4 * 160


def test_every_kind_of_picture_and_film(make_trainer, tmp_path):
    kinds = ["images", "errors", "depth_png", "depth_npy", "depth_color"]
    films = {"films": ["interpolation", "wobble", "spin"], "film": FilmSettings(frames=2)}
    trainer = make_trainer(TestResults(pictures=kinds, **films))
    model, folder = SplattingModel(), tmp_path / "test"
    trainer.test(model, make_loader(range(1)), verbose=False)
    names = ("", "_depth", "_depth_color", "_error", "_target")
    images = folder / "images" / file_name("scene/0")
    expected = [f"{frame:06d}{name}.png" for frame in range(3) for name in names]
    expected += [f"{frame:06d}_depth.npy" for frame in range(3)]
    assert sorted(p.name for p in images.iterdir()) == sorted(expected)
    assert not (folder / "sheets").exists()

    batch = make_batch(0)
    with torch.no_grad():
        rendering = model.render(model.encoder(batch.context), batch.target)
    depth = rendering.depth[0, 2]
    np.testing.assert_allclose(np.load(images / "000002_depth.npy"), depth, rtol=1e-5)
    stored = load_depth_png(images / "000002_depth.png")
    torch.testing.assert_close(stored, depth, atol=6e-5, rtol=0)
    for name, image in (("", rendering.color[0, 2]), ("_target", batch.target.image[0, 2])):
        pixels = np.asarray(Image.open(images / f"000002{name}.png")).transpose(2, 0, 1) / 255
        assert np.abs(pixels - image.clamp(0, 1).numpy()).max() <= 0.5 / 255 + 1e-5

    scores = json.loads((folder / "scores.json").read_text())
    files = scores["scenes"]["scene/0"]["files"]
    assert files["images"] == f"images/{file_name('scene/0')}"
    assert [Path(film).stem.rpartition("_")[2] for film in files["films"]] == films["films"]
    for film in files["films"]:
        assert cv2.VideoCapture(str(folder / film)).get(cv2.CAP_PROP_FRAME_COUNT) == 2


def test_no_pictures_where_none_are_wanted(make_trainer, tmp_path):
    scores = run(make_trainer, tmp_path, make_loader(range(1)), images=0)
    assert sorted(p.name for p in (tmp_path / "test").iterdir()) == ["scores.csv", "scores.json"]
    assert "files" not in scores["scenes"]["scene/0"]


def test_a_scene_that_is_tested_twice_keeps_both_pictures(make_trainer, tmp_path):
    batches = [make_batch(0), make_batch(0)]
    batches[1].target.index += 1
    run(make_trainer, tmp_path, DataLoader(batches, batch_size=None))
    assert len(list((tmp_path / "test" / "sheets").iterdir())) == 2


def test_results_are_grouped_by_what_the_index_says(make_trainer, tmp_path, capsys):
    index = {
        f"scene/{number}": {"context": [0, 1], "target": [2], "overlap": overlap, "tier": tier}
        for number, (overlap, tier) in enumerate([(0.9, "easy"), (0.2, "hard"), (0.8, "easy")])
    }
    (tmp_path / "index.json").write_text(json.dumps(index))

    class Data(SceneDataModule):
        def setup(self, stage):
            pass

        def prepare_data(self):
            pass

        def test_dataloader(self):
            return make_loader(range(3))

    data = Data(GeneratedScenes(), test_views=EvaluationViewSampler(str(tmp_path / "index.json")))
    make_trainer(TestResults()).test(ToyModel(), datamodule=data, verbose=False)
    scores = json.loads((tmp_path / "test" / "scores.json").read_text())
    assert scores["scenes"]["scene/1"]["overlap"] == 0.2
    assert {t: group["scenes"] for t, group in scores["groups"]["tier"].items()} == {
        "easy": 2,
        "hard": 1,
    }
    easy = [scores["scenes"][f"scene/{n}"]["scores"]["model"]["mean"]["psnr"] for n in (0, 2)]
    found = scores["groups"]["tier"]["easy"]["mean"]["model"]["psnr"]
    assert found == pytest.approx(sum(easy) / 2)
    assert "Model by tier" in capsys.readouterr().out


def test_a_film_from_no_file_is_refused():
    with pytest.raises(ValueError, match=r"film\.file"):
        TestResults(films=["file"])


def test_without_exact_depth_the_plane_takes_the_models(make_trainer, tmp_path):
    scores = run(make_trainer, tmp_path, make_loader(range(1), depth=False), baselines=True)
    assert "median_plane" in scores["mean"]
    assert all("abs_rel" not in row for row in scores["mean"].values())


def test_times_leave_the_first_batch_out(make_trainer, tmp_path):
    scores = run(make_trainer, tmp_path, make_loader(range(4)))
    timings = [scene["timing"] for scene in scores["scenes"].values()]
    assert [timing["warm_up"] for timing in timings] == [True, False, False, False]
    warm = sorted(timing["encoder_seconds"] for timing in timings[1:])
    assert scores["timing"]["encoder_seconds"] == warm[1] > 0
    assert scores["timing"]["gaussians"] == 2 * 16 * 16
    assert 50e6 < scores["timing"]["peak_memory_bytes"] < 50e9


def test_missing_lpips_weights_are_a_warning(make_trainer, tmp_path):
    with pytest.warns(UserWarning, match=r"no LPIPS scores: .*absent\.pth"):
        scores = run(
            make_trainer,
            tmp_path,
            make_loader(range(1)),
            lpips="alex",
            lpips_weights=str(tmp_path / "absent.pth"),
        )
    assert scores["settings"]["lpips"] is None and "lpips" not in scores["mean"]["model"]


def test_lpips_is_a_column_where_asked_for(make_trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(PerceptualDistance, "pretrained", lambda net, _: PerceptualDistance(net))
    make_trainer(TestResults(lpips="vgg", baselines=True, folder="elsewhere")).test(
        ToyModel(), make_loader(range(1)), verbose=False
    )
    scores = json.loads((tmp_path / "elsewhere" / "scores.json").read_text())
    views = scores["scenes"]["scene/0"]["scores"]["nearest_view"]["views"]
    assert scores["settings"]["lpips"] == "vgg" and views[0]["lpips"] > 0
    assert scores["mean"]["nearest_view"]["lpips"] == pytest.approx(
        sum(view["lpips"] for view in views) / 3
    )


def test_broken_pictures_become_null(make_trainer, tmp_path):
    model = ToyModel()
    torch.nn.init.constant_(model.encoder.brightness, torch.nan)
    trainer = make_trainer(TestResults())
    trainer.test(model, make_loader(range(1)), verbose=False)
    scores = json.loads((tmp_path / "test" / "scores.json").read_text())
    assert scores["mean"]["model"]["psnr"] is None


def test_the_model_is_left_as_it_was(make_trainer):
    model = ToyModel()
    make_trainer(TestResults(baselines=True)).test(model, make_loader(range(1)), verbose=False)
    for module in (model.encoder, model.decoder, model.encoder.cost_volume):
        assert not module._forward_hooks and not module._forward_pre_hooks


class Interrupted(Callback):
    """Something happens after the second batch."""

    def __init__(self, what):
        self.what = what

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 1:
            self.what()


def fail():
    raise ZeroDivisionError("in the middle")


@pytest.mark.parametrize(
    ("what", "error", "reason", "code"),
    [
        (fail, ZeroDivisionError, "ZeroDivisionError: in the middle", None),
        (lambda: os.kill(os.getpid(), signal.SIGINT), SystemExit, "Ctrl-C", 1),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), SystemExit, "SIGTERM", 143),
    ],
)
def test_an_interrupted_test_leaves_the_scores_so_far(
    make_trainer, tmp_path, capsys, what, error, reason, code
):
    whole = run(make_trainer, tmp_path, make_loader(range(4)), baselines=True)
    assert whole["complete"] is True and whole["interrupted"] is None
    before = signal.getsignal(signal.SIGINT)
    trainer = make_trainer(TestResults(baselines=True), Interrupted(what))
    try:
        with pytest.raises(error) as caught:
            trainer.test(ToyModel(), make_loader(range(4)), verbose=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert code is None or caught.value.code == code
    scores = json.loads((tmp_path / "test" / "scores.json").read_text())
    assert scores["complete"] is False and scores["interrupted"] == reason
    assert list(scores["scenes"]) == ["scene/0", "scene/1"]
    for name, scene in scores["scenes"].items():
        assert scene["scores"] == whole["scenes"][name]["scores"]
    assert len((tmp_path / "test" / "scores.csv").read_text().splitlines()) == 1 + 2 * 5 * 3
    printed = capsys.readouterr().out
    assert "Mean over 2 scenes (incomplete)" in printed and f"did not end: {reason}" in printed
    assert load_results(tmp_path).missing() == f"the test did not end: {reason}"
    assert not list((tmp_path / "test").glob("*unfinished*"))


def test_what_a_killed_test_has_done_is_on_disk(make_trainer, tmp_path):
    """Seen in the middle, as it is after a power failure."""
    folder, found = tmp_path / "test", []
    look = Interrupted(lambda: found.append(load_results(folder)))
    make_trainer(TestResults(), look).test(ToyModel(), make_loader(range(3)), verbose=False)
    (results,) = found
    assert [scene["scene"] for scene in results.scenes] == ["scene/0", "scene/1"]
    assert not results.complete and "was killed" in results.missing()
    whole = load_results(folder)
    assert whole.complete and whole.scenes[:2] == results.scenes

    # One that left half a line behind, beside the results of an earlier test.
    journal = folder / "scores.unfinished-0.jsonl"
    line = json.dumps(results.scenes[0])
    journal.write_text(f"{line}\n{line[:100]}")
    assert [scene["scene"] for scene in load_results(folder).scenes] == ["scene/0"]
    run(make_trainer, tmp_path, make_loader(range(3)))
    assert load_results(folder).complete and not journal.exists()
