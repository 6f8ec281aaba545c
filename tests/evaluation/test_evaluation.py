"""Means, merging and tables of results."""

import json
import math

import pytest
from rich.console import Console

from mvsplat.evaluation import (
    Results,
    extreme_scenes,
    groups,
    load_results,
    mean_scores,
    median_timing,
    merge,
    results_table,
    save_results,
)


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
    lowest, highest = ([r["scene"] for r in found] for found in extreme_scenes(results))
    assert len(lowest) == len(highest) == len({*lowest, *highest}) // 2 == min(3, count // 2)
    if count == 7:
        assert (lowest, highest) == (["scene0", "scene1", "scene2"], ["scene6", "scene5", "scene4"])


def test_a_broken_scene_is_the_worst():
    results = [make_result("a", 3.0), make_result("b", float("nan")), make_result("c", 4.0)]
    assert [[r["scene"] for r in found] for found in extreme_scenes(results)] == [["b"], ["c"]]


def test_groups_by_tier_overlap_and_distance():
    overlaps = {"a": 0.9, "b": 0.2, "c": 0.85, "d": 1.0}
    results = [
        make_result(scene, 20.0 + number, context=(3, 3 + 20 * number)) | {"overlap": overlap}
        for number, (scene, overlap) in enumerate(overlaps.items())
    ]
    found = groups(results)
    assert {kind: {label: [r["scene"] for r in rs] for label, rs in of.items()} for kind, of in
            found.items()} == {
        "frame distance": {"0 to 25": ["a", "b"], "26 to 50": ["c"], "51 to 100": ["d"]},
        "overlap": {"80 to 100 %": ["a", "c", "d"], "20 to 40 %": ["b"]},
    }  # fmt: skip
    for result in results:
        result["tier"] = "wide" if result["scene"] == "b" else "narrow"
    assert list(groups(results)) == ["frame distance", "tier"]
    assert list(groups(results)["tier"]) == ["narrow", "wide"], "much overlap first"
    assert groups(results[:1]) == {}, "a single group says nothing"


def test_results_survive_their_file(tmp_path):
    results = [
        make_result("b/1", 20.0) | {"overlap": 0.5, "tier": "small"},
        make_result("a", float("nan"), context=(0, 99)),
    ]
    save_results(Results(results, {"precision": "32"}), tmp_path / "run" / "test" / "scores.json")
    for name in ("run", "run/test", "run/test/scores.json"):
        loaded = load_results(tmp_path / name)
        assert loaded.folder == tmp_path / "run" / "test" and loaded.settings["precision"] == "32"
        assert loaded.scenes[0] == results[0]
        assert math.isnan(loaded.scenes[1]["scores"]["model"]["views"][0]["psnr"])
    content = json.loads((tmp_path / "run" / "test" / "scores.json").read_text())
    by_distance = content["groups"]["frame distance"]
    assert by_distance["0 to 25"] == {"scenes": 1, "mean": {"model": {"psnr": 20.0}}}
    assert content["lowest_psnr"] == ["a"] and content["highest_psnr"] == ["b/1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no results: there is no test/scores.json"),
        (b"{", "damaged, or no JSON file"),
        (b"\xff\xfe", "damaged, or no JSON file"),
        (b"[1]", "does not hold the results of a test"),
        (b'{"scenes": {"a": {"scores": 3}}}', "does not hold the results of a test"),
        (b'{"scenes": {"a": {"scores": {}, "context": [0]}}}', "does not hold the results"),
    ],
)
def test_unusable_results_are_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "scores.json").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        load_results(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no run .*absent"):
        load_results(tmp_path / "absent")
