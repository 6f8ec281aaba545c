"""From photographs to files, with a tiny model: the Python call and what it writes."""

import json
import re
import sys
from dataclasses import replace
from subprocess import run

import numpy as np
import pytest
import torch
from PIL import Image

import mvsplat
from mvsplat.export import load_cameras, load_depth_png, load_ply
from mvsplat.reconstruction.checkpoint import load_trained
from mvsplat.reconstruction.frames import as_views

# Of generated rooms; finding them takes longer than all else here.
BOUNDS = {"near": 1.0, "far": 10.0}
FILES = {"scene.ply", "cameras.json", "video.mp4", "report.html"}
PREDICTED = {"refine": "off", "refine_size": 128}


@pytest.fixture(scope="module")
def scene(posed, checkpoint):
    return mvsplat.reconstruct(posed, checkpoint, max_photos=2, held_out=3, **PREDICTED)


@pytest.fixture(scope="module")
def saved(scene, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mvsplat.reconstruction.reconstructed.FRAMES_A_STRETCH", 4)
        return scene.save(tmp_path_factory.mktemp("out") / "scene")


def test_the_gaussians_are_the_encoders_in_the_scenes_own_unit(posed, checkpoint, scene):
    """Scaling the cameras by seven scales the scene by seven, and changes no picture."""
    data = json.loads((posed / "transforms.json").read_text())
    for frame in data["frames"]:
        frame["file_path"] = str(posed / frame["file_path"])
        for row in frame["transform_matrix"][:3]:
            row[3] = 7 * row[3] + 40
    folder = posed.parent / "scaled"
    folder.mkdir(exist_ok=True)
    for frame in data["frames"]:
        name = frame["file_path"].rpartition("/")[2]
        (folder / name).write_bytes((posed / name).read_bytes())
        frame["file_path"] = name
    (folder / "transforms.json").write_text(json.dumps(data))
    large = mvsplat.reconstruct(folder, checkpoint, max_photos=2, held_out=3, **PREDICTED)
    assert [frame.name for frame in large.context] == [frame.name for frame in scene.context]
    assert large.bounds.near == pytest.approx(7 * scene.bounds.near, rel=1e-3)
    shift = (posed_center(large) - 7 * posed_center(scene))[None, None]
    torch.testing.assert_close(
        large.gaussians.means, 7 * scene.gaussians.means + shift, atol=0.05, rtol=0
    )
    torch.testing.assert_close(
        large.gaussians.scales, 7 * scene.gaussians.scales, atol=1e-3, rtol=1e-2
    )
    difference = large.scores.final[0].picture - scene.scores.final[0].picture
    assert float(difference.abs().mean()) < 0.01


def posed_center(scene):
    return scene.context[0].extrinsics[:3, 3]


def test_scores_are_those_of_renderings_of_whole_frames_of_photos_left_out(scene, room):
    assert len(scene.scores.before) == 3
    assert scene.scores.after is None and scene.scores.final is scene.scores.before
    used = {photo.index for photo in scene.context}
    for score in scene.scores.final:
        assert score.frame.index not in used
        again = scene.render(score.frame.extrinsics, score.frame.intrinsics, (96, 128)).color[0, 0]
        whole = room.image(score.frame.index).resize((128, 96), Image.Resampling.LANCZOS)
        truth = np.asarray(whole).transpose(2, 0, 1) / 255
        error = np.mean((again.clamp(0, 1).numpy() - truth) ** 2)
        assert score.psnr == pytest.approx(-10 * np.log10(error), abs=1e-2)
        assert 0 <= score.covered <= 1


def test_rendering_one_view_or_several_at_any_size(scene):
    poses = torch.stack([frame.extrinsics for frame in scene.context])
    several = scene.render(poses, size=(40, 56))
    assert several.color.shape == (1, 2, 3, 40, 56) and several.depth.shape == (1, 2, 40, 56)
    one = scene.render(poses[1], scene.context[0].intrinsics, (40, 56))
    torch.testing.assert_close(one.color[0, 0], several.color[0, 1])


def test_everything_is_written_and_reads_back(scene, saved):
    names = {path.name for path in saved.iterdir()}
    assert names == {"photos", "depth", "scores.json"} | FILES
    gaussians = load_ply(saved / "scene.ply")
    torch.testing.assert_close(gaussians.means, scene.gaussians.means)
    assert (gaussians.scales >= scene.gaussians.scales * (1 - 1e-5)).all()
    cameras = load_cameras(saved / "cameras.json")
    by_name = {frame.name: frame for frame in cameras.frames}
    assert len(by_name) == 5
    for frame in [*scene.context, *scene.left_out]:
        torch.testing.assert_close(by_name[frame.name].extrinsics, frame.extrinsics)
        with Image.open(by_name[frame.name].image) as image:
            assert image.size == (by_name[frame.name].width, by_name[frame.name].height)
    file = sorted(saved.glob("depth/*[0-9].png"))[0]
    photo = next(p for p in scene.context if file.name.startswith(f"{p.index:04d}"))
    depth, shown = load_depth_png(file), scene.depth_of(photo, (96, 128))
    assert float((depth > 0).float().mean()) > 0.5
    torch.testing.assert_close(depth, shown, atol=0.01 * float(shown.max()), rtol=1e-3)


def test_the_report_holds_everything_and_needs_no_network(scene, saved):
    page = (saved / "report.html").read_text()
    for text in (
        scene.context[0].name,
        scene.left_out[0].name,
        f"{scene.bounds.near:.4g}",
        f"PSNR {scene.scores.final[0].psnr:.2f}",
        "Predicting Gaussians",
        "GiB",
        "<svg",
        "<video",
    ):
        assert text in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and "http" not in page


def test_names_in_the_report_are_escaped(posed, checkpoint, tmp_path, quick):
    scene = mvsplat.reconstruct(posed, checkpoint, max_photos=2, held_out=1, **BOUNDS, **PREDICTED)
    scene.source.names[:] = ["<script>alert(1)</script>"] * len(scene.source.names)
    scene.context[0].photograph = replace(scene.context[0].photograph, name="<b>")
    scene.source.dropped["<i>"] = "<u>"
    page = (scene.save(tmp_path / "scene") / "report.html").read_text()
    assert not re.search("<script|<b>|<i>|<u>", page)


def test_two_photos_leave_none_out(two_posed, checkpoint, tmp_path, quick):
    scene = mvsplat.reconstruct(two_posed, checkpoint, **PREDICTED)
    assert scene.scores.before == [] and len(scene.context) == 2
    assert "nothing was measured" in (scene.save(tmp_path / "a") / "report.html").read_text()


def test_every_photo_another_size_and_the_photos_own_shape(posed, checkpoint):
    """Whole frames of 300 x 400 fit 32 x 40 best: the model was trained with squares."""
    scene = mvsplat.reconstruct(posed, checkpoint, held_out=0, size=(48, 64), **BOUNDS, **PREDICTED)
    assert len(scene.context) == 8 and scene.left_out == [] and scene.before.shape == (48, 64)
    two = mvsplat.reconstruct(posed, checkpoint, max_photos=2, **BOUNDS, **PREDICTED)
    assert two.before.shape == (32, 40) and len(two.context) == 2
    assert [photo.index for photo in two.left_out] == [3]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"views": 1}, "at least 2"),
        ({"max_photos": 9}, "only 7 have cameras without the 1 held out"),
        ({"max_photos": 1}, "at least 2"),
        ({"held_out": 7}, "at least 2 must be left"),
        ({"held_out": ["3.png", "33.png"]}, "'33.png'.*did you mean 3"),
        ({"refine": -1.0}, "number of seconds"),
        ({"refine": "off", "refine_steps": 3}, "refine_steps is 3 and refine off"),
        ({"refine_steps": 0}, "at least 1 step"),
        ({"refine_size": 8}, "32 pixels or more"),
        ({"max_gaussians": 0}, "max_gaussians is 0"),
        ({"size": 33}, "multiples of"),
        ({"near": 5.0, "far": 2.0}, "near"),
        ({"device": "abacus"}, "abacus"),
        ({"checkpoint": "nowhere.ckpt"}, "no checkpoint at nowhere.ckpt"),
    ],
)
def test_bad_settings(posed, checkpoint, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        mvsplat.reconstruct(**({"photos": posed, "checkpoint": checkpoint} | options))


def test_warnings_name_what_is_wrong(posed, checkpoint):
    def reconstructed():
        return mvsplat.reconstruct(
            posed, checkpoint, max_photos=2, held_out=2, **BOUNDS, **PREDICTED
        )

    scene = reconstructed()
    assert not [w for w in scene.warnings if w.startswith(("Pure", "Blurred", "Moving"))]
    scene = reconstructed()
    scene.context[0].blur = 0.8
    scene.context[1] = scene.context[1].moved_to(scene.context[0].extrinsics)
    assert any(w.startswith(f"Blurred: {scene.context[0].name}") for w in scene.warnings)
    assert any(w.startswith("Pure rotation") for w in scene.warnings)
    scene = reconstructed()
    turned = scene.context[0].extrinsics @ torch.diag(torch.tensor([-1.0, 1, -1, 1]))
    scene.context[1] = scene.context[1].moved_to(turned)
    assert any(w.startswith("Low overlap") for w in scene.warnings)


def test_pictures_show_what_is_in_the_splat_even_if_the_decoder_of_training_fills(
    posed, checkpoint, scene, tmp_path
):
    content = torch.load(checkpoint, weights_only=True)
    content["mvsplat"]["decoder"] = mvsplat.SplattingDecoder(fill=True).config
    torch.save(content, tmp_path / "filling.ckpt")
    options = {"max_photos": 2, "held_out": 3, **PREDICTED}
    filling = mvsplat.reconstruct(posed, tmp_path / "filling.ckpt", **options)
    assert filling.decoder.fill is False
    # What was filled is covered by the Gaussians, which are where they were.
    assert torch.equal(filling.gaussians.means, scene.gaussians.means)
    pose = filling.cameras.frames[0].extrinsics
    size = scene.before.shape
    plain, closed = (found.render(pose, size=size).color for found in (scene, filling))
    scene.decoder.fill = True
    try:
        filled = scene.render(pose, size=size).color
    finally:
        scene.decoder.fill = False
    # Beyond all photographs there is nothing that could cover.
    assert (closed - filled).square().mean() < 0.9 * (plain - filled).square().mean()


def test_checkpoints_of_every_kind(checkpoint, tmp_path):
    model = load_trained(checkpoint)
    assert (model.image_shape, model.near, model.far) == ((32, 32), 1.0, 10.0)
    content = torch.load(checkpoint, weights_only=True)
    del content["mvsplat"]["views"]
    run_folder = tmp_path / "run"
    (run_folder / "checkpoints").mkdir(parents=True)
    torch.save(content, run_folder / "checkpoints" / "last.ckpt")
    (run_folder / "config.yaml").write_text("data: {image_shape: [64, 48], near: 2, far: 8}")
    model = load_trained(run_folder / "checkpoints" / "last.ckpt")
    assert (model.image_shape, model.near, model.far) == ((64, 48), 2.0, 8.0)
    for write, message in (
        (lambda path: path.write_text("no"), "damaged or not a checkpoint"),
        (lambda path: torch.save([1], path), "a list found"),
        (lambda path: torch.save({"a": 1}, path), "no state dict"),
        (lambda path: torch.save(content | {"state_dict": {}}, path), "damaged, or of another"),
    ):
        write(tmp_path / "bad.ckpt")
        with pytest.raises(ValueError, match=message) as error:
            load_trained(tmp_path / "bad.ckpt")
        assert "bad.ckpt" in str(error.value)


def test_a_full_disk_leaves_no_half_file(scene, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="nothing could be written"):
            scene.save(tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "full").exists()


def test_what_fails_after_the_splat_leaves_a_marked_folder(scene, tmp_path, monkeypatch, quick):
    def fail(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("mvsplat.reconstruction.saving.save_video", fail)
    with pytest.raises(OSError, match="(?s)no space left.*scene.ply is written"):
        scene.save(tmp_path / "a")
    assert (tmp_path / "a" / "INCOMPLETE.txt").is_file()
    assert load_ply(tmp_path / "a" / "scene.ply").means.shape == scene.gaussians.means.shape
    assert not (tmp_path / "a" / "video.mp4").exists()
    monkeypatch.undo()
    scene.save(tmp_path / "a", overwrite=True)
    assert not (tmp_path / "a" / "INCOMPLETE.txt").exists()


def test_the_command_imports_neither_lightning_nor_kernels_before_the_splat():
    code = (
        "import sys, mvsplat.cli.commands.reconstruct; "
        "print([m for m in ('lightning', 'numba', 'gsplat', 'viser', 'pycolmap', 'av', 'skimage') "
        "if m in sys.modules])"
    )
    assert run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_views_of_crops_are_what_was_cropped(scene, room):
    views = as_views([photo.crop((32, 32)) for photo in scene.context], 1.0, 2.0)
    assert views.image.shape == (1, 2, 3, 32, 32)
    assert views.index[0].tolist() == [photo.index for photo in scene.context]
    # A square crop of a 4:3 photograph: the horizontal focal length grows by 4/3.
    index = scene.context[0].index
    assert float(views.intrinsics[0, 0, 0, 0]) == pytest.approx(
        float(room.intrinsics[index, 0, 0]) * 4 / 3, rel=0.02
    )
