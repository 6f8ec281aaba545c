"""A metric of a user: one class outside the package, in every command; and ones that fail."""

import csv
import json
import math
import sys
import warnings

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_evaluation import make_result
from toy_model import ToyModel, make_batch, make_loader

from mvsplat.__main__ import main
from mvsplat.evaluation import (
    METRICS,
    Metric,
    Prediction,
    Results,
    compare,
    evaluate,
    load_results,
    mean_scores,
    results_table,
    save_results,
    score_batch,
)
from mvsplat.evaluation.comparison_files import means_table
from mvsplat.evaluation.test_results import TestResults
from mvsplat.evaluation.view_scores import model_prediction, score_views

# As README shows it.
MY_PARTS = '''
from mvsplat.evaluation import Metric


class Sharpness(Metric):
    """How much of the photograph's contrast between neighbouring pixels is in the rendering."""

    name = "sharpness"
    heading = "Sharpness"
    digits = 3
    better = "higher"

    def __init__(self, most: float = 1.0):
        self.most = most

    def score(self, prediction, truth):
        contrast = prediction.diff(dim=-1).abs().mean(dim=(-3, -2, -1))
        expected = truth.diff(dim=-1).abs().mean(dim=(-3, -2, -1))
        return (contrast / expected.clamp(min=1e-6)).clamp(max=self.most)
'''
MY_YAML = """
model:
  metrics:
    - {class_path: my_parts.Sharpness, init_args: {most: 2.0}}
"""
# The same without arguments: metrics: [my_parts.Sharpness]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The configuration that names the metric; its file is where Python looks."""
    (tmp_path / "my_parts.py").write_text(MY_PARTS)
    (tmp_path / "mine.yaml").write_text(MY_YAML)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    return tmp_path / "mine.yaml"


def sharpness(prediction, truth):
    """In plain loops over views, pictures as nested lists of numpy."""
    values = []
    for image, other in zip(prediction.numpy(), truth.numpy(), strict=True):
        mine, theirs = (abs(x[..., 1:] - x[..., :-1]).mean() for x in (image, other))
        values.append(min(mine / theirs, 2.0))
    return values


def scalar_tags(run_dir):
    tags = {}
    for file in (run_dir / "logs").rglob("events*"):
        events = EventAccumulator(str(file)).Reload()
        tags |= {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}
    return tags


