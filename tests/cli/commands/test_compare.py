"""``mvsplat compare`` on results of real runs."""

import json

import pytest

from mvsplat.__main__ import main


@pytest.fixture(scope="module")
def runs(tmp_path_factory, scenes_root, tiny_config):
    """A model tested with two bounds of depth: the folders near and far."""
    folder = tmp_path_factory.mktemp("runs")
    start = ["--config", str(tiny_config), "--data.source.root", str(scenes_root)]
    start += ["--run_dir", str(folder)]
    assert main(["fit", *start, "--trainer.max_steps=1", "--trainer.limit_val_batches=0"]) == 0
    for name, depth in (("near", "5"), ("far", "50")):
        settings = [f"--data.far={depth}", f"--results.folder={name}"]
        assert main(["test", *start, "--ckpt_path=last", *settings]) == 0
    return folder


def test_compare_prints_tables_and_writes_files(runs, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [str(runs / "near"), str(runs / "far" / "scores.json"), "--output", str(out)]
    assert main(["compare", *arguments, "--pictures=2", "--resamples=100"]) == 0
    printed = capsys.readouterr().out
    assert "3 scenes; differences from near" in printed and "PSNR" in printed
    content = json.loads((out / "comparison.json").read_text())
    assert list(content["mean"]) == ["near", "far/scores.json"] and content["scenes"] == 3
    scores = [json.loads((runs / name / "scores.json").read_text()) for name in ("near", "far")]
    change = scores[1]["mean"]["model"]["psnr"] - scores[0]["mean"]["model"]["psnr"]
    assert content["differences"]["far/scores.json"]["psnr"]["mean"] == pytest.approx(change)
    assert len(list(out.glob("0*.png"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "runs"),
        (["near"], "at least two"),
        (["near", "near"], "given twice"),
        (["near", "absent"], "there is no run"),
        (["near", "empty"], "has no results"),
        (["near", "far", "--metric=lpips"], "no lpips scores"),
        (["near", "far", "--metrik=psnr"], "metrik"),
        (["near", "far", "--confidence=2"], "confidence is 2"),
    ],
)
def test_mistakes_are_short_errors(runs, tmp_path, capsys, monkeypatch, arguments, message):
    (runs / "empty").mkdir(exist_ok=True)
    monkeypatch.chdir(runs)
    try:
        code = main(["compare", "--output", str(tmp_path / "out"), *arguments])
    except SystemExit as exit:
        code = exit.code
    error = capsys.readouterr().err
    assert code == 2 and error.startswith("error: ") and message in error
    assert len(error.splitlines()) <= 5
