"""``scores.json`` of one scene: photographs left out, before and after refinement."""

import json

import pytest

from mvsplat.__main__ import main
from mvsplat.evaluation import compare, load_results
from mvsplat.evaluation.photo_scores import PhotoScores, save_photo_scores


def scores(*psnr, width=64):
    return {
        f"IMG_{number}.jpg": PhotoScores({"psnr": value, "ssim": value / 100}, width, 48)
        for number, value in enumerate(psnr)
    }


def folder(tmp_path, name, before, after=None, kept=False):
    save_photo_scores(before, after, kept, tmp_path / name / "scores.json")
    return tmp_path / name


def test_the_file_has_means_over_photos_before_and_after(tmp_path):
    path = folder(tmp_path, "a", scores(10.0, 20.0), scores(12.0, 28.0), kept=True)
    content = json.loads((path / "scores.json").read_text())
    assert content.keys() == {"before", "after", "kept"} and content["kept"] is True
    assert content["before"]["psnr"] == 15 and content["after"]["psnr"] == 20
    assert content["after"]["ssim"] == pytest.approx(0.2)
    assert content["after"]["photos"]["IMG_1.jpg"]["psnr"] == 28
    size = {name: content["before"]["photos"]["IMG_0.jpg"][name] for name in ("width", "height")}
    assert size == {"width": 64, "height": 48}


def test_without_refinement_or_photos_left_out_there_is_null(tmp_path):
    off = json.loads((folder(tmp_path, "off", scores(10.0)) / "scores.json").read_text())
    assert off["before"]["psnr"] == 10 and off["after"] is None and off["kept"] is False
    none = folder(tmp_path, "none", {}, {}, kept=True)
    content = json.loads((none / "scores.json").read_text())
    assert content["before"] is None and content["after"] is None
    with pytest.raises(ValueError, match="made from all photos.*--held_out"):
        load_results(none)


def test_results_are_those_of_the_scene_that_was_written(tmp_path):
    kept = load_results(folder(tmp_path, "kept", scores(10.0, 20.0), scores(12.0, 28.0), kept=True))
    assert kept.mean["model"]["psnr"] == 20 and kept.mean["prediction"]["psnr"] == 15
    off = load_results(folder(tmp_path, "off", scores(10.0, 20.0)))
    assert off.mean["model"]["psnr"] == 15
    difference = compare({"off": off, "on": kept}).differences["on"]["psnr"]
    assert difference.scenes == {"IMG_0.jpg": 2, "IMG_1.jpg": 8}


def test_scores_of_different_sizes_are_not_compared(tmp_path):
    runs = {
        name: load_results(folder(tmp_path, name, scores(10.0, width=width)))
        for name, width in (("small", 64), ("large", 128))
    }
    with pytest.raises(ValueError, match=r"64 x 48 in small and at 128 x 48 in large.*refine_size"):
        compare(runs)


def test_damaged_scores_are_named(tmp_path):
    path = folder(tmp_path, "a", scores(10.0)) / "scores.json"
    path.write_text(json.dumps({"before": {"photos": {"x": 3}}, "after": None, "kept": False}))
    with pytest.raises(ValueError, match="scores.json does not hold"):
        load_results(path)


def test_the_command_compares_two_scenes_of_the_same_photos(tmp_path, capsys):
    off = folder(tmp_path, "off", scores(10.0, 20.0))
    on = folder(tmp_path, "on", scores(10.0, 20.0), scores(12.0, 28.0), kept=True)
    out = tmp_path / "out"
    assert main(["compare", str(off), str(on), "--output", str(out), "--resamples=50"]) == 0
    assert "IMG_1.jpg" in capsys.readouterr().out and (out / "comparison.csv").is_file()