def test_every_command_knows_a_metric_of_ones_own(program, own, tmp_path, capsys):
    assert len(MY_PARTS.strip().splitlines()) < 40
    best = ["--best_checkpoint.monitor=val/sharpness", "--trainer.max_steps=1"]
    run = ["--config", own]
    assert program("fit", *run, *best, "--trainer.val_check_interval=1") == 0, program.err
    assert scalar_tags(program.run_dir).keys() >= {"val/psnr", "val/ssim", "val/sharpness"}
    assert list((program.run_dir / "checkpoints").glob("best-*.ckpt"))

    shown = "--trainer.enable_progress_bar=true"
    assert program("validate", *run, "--ckpt_path=last", shown) == 0, program.err
    assert "Sharpness 0." in program.out and "val/sharpness" in program.out
    for folder, far in (("near", 5), ("far", 50)):
        settings = [f"--results.folder={folder}", f"--data.far={far}", "--results.baselines=true"]
        assert program("test", *run, "--ckpt_path=last", *settings) == 0, program.err
    assert "Sharpness ↑" in program.out
    scores = json.loads((program.run_dir / "near/scores.json").read_text())
    assert scores["metrics"]["sharpness"] == {
        "heading": "Sharpness", "digits": 3, "better": "higher", "unit": "",
    }  # fmt: skip
    assert set(scores["mean"]["mean_color"]) == {"psnr", "ssim", "sharpness"}
    assert "metrics" not in scores["scenes"][next(iter(scores["scenes"]))], "told once"
    with (program.run_dir / "near/scores.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["scene", "method", "frame", "psnr", "ssim", "lpips", "sharpness"]
    of_model = [float(x["sharpness"]) for x in lines if x["method"] == "model"]
    assert sum(of_model) / len(of_model) == pytest.approx(scores["mean"]["model"]["sharpness"])
    assert scalar_tags(program.run_dir)["test/sharpness"] > 0

    # Whoever compares need not have the metric's code.
    own.with_name("my_parts.py").unlink()
    runs = [program.run_dir / name for name in ("near", "far")]
    out = tmp_path / "comparison"
    options = ["--output", out, "--metric=sharpness", "--pictures=1"]
    assert program("compare", *runs, *options, config=False) == 0, program.err
    assert "Sharpness ↑" in program.out and "differ most in Sharpness" in program.out
    assert (out / "comparison.csv").read_text().count(",sharpness,") == 3
    found = json.loads((out / "comparison.json").read_text())["differences"]["far"]["sharpness"]
    gained = [value > 0 for value in found["scenes"].values()]
    assert found["better"] == sum(gained) and len(list(out.glob("01_*.png"))) == 1


def test_the_value_is_the_metrics_own(own):
    from my_parts import Sharpness

    model = ToyModel()
    with torch.no_grad():
        batch = make_batch(1)
        color = model.render(model.encoder(batch.context), batch.target).color[0].clamp(0, 1)
    expected = sharpness(color, batch.target.image[0])
    results = evaluate(model, [batch], metrics=[Sharpness(most=2.0)])
    views = results[0]["scores"]["model"]["views"]
    assert [view["sharpness"] for view in views] == pytest.approx(expected, rel=1e-5)
    assert mean_scores(results)["model"]["sharpness"] == pytest.approx(sum(expected) / 3, rel=1e-5)
    batch_scores = score_batch(batch, {"model": Prediction(color[None])}, metrics=[Sharpness(2.0)])
    assert batch_scores[0]["scores"]["model"]["views"] == views
    # The model's own are taken where none are named.
    named = evaluate(ToyModel((Sharpness(most=2.0),)), [batch])
    assert named[0]["scores"]["model"]["mean"].keys() >= {"sharpness", "abs_rel"}


def test_results_of_ones_own_survive_their_file(own, tmp_path):
    from my_parts import Sharpness

    results = evaluate(ToyModel(), [make_batch(n) for n in range(2)], metrics=[Sharpness()])
    save_results(Results(results), tmp_path / "a" / "scores.json")
    loaded = load_results(tmp_path / "a")
    assert loaded.scenes == results
    save_results(loaded, tmp_path / "b" / "scores.json")
    assert load_results(tmp_path / "b").scenes == results


class Toy(Metric):
    """A metric whose scores a test chooses."""

    name, heading, better = "toy", "Toy", "lower"

    def __init__(self, score):
        self.function = score

    def score(self, prediction, truth):
        return self.function(prediction)


def zeros(prediction):
    return torch.zeros(prediction.shape[:2])


def nan_for(frame):
    def score(prediction):
        return torch.where(torch.arange(3) == frame, torch.nan, zeros(prediction))

    return score


BAD = [
    (lambda x: zeros(x)[0], r"gave \[3\], expected a tensor of shape \[1, 3\] \(scenes, views\)"),
    (lambda x: 0.5, r"gave a float, expected a tensor of shape \[1, 3\]"),
    (nan_for(1), "gave nan for view 1, expected a finite number"),
    (lambda x: zeros(x) / 0 + math.inf, "gave nan for view 0"),
    (lambda x: [][1], r"raised IndexError: list index out of range \(test_own_metric.py, line"),
]


@pytest.mark.parametrize(("score", "message"), BAD)
def test_a_bad_metric_is_named_and_costs_no_other_score(make_trainer, tmp_path, score, message):
    good = evaluate(ToyModel(), [make_batch(n) for n in range(2)])
    trainer = make_trainer(TestResults())
    with pytest.raises(ValueError, match=rf"toy \(test_own_metric.Toy\): it {message}") as error:
        trainer.test(ToyModel((Toy(score),)), make_loader(range(2)), verbose=False)
    assert "failed in scene/0, scene/1" in str(error.value) and "other scores" in str(error.value)
    results = load_results(tmp_path)
    assert [r["scores"] for r in results.scenes] == [r["scores"] for r in good]
    assert not results.complete and "toy" in results.missing()
    with pytest.warns(UserWarning, match=rf"toy .*: it {message}"):
        found = evaluate(ToyModel(), [make_batch(0)], metrics=[Toy(score)])
    assert found[0]["scores"] == good[0]["scores"]


def test_a_metric_that_fails_in_one_scene_keeps_its_others(make_trainer, tmp_path):
    bright = make_batch(1).context.image[:, :1].max()

    def score(prediction):
        return zeros(prediction) + (math.inf if prediction.max() == bright else 0.0)

    trainer = make_trainer(TestResults(baselines=True))
    with pytest.raises(ValueError, match="it failed in scene/1\n"):
        trainer.test(ToyModel((Toy(score),)), make_loader(range(3)), verbose=False)
    scores = json.loads((tmp_path / "test/scores.json").read_text())
    assert scores["mean"]["model"]["toy"] == 0
    has = {name: "toy" in s["scores"]["model"]["mean"] for name, s in scores["scenes"].items()}
    assert has == {"scene/0": True, "scene/1": False, "scene/2": True}
    assert all("psnr" in s["scores"]["model"]["mean"] for s in scores["scenes"].values())


class Ended(Callback):
    """An error after the first scene."""

    def on_test_batch_end(self, *_):
        raise ZeroDivisionError("elsewhere")


def test_an_interrupted_test_still_describes_its_metrics(make_trainer, tmp_path):
    trainer = make_trainer(TestResults(), Ended())
    with pytest.raises(ZeroDivisionError):
        trainer.test(ToyModel((Toy(zeros),)), make_loader(range(3)), verbose=False)
    results = load_results(tmp_path)
    assert results.interrupted and len(results.scenes) == 1
    assert "Toy ↓" in shown(results_table(results.scenes))


def test_a_test_measures_every_view_once(program, tmp_path, monkeypatch):
    """For the log and for the files together."""
    (tmp_path / "counting_parts.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(tmp_path)
    assert program("fit", "--trainer.max_steps=1", "--trainer.limit_val_batches=0") == 0
    own = "--model.metrics=[counting_parts.Calls]"
    assert program("test", own, "--ckpt_path=last", "--results.pictures=[]") == 0, program.err
    scores = json.loads((program.run_dir / "test/scores.json").read_text())["scenes"]
    calls = [scene["scores"]["model"]["mean"]["calls"] for scene in scores.values()]
    assert sorted(calls) == [1, 2, 3]


COUNTING = """
from mvsplat.evaluation import Metric


class Calls(Metric):
    name, heading, better = "calls", "Calls", "lower"
    calls = 0

    def score(self, prediction, truth):
        self.calls += 1
        return prediction.new_full(prediction.shape[:2], self.calls)
"""


def test_broken_pictures_are_not_the_metrics_fault():
    model = ToyModel()
    torch.nn.init.constant_(model.encoder.brightness, torch.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = evaluate(model, [make_batch(0)], metrics=[Toy(lambda x: x.mean((2, 3, 4)))])
    mean = mean_scores(results)["model"]
    assert math.isnan(mean["toy"]) and math.isnan(mean["psnr"])


def test_a_broken_view_breaks_its_scenes_mean_and_an_unknown_depth_does_not():
    batch = make_batch(0)
    color = batch.target.image.clone()
    color[:, 1] = torch.nan
    depth = batch.context.depth + 1
    batch.context.depth[:, 1] = torch.nan
    scores = score_views(ToyModel().metrics, Prediction(color, depth), batch)
    assert scores["psnr"].means.isnan().all() and scores["psnr"].known.all()
    assert scores["abs_rel"].means.isfinite().all() and scores["abs_rel"].known.all()
    assert not any(of_metric.failures for of_metric in scores.values())


def test_scores_are_measured_in_float32_whatever_the_model_runs_in(make_trainer, tmp_path):
    """A matrix product, which autocast would round to three digits."""

    def product(prediction):
        rows = prediction.flatten(2)
        return (rows @ rows.mT).diagonal(dim1=-2, dim2=-1).sqrt()

    class Precise(ToyModel):
        def test_step(self, batch, batch_idx):
            outputs = super().test_step(batch, batch_idx)
            prediction = model_prediction(outputs["gaussians"], outputs["rendering"])
            return outputs | {"scores": score_views(self.metrics, prediction, batch)}

    trainer = make_trainer(TestResults(), precision="bf16-mixed")
    trainer.test(Precise((Toy(product),)), make_loader(range(1)), verbose=False)
    found = load_results(tmp_path).scenes[0]["scores"]["model"]["views"][0]["toy"]
    batch, model = make_batch(0), ToyModel()
    with torch.no_grad():
        color = model.render(model.encoder(batch.context), batch.target).color[0, 0]
    assert found == pytest.approx(float(color.clamp(0, 1).double().norm()), rel=1e-5)


class NearError(Metric):
    """Largest error of the depth of what is nearer than 2."""

    name, heading, better, needs_depth = "near_error", "NearError", "lower", True

    def score(self, prediction, truth):
        error = torch.where(truth < 2, (prediction - truth).abs(), -1).amax(dim=(-2, -1))
        return torch.where(error < 0, torch.nan, error)


def test_a_metric_of_depth_is_measured_where_depth_is():
    near = make_batch(0)
    expected = max(float((2 - d[d < 2]).abs().max()) for d in near.context.depth[0, :1])
    near.context.depth[:, 1] = 3  # nothing to measure in the second view
    without = make_batch(1, depth=False)
    results = evaluate(ToyModel(), [near, without], metrics=[NearError()])
    means = [result["scores"]["model"]["mean"] for result in results]
    assert means[0]["near_error"] == pytest.approx(expected) and "near_error" not in means[1]
    assert "near_error" not in results[0]["scores"]["model"]["views"][0]


BROKEN = """
from mvsplat.evaluation import Metric


class Broken(Metric):
    name, heading, better = "broken", "Broken", "lower"

    def score(self, prediction, truth):
        return prediction.mean()
"""


def test_a_bad_metric_in_validation(program, tmp_path, tiny_config, monkeypatch):
    """Said before training begins; once it goes on, it is not ended."""
    (tmp_path / "broken_parts.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    named = ["--model.metrics=[broken_parts.Broken]", "--trainer.max_steps=1"]
    message = r"error: the metric broken (broken_parts.Broken): it gave [], expected a tensor"
    assert program("fit", *named, "--trainer.num_sanity_val_steps=1") == 2
    assert program.err.splitlines()[-1].startswith(message)

    with pytest.warns(UserWarning, match="the metric broken .* it gave"):
        start = ["fit", "--config", str(tiny_config), f"--run_dir={program.run_dir}"]
        start += [f"--data.source.root={program.scenes}", "--trainer.val_check_interval=1"]
        assert main([*start, *named]) == 0
    assert program.checkpoint().is_file()
    tags = scalar_tags(program.run_dir)
    assert "val/psnr" in tags and "val/broken" not in tags

    assert program("validate", *named[:1], "--ckpt_path=last") == 2
    assert program.err.splitlines()[-1].startswith(message)
    assert program("test", *named[:1], "--ckpt_path=last") == 2
    assert "the metric broken (broken_parts.Broken): it gave []" in program.err
    assert "Mean over 3 scenes (incomplete)" in program.out
    assert "INCOMPLETE: the metric broken" in program.out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "psnr"}, "two metrics are named 'psnr'"),
        ({"name": "lpips"}, "two metrics are named 'lpips'"),
        ({"name": "a/b"}, "has the name 'a/b'; expected a word"),
        ({"name": "frame"}, "has the name 'frame'"),
        ({"better": "more"}, "better is 'more'; expected 'higher' or 'lower'"),
        ({"better": None}, "better is None"),
        ({"digits": -1}, "digits is -1; expected an integer"),
        ({"digits": True}, "digits is True"),
        ({"heading": ""}, "heading is empty"),
        ({"heading": 3}, "heading is 3; expected text"),
    ],
)
def test_a_metric_that_cannot_be_shown_is_refused(changes, message):
    kind = type("Odd", (Toy,), changes)
    with pytest.raises(ValueError, match=message) as error:
        evaluate(ToyModel(), [], metrics=[kind(zeros)])
    assert "Odd" in str(error.value)


