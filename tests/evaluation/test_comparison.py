"""Comparisons of runs: intervals against closed forms and scipy, what may be compared, files."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from scipy import stats
from test_evaluation import make_result

from mvsplat.evaluation import Results, compare, paired_bootstrap, save_results
from mvsplat.evaluation.comparison_files import (
    means_table,
    save_comparison,
    save_pictures,
    scenes_table,
)
from mvsplat.export import save_png


def make_run(scores: dict[str, float], folder=None, **more) -> Results:
    scenes = [make_result(scene, value, **more) for scene, value in scores.items()]
    return Results(scenes, folder=folder) if folder else Results(scenes)


def test_the_interval_is_the_normal_one_for_many_normal_differences():
    differences = np.random.default_rng(5).normal(0.3, 2.0, 2000)
    low, high = paired_bootstrap(differences, resamples=20_000)
    half = 1.959964 * differences.std() / math.sqrt(2000)
    assert low == pytest.approx(differences.mean() - half, abs=0.04 * half)
    assert high == pytest.approx(differences.mean() + half, abs=0.04 * half)


def test_the_interval_is_scipys():
    differences = np.random.default_rng(6).exponential(1.0, 25) - 0.4
    expected = stats.bootstrap(
        (differences,), np.mean, n_resamples=20_000, method="percentile",
        confidence_level=0.9, random_state=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    found = paired_bootstrap(differences, confidence=0.9, resamples=20_000)
    width = expected.high - expected.low
    assert found == pytest.approx((expected.low, expected.high), abs=0.03 * width)


def test_the_interval_of_two_scenes_is_exact():
    # The mean of two draws from {0, 1} is 0, 1/2 or 1 with probabilities 1/4, 1/2, 1/4.
    assert paired_bootstrap(np.array([0.0, 1.0]), confidence=0.6) == (0.0, 1.0)
    assert paired_bootstrap(np.array([0.0, 1.0]), confidence=0.4) == (0.5, 0.5)


def test_a_seed_repeats_the_interval_and_one_scene_has_none():
    differences = np.random.default_rng(0).normal(size=7)
    assert paired_bootstrap(differences, seed=3) == paired_bootstrap(differences, seed=3)
    assert paired_bootstrap(differences, seed=3) != paired_bootstrap(differences, seed=4)
    assert all(math.isnan(end) for end in paired_bootstrap(differences[:1]))


def test_many_scenes_are_drawn_in_parts(monkeypatch):
    differences = np.random.default_rng(0).normal(size=50)
    whole = paired_bootstrap(differences, resamples=100)
    monkeypatch.setattr("mvsplat.evaluation.comparison.NUMBERS_AT_A_TIME", 170)
    assert paired_bootstrap(differences, resamples=100) == whole


def test_differences_are_paired_by_scene():
    first = make_run({"a": 10.0, "b": 20.0, "c": 30.0}, ssim=0.5)
    second = make_run({"c": 31.0, "a": 12.0, "b": 19.5}, ssim=0.5, lpips=0.1)
    comparison = compare({"first": first, "second": second})
    assert comparison.scenes == ["a", "b", "c"]
    psnr = comparison.differences["second"]["psnr"]
    assert psnr.scenes == {"a": 2.0, "b": -0.5, "c": 1.0}
    assert psnr.mean == pytest.approx(2.5 / 3) and (psnr.better, psnr.worse) == (2, 1)
    assert psnr.low < psnr.mean < psnr.high and not psnr.sure
    ssim = comparison.differences["second"]["ssim"]
    assert (ssim.low, ssim.high, ssim.better, ssim.worse) == (0, 0, 0, 0)
    assert "lpips" not in comparison.differences["second"], "the first has none"
    assert comparison.means["second"]["lpips"] == pytest.approx(0.1)
    assert comparison.most_different() == ["a", "c", "b"]


def test_smaller_distances_are_better():
    run, other = (make_run({"a": 1.0, "b": 1.0}, lpips=value) for value in (0.3, 0.2))
    lpips = compare({"run": run, "other": other}).differences["other"]["lpips"]
    assert lpips.mean == pytest.approx(-0.1) and (lpips.better, lpips.worse) == (2, 0)
    assert lpips.sure


def test_broken_scores_are_left_out():
    first, second = make_run({"a": 10.0, "b": math.nan}), make_run({"a": 11.0, "b": 5.0})
    comparison = compare({"first": first, "second": second})
    assert comparison.differences["second"]["psnr"].scenes == {"a": 1.0}
    assert comparison.most_different() == ["a"]


def test_different_scenes_are_refused_unless_common_ones_will_do():
    first, second = make_run({"a": 1.0, "b": 2.0, "c": 3.0}), make_run({"b": 2.5, "c": 3.0})
    with pytest.raises(ValueError, match=r"3 scenes and second on 2.*'a' is in first but not in"):
        compare({"first": first, "second": second})
    assert compare({"first": first, "second": second}, common=True).scenes == ["b", "c"]
    with pytest.raises(ValueError, match="no test scene in common"):
        compare({"first": first, "other": make_run({"z": 1.0})}, common=True)


def test_different_views_are_refused():
    first, second = make_run({"a": 1.0}), make_run({"a": 1.0}, target=(3,))
    with pytest.raises(ValueError, match=r"'a' was tested on different views: .*target frames \[2"):
        compare({"first": first, "second": second})


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"confidence": 1.0}, "confidence is 1.0"), ({"resamples": 0}, "resamples 0")],
)
def test_impossible_settings_are_refused(settings, message):
    run = make_run({"a": 1.0})
    with pytest.raises(ValueError, match=message):
        compare({"first": run, "second": run}, **settings)
    with pytest.raises(ValueError, match="at least two"):
        compare({"first": run})


def test_missing_scores_are_named():
    run = make_run({"a": 1.0})
    with pytest.raises(ValueError, match="x has no lpips scores"):
        compare({"x": run, "y": run}).most_different("lpips")


def test_tables_show_means_differences_and_scenes():
    scores = {f"scene{i}": 20.0 + i for i in range(6)}
    runs = {"old": make_run(scores), "new": make_run({s: v + 0.5 for s, v in scores.items()})}
    comparison = compare(runs | {"same": runs["old"]})
    console = Console(width=100, record=True)
    with console.capture() as capture:
        console.print(means_table(comparison))
        console.print(scenes_table(comparison, count=2))
    text = capture.get()
    for expected in ("22.50", "23.00", "+0.50", "+0.50 to +0.50", "6 / 0", "0 / 0", "scene1"):
        assert expected in text
    assert "scene2" not in text


def test_files_hold_every_scene(tmp_path):
    first, second = make_run({"a": 10.0, "b": 20.0}), make_run({"a": 10.5, "b": math.nan})
    save_comparison(compare({"x": first, "y": second}), tmp_path)
    rows = list(csv.DictReader((tmp_path / "comparison.csv").open()))
    assert [(r["scene"], r["metric"], r["x"], r["y - x"]) for r in rows] == [
        ("a", "psnr", "10.0", "0.5"),
        ("b", "psnr", "20.0", ""),
    ]
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["differences"]["y"]["psnr"]["mean"] == 0.5
    assert content["differences"]["y"]["psnr"]["low"] is None


def make_run_with_pictures(folder, scores: dict[str, float], brightness: float) -> Results:
    run = make_run(scores, folder)
    for result in run.scenes:
        result["files"] = {"images": f"images/{result['scene']}"}
        images = folder / "images" / result["scene"]
        save_png(torch.full((3, 32, 32), brightness), images / "000002.png")
        save_png(torch.full((3, 32, 32), 0.5), images / "000002_target.png")
    return run


def test_pictures_of_the_scenes_that_differ_most(tmp_path):
    first = make_run_with_pictures(tmp_path / "a", {"a": 10.0, "b": 20.0, "c": 9.0}, 0.25)
    second = make_run_with_pictures(tmp_path / "b", {"a": 15.0, "b": 20.5, "c": 12.0}, 0.75)
    (tmp_path / "b" / "images" / "a" / "000002.png").write_bytes(b"damaged")
    files = save_pictures(compare({"x": first, "y": second}), tmp_path / "out", count=1)
    assert [file.name for file in files] == ["01_c.png"], "a differs more, but has no picture"
    page = np.asarray(Image.open(files[0]))
    for grey in (64, 128, 191):
        assert (page == grey).all(-1).sum() >= 160 * 160
    # Both errors are 0.25, half way up the colour map.
    middle = np.array([0xB7, 0x37, 0x79])
    assert (np.abs(page.astype(int) - middle) <= 4).all(-1).sum() == 2 * 160 * 160


def test_runs_without_pictures_give_none(tmp_path):
    run = make_run({"a": 1.0}, tmp_path)
    save_results(run, tmp_path / "scores.json")
    assert save_pictures(compare({"x": run, "y": run}), tmp_path / "out") == []
