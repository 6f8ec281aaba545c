"""A scene refined on its photographs: what is kept, scored, written and said."""

import json
import math
from dataclasses import replace

import pytest
import torch

import mvsplat
from mvsplat.evaluation import load_results
from mvsplat.export import load_cameras, load_ply
from mvsplat.reconstruction import refinement
from mvsplat.reconstruction.stages import ShownStages
from mvsplat.refinement.optimization import CurvePoint

BOUNDS = {"near": 1.0, "far": 10.0}
SMALL = {"refine_size": 64, "size": 32, **BOUNDS}
STEPS = 6


@pytest.fixture(scope="module")
def seen():
    """Names of the photographs that refinement looked at."""
    return []


@pytest.fixture(scope="module")
def scene(posed, checkpoint, seen):
    def optimise(gaussians, photographs, *rest, **options):
        seen.append([photograph.name for photograph in photographs])
        return original(gaussians, photographs, *rest, **options)

    def triangulate(photographs, *rest):
        seen.append([photograph.name for photograph in photographs])
        return originally(photographs, *rest)

    original, originally = refinement.optimise, refinement.triangulate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refinement, "optimise", optimise)
        patch.setattr(refinement, "triangulate", triangulate)
        return mvsplat.reconstruct(posed, checkpoint, refine_steps=STEPS, **SMALL)