def test_a_metric_that_says_nothing_of_itself_is_refused():
    kind = type("Silent", (Metric,), {"score": lambda *_: None})
    with pytest.raises(ValueError, match="Silent.* does not say its name, heading, better"):
        evaluate(ToyModel(), [], metrics=[kind()])


def test_a_metric_twice_is_refused(program):
    assert program("fit", "--model.metrics=[PSNR]") == 2
    assert "two metrics are named 'psnr'" in program.err


def make_runs(**more):
    """Two runs' results with a score that nobody knows."""
    return {name: Results([make_result("a", 20.0, odd=value), make_result("b", 21.0, odd=value)])
            for name, value in (("x", 1.0), ("y", 3.0))}  # fmt: skip


def described(runs, **of_runs):
    for name, better in of_runs.items():
        for result in runs[name].scenes:
            result["metrics"] = {"odd": {"heading": "Oddness", "digits": 1, "better": better}}
    return runs


def shown(table):
    console = Console(width=120, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_scores_that_nobody_knows_are_compared_without_a_verdict(tmp_path, program):
    runs = make_runs()
    comparison = compare(runs)
    odd = comparison.differences["y"]["odd"]
    assert odd.mean == 2.0 and odd.better is None and odd.worse is None
    table = shown(means_table(comparison))
    assert "which is?" in table and "odd" in table and "odd ↑" not in table and "odd ↓" not in table
    assert "\x1b[1m1.0000" not in shown(results_table(runs["x"].scenes))
    folders = []
    for name, run in runs.items():
        save_results(run, tmp_path / name / "scores.json")
        content = json.loads((tmp_path / name / "scores.json").read_text())
        del content["metrics"]  # as files were before
        (tmp_path / name / "scores.json").write_text(json.dumps(content))
        folders.append(tmp_path / name)
    assert program("compare", *folders, "--output", tmp_path / "out", config=False) == 0, (
        program.err
    )
    assert "odd: which way is better is not known" in program.out
    written = json.loads((tmp_path / "out/comparison.json").read_text())
    assert written["differences"]["y"]["odd"]["better"] is None
    assert written["metrics"]["odd"]["better"] is None
    assert written["metrics"]["psnr"]["better"] == "higher"


@pytest.mark.parametrize(
    ("of_runs", "verdict"),
    [
        ({"x": "higher", "y": "higher"}, (2, 0)),
        ({"x": "lower", "y": "lower"}, (0, 2)),
        ({"y": "lower"}, (0, 2)),
        ({"x": None, "y": "higher"}, (2, 0)),
        ({"x": "lower", "y": "higher"}, (None, None)),
    ],
)
def test_the_verdict_is_what_the_runs_agree_on(of_runs, verdict):
    comparison = compare(described(make_runs(), **of_runs))
    odd = comparison.differences["y"]["odd"]
    assert (odd.better, odd.worse) == verdict
    assert comparison.metrics["odd"].heading == "Oddness"


@pytest.mark.parametrize("content", [{"odd": {"heading": 3}}, {"odd": {"x": 1}}, {"odd": 1}, [1]])
def test_a_damaged_description_is_a_damaged_file(tmp_path, content):
    save_results(make_runs()["x"], tmp_path / "scores.json")
    whole = json.loads((tmp_path / "scores.json").read_text())
    (tmp_path / "scores.json").write_text(json.dumps(whole | {"metrics": content}))
    with pytest.raises(ValueError, match="does not hold the results of a test"):
        load_results(tmp_path)


def test_the_packages_own_metrics_have_their_headings():
    assert METRICS == {
        "psnr": "PSNR ↑", "ssim": "SSIM ↑", "lpips": "LPIPS ↓", "abs_rel": "AbsRel ↓",
    }  # fmt: skip
