"""Means, merging and tables of results."""

import pytest
from rich.console import Console

from mvsplat.evaluation import extreme_scenes, mean_scores, median_timing, merge, results_table


def make_result(scene: str, psnr: float, context=(0, 5), target=(2,), **more: float) -> dict:
    """A scene's result with a single score."""
    mean = {"psnr": psnr, **more}
    views = [{"frame": frame, **mean} for frame in target]
    return {
        "scene": scene,
        "context": list(context),
        "target": list(target),
        "scores": {"model": {"mean": mean, "views": views}},
    }


def test_merge_counts_repeated_scenes_once_and_keeps_other_frames():
    first = [make_result("b", 20.0), make_result("a", 10.0)]
    second = [make_result("a", 10.0), make_result("a", 30.0, target=(3,))]
    merged = merge([first, second])
    assert [(r["scene"], r["scores"]["model"]["mean"]["psnr"]) for r in merged] == [
        ("a", 10.0),
        ("a#2", 30.0),
        ("b", 20.0),
    ]


def test_means_are_over_scenes_that_have_the_score():
    results = [make_result("a", 10.0, abs_rel=0.5), make_result("b", 20.0)]
    assert mean_scores(results) == {"model": {"psnr": 15.0, "abs_rel": 0.5}}


def test_median_time_of_a_single_batch_is_its_own():
    timing = {"encoder_seconds": 2.0, "warm_up": True}
    assert median_timing([make_result("a", 1.0) | {"timing": timing}]) == {"encoder_seconds": 2.0}


def test_table_shows_the_best_in_bold():
    results = [make_result("a", 10.0, lpips=0.3)]
    results[0]["scores"]["mean_color"] = {"mean": {"psnr": 12.5, "lpips": 0.4}, "views": []}
    console = Console(width=100, force_terminal=True, color_system="standard", record=True)
    with console.capture() as capture:
        console.print(results_table(results))
    text = capture.get()
    assert "\x1b[1m12.50" in text and "\x1b[1m10.00" not in text
    assert "\x1b[1m0.300" in text and "\x1b[1m0.400" not in text


@pytest.mark.parametrize("count", [1, 2, 7])
def test_extreme_scenes_do_not_overlap(count):
    results = [make_result(f"scene{i}", float(i)) for i in range(count)]
    lines = extreme_scenes(results)
    named = [word for word in " ".join(lines).replace(",", " ").split() if word.startswith("scene")]
    assert len(named) == len(set(named)) == min(6, 2 * (count // 2))
    if count == 7:
        assert lines[0].startswith("lowest PSNR:  scene0 0.00 dB, scene1")