@pytest.fixture(scope="module")
def saved(scene, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mvsplat.reconstruction.reconstructed.FRAMES_A_STRETCH", 2)
        return scene.save(tmp_path_factory.mktemp("out") / "scene")


def moved(result, near=1.0):
    """A result whose cameras were corrected: by a degree, and a hundredth of the near depth."""
    turn = math.radians(1.0)
    motion = torch.eye(4, dtype=torch.float64)
    motion[0, 0] = motion[2, 2] = math.cos(turn)
    motion[0, 2], motion[2, 0] = math.sin(turn), -math.sin(turn)
    motion[1, 3] = 0.01 * near
    return replace(result, extrinsics=result.extrinsics @ motion, kept=True)


def with_result(scene, result):
    """The same scene, as if refinement had come to something else."""
    changed = replace(scene.refinement, result=result)
    kept = scene.source, scene.context, scene.left_out, scene.bounds, scene.stages
    return mvsplat.Reconstruction(scene.before, *kept, changed)


def test_photos_held_out_are_never_looked_at(scene, seen):
    assert [photo.name for photo in scene.left_out] == ["3.png"]
    # By what triangulates points, and by what optimises.
    assert seen == [[photo.name for photo in scene.context]] * 2 and len(seen[0]) == 7
    assert "3.png" not in seen[0]


def test_scores_are_of_before_and_after_on_the_same_pixels(scene, posed, checkpoint):
    before, after = scene.scores.before[0], scene.scores.after[0]
    assert scene.scores.kept and scene.scores.final is scene.scores.after
    assert before.pixels.shape == after.pixels.shape == scene.left_out[0].pixels.shape
    off = mvsplat.reconstruct(posed, checkpoint, refine="off", **SMALL)
    assert off.refinement is None and off.scores.after is None and not off.scores.kept
    assert off.scores.before[0].values == before.values
    assert not torch.equal(before.pixels, after.pixels)


def test_the_splat_is_what_was_optimised_and_its_film_and_cameras_fit(scene, saved):
    written, refined = load_ply(saved / "scene.ply"), scene.refinement.result.gaussians
    for name in ("means", "scales", "harmonics", "opacities"):
        torch.testing.assert_close(getattr(written, name), getattr(refined, name))
    cameras = load_cameras(saved / "cameras.json")
    assert not cameras.dilated, "a viewer adds what the renderer added at the photos' size"
    assert {(frame.width, frame.height) for frame in cameras.frames} == {(64, 48)}
    assert scene.picture_size == (48, 64) and scene.gaussians_for((480, 640)) is scene.gaussians


def test_scores_json_is_as_documented_and_is_compared(scene, saved):
    content = json.loads((saved / "scores.json").read_text())
    assert content.keys() == {"before", "after", "kept"} and content["kept"] is True
    for name, scores in (("before", scene.scores.before), ("after", scene.scores.after)):
        assert content[name]["psnr"] == pytest.approx(scores[0].psnr)
        assert content[name]["photos"]["3.png"]["ssim"] == pytest.approx(scores[0].ssim)
    assert load_results(saved).mean["model"]["psnr"] == pytest.approx(scene.scores.after[0].psnr)


def test_the_report_shows_before_after_a_curve_and_what_was_done(scene, saved):
    page = (saved / "report.html").read_text()
    for text in (
        "<polyline",
        "before refinement",
        f"{STEPS} in ",
        "Scores before",
        "Scores after",
        "whole frames of 64 x 48 pixels",
        "the network&#x27;s prediction",
        "pycolmap",  # the points that it triangulated, or that it is not installed
    ):
        assert text in page, text


def test_the_same_seed_gives_the_same_bits(scene, posed, checkpoint):
    again = mvsplat.reconstruct(posed, checkpoint, refine_steps=STEPS, **SMALL)
    for name in ("means", "scales", "rotations", "harmonics", "opacities"):
        assert torch.equal(getattr(again.gaussians, name), getattr(scene.gaussians, name))


def test_what_is_not_better_is_not_kept(scene, tmp_path, quick):
    worse = with_result(scene, replace(scene.refinement.result, kept=False))
    assert worse.gaussians is scene.before.gaussians and not worse.is_refined
    assert worse.scores.after is worse.scores.before and not worse.scores.kept
    folder = worse.save(tmp_path / "scene")
    content = json.loads((folder / "scores.json").read_text())
    assert content["kept"] is False and content["after"] == content["before"]
    assert load_cameras(folder / "cameras.json").dilated
    assert "not better than before, and not kept" in (folder / "report.html").read_text()


def test_points_that_lead_nowhere_do_not_replace_the_scene_before(scene):
    """What judges the steps must look better than in the scene before, not than at the start."""
    photographs = [photo.photograph for photo in [*scene.context, *scene.context]]
    bounds, before = scene.bounds, scene.before
    result = scene.refinement.result
    for psnr, better in ((5.0, False), (90.0, True)):
        curve = [CurvePoint(0, 0.0, math.nan, 4.0)]
        curve += [CurvePoint(9, 1.0, 50.0, psnr)]
        judged = replace(result, curve=curve, best_step=9, kept=True)
        assert refinement._is_better(judged, before, photographs, bounds) is better


def test_corrected_cameras_are_written_and_told(scene, tmp_path, quick):
    corrected = with_result(scene, moved(scene.refinement.result))
    changes = [
        refinement.change_of_camera(photo, extrinsics)
        for photo, extrinsics in zip(
            scene.context, corrected.refinement.result.extrinsics, strict=True
        )
    ]
    assert changes[0].turn == pytest.approx(1.0) and changes[0].shift == pytest.approx(0.01)
    corrected.refinement = replace(corrected.refinement, cameras=changes)
    folder = corrected.save(tmp_path / "scene")
    cameras = {frame.name: frame for frame in load_cameras(folder / "cameras.json").frames}
    for photo, extrinsics in zip(
        scene.context, corrected.refinement.result.extrinsics, strict=True
    ):
        torch.testing.assert_close(cameras[photo.name].extrinsics, extrinsics.float())
    # Photos held out keep theirs.
    torch.testing.assert_close(cameras["3.png"].extrinsics, scene.left_out[0].extrinsics)
    assert (
        "corrected by 1 degrees and 1.00% of the near depth" in (folder / "report.html").read_text()
    )


def test_without_photos_held_out_nothing_is_scored(posed, checkpoint, tmp_path, quick):
    scene = mvsplat.reconstruct(
        posed, checkpoint, held_out=0, max_photos=2, refine_steps=1, **SMALL
    )
    assert len(scene.context) == 2 and scene.scores.before == []
    folder = scene.save(tmp_path / "scene")
    content = json.loads((folder / "scores.json").read_text())
    assert content["before"] is None and content["after"] is None
    assert "nothing was measured" in (folder / "report.html").read_text()
    with pytest.raises(ValueError, match="made from all photos"):
        load_results(folder)


def test_progress_is_told_with_psnr_and_time_left(monkeypatch, capsys):
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr("mvsplat.progress.time.monotonic", lambda: float(next(clock)))
    with ShownStages() as stages, stages.stage("Refining"):
        for step in range(1, 5):
            stages.update("Refining", step, 4, f"PSNR {20 + step:.2f} dB, {4 - step} s left")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Refining ..."
    assert "Refining: 2 of 4, PSNR 22.00 dB, 2 s left" in lines and len(lines) < 4


@pytest.fixture
def command(program, posed, checkpoint, tmp_path, quick):
    def call(*options):
        return program(
            "reconstruct", posed, "--checkpoint", checkpoint, "--output", tmp_path / "scene",
            "--refine_size", 64, "--near", 1, "--far", 10, "--photos", 3, *options, config=False,
        )  # fmt: skip

    call.folder = tmp_path / "scene"
    return call


def test_ctrl_c_ends_refinement_and_goes_on_to_the_outputs(command, program, monkeypatch):
    def interrupt(stages, cameras, progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(refinement, "_show", interrupt)
    assert command("--refine_steps", 50) == 0, program.err
    assert "interrupted after 2 steps" in program.out
    assert (command.folder / "report.html").is_file()
    assert "ended by Ctrl-C" in (command.folder / "report.html").read_text()


def test_the_command_says_how_it_was_refined_and_how_good_it_is(command, program):
    assert command("--refine_steps", 3, "--held_out", "[3.png, 5]") == 0, program.err
    for text in ("refined by 3 steps in ", "2 photos held out, at 64 x 48"):
        assert text in program.out
    assert "before refinement PSNR" in program.out and "Refining ..." in program.err
