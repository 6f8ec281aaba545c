"""``mvsplat refine`` and ``mvsplat.refine``: a splat of any origin and photographs with cameras."""

import itertools
import json
import math
import shutil

import numpy as np
import pytest
import torch

import mvsplat
from mvsplat.data import open_scenes
from mvsplat.evaluation.metrics import psnr
from mvsplat.export import load_cameras, load_ply, load_splat, save_ply, save_splat
from mvsplat.export.page.elements import json_in
from mvsplat.reconstruction import previews
from mvsplat.reconstruction.cameras.colmap_export import export_colmap
from mvsplat.refinement.photographs import read_photographs

NEAR, FAR = 1.0, 10.0


@pytest.fixture(scope="module")
def splat(room, tmp_path_factory):
    """The room as some other program would make it: a ball at every 8th pixel's true place."""
    means, colors = [], []
    for index in range(0, 8, 2):
        depth = torch.from_numpy(room.depth(index))[4::8, 4::8].float()
        picture = torch.from_numpy(np.array(room.image(index)))[4::8, 4::8]
        rows, columns = torch.meshgrid(
            torch.arange(4, 300, 8), torch.arange(4, 400, 8), indexing="ij"
        )
        pixels = torch.stack([(columns + 0.5) / 400, (rows + 0.5) / 300, torch.ones(rows.shape)])
        rays = torch.linalg.inv(room.intrinsics[index]) @ pixels.flatten(1)
        camera = (rays * depth.flatten()).mT
        pose = room.extrinsics[index]
        means.append(camera @ pose[:3, :3].mT + pose[:3, 3])
        colors.append(picture.reshape(-1, 3) / 255)
    means, colors = torch.cat(means), torch.cat(colors)
    count = len(means)
    gaussians = mvsplat.Gaussians(
        means[None],
        torch.full((1, count, 3), 0.03),
        torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4),
        ((colors - 0.5) / 0.28209479)[None, ..., None],
        torch.full((1, count), 0.5),
    )
    path = tmp_path_factory.mktemp("splat") / "other.ply"
    save_ply(gaussians, path)
    return path


@pytest.fixture
def refine(program, splat, posed, tmp_path, quick):
    def call(*options, photos=posed, output="refined", steps=8):
        return program(
            "refine", splat, photos, "--output", tmp_path / output, "--refine_steps", steps,
            "--refine_size", 64, "--near", NEAR, "--far", FAR, *options, config=False,
        )  # fmt: skip

    call.folder, call.posed = tmp_path, posed
    return call


def test_what_a_file_stores_can_be_said(program, splat, posed, tmp_path):
    clear = load_ply(splat)
    clear.opacities[0, 0] = 0.9
    save_ply(clear, tmp_path / "clear.ply")
    options = ["--output", tmp_path / "refined", "--activated", "true"]
    assert program("refine", tmp_path / "clear.ply", posed, *options, config=False) == 2
    assert "clear.ply is said to be activated, but opacities go from" in program.err
    assert not (tmp_path / "refined").exists()


def test_a_folder_like_that_of_reconstruct(refine, program):
    assert refine() == 0, program.err
    folder = refine.folder / "refined"
    names = {path.name for path in folder.iterdir()}
    assert names == {"photos", "depth", "scene.ply", "cameras.json", "scores.json", "video.mp4",
                     "report.html"}  # fmt: skip
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["kept"] and scores["after"]["psnr"] > scores["before"]["psnr"] + 0.5
    assert list(scores["after"]["photos"]) == ["3.png"]
    assert "the splat other.ply" in (folder / "report.html").read_text()
    assert "1 photo held out, at 64 x 48: PSNR" in program.out
    # What it wrote is an input of its own.
    assert len(open_scenes(folder).scene("test", "refined")) == 8


def test_a_splat_file_and_its_cameras(refine, program, splat):
    assert refine(output="out/new.ply", steps=2) == 0, program.err
    folder = refine.folder / "out"
    assert {path.name for path in folder.iterdir()} == {"new.ply", "cameras.json"}
    assert not torch.equal(load_ply(folder / "new.ply").means, load_ply(splat).means)
    assert len(load_cameras(folder / "cameras.json").frames) == 8
    before = (folder / "new.ply").read_bytes()
    assert refine(output="out/new.ply") == 2 and "--overwrite replaces it" in program.err
    assert (folder / "new.ply").read_bytes() == before
    # Cameras of another splat in the folder stay.
    assert refine(output="out/newer.ply", steps=1) == 0, program.err
    assert (folder / "newer.cameras.json").is_file()


@pytest.fixture
def written(monkeypatch):
    """The scenes that are in a splat's file one after the other; nobody waits between them."""
    scenes = []

    def save(gaussians, path):
        save_splat(gaussians, path)
        scenes.append((load_splat(path), sorted(other.name for other in path.parent.iterdir())))

    monkeypatch.setattr(previews, "save_splat", save)
    monkeypatch.setattr(previews, "_PAUSE", 0.0)
    monkeypatch.setattr(previews, "_LARGEST_SHARE", math.inf)
    return scenes


def test_a_splat_is_replaced_while_it_is_refined(refine, program, splat, written):
    assert refine(output="out/new.spz", steps=34) == 0, program.err
    start, end = load_ply(splat), load_splat(refine.folder / "out" / "new.spz")
    assert 4 <= len(written) <= 6  # not before it is known that photos and splat belong together
    assert written[0][1] == ["new.spz"] and written[1][1] == ["cameras.json", "new.spz"]
    for (before, _), (after, _) in itertools.pairwise(written):
        assert before.means.shape != after.means.shape or not torch.equal(before.means, after.means)
    first = written[0][0]
    assert first.means.shape != start.means.shape or not torch.equal(first.means, start.means)
    assert end.harmonics.shape == first.harmonics.shape
    assert len(load_cameras(refine.folder / "out" / "cameras.json").frames) == 8


def test_a_page_is_written_once_with_cameras_and_photos_in_it(refine, program, written):
    assert refine(output="out/page.html", steps=33) == 0, program.err
    page = refine.folder / "out" / "page.html"
    assert not written and [path.name for path in page.parent.iterdir()] == ["page.html"]
    assert f"{page} (" in program.out
    assert len(load_cameras(page).frames) == 8 and load_splat(page).means.shape[1] > 0
    photos = [camera["photo"] for camera in json_in(page, "about")["cameras"]]
    assert all(photo.startswith("data:image/jpeg;base64,") for photo in photos)


def test_a_folder_is_marked_while_its_splat_is_refined(refine, program, written):
    assert refine(steps=31) == 0, program.err
    assert written[0][1] == ["INCOMPLETE.txt", "scene.ply"]
    assert not (refine.folder / "refined" / "INCOMPLETE.txt").exists()
    earlier = written.copy()
    assert refine("--overwrite", steps=31) == 0, program.err
    assert set(written[len(earlier)][1]) > {"INCOMPLETE.txt", "report.html"}
    assert "report.html" not in written[-1][1]  # it is not that of the scene beside it


def test_the_splat_that_is_refined_is_replaced_at_the_end_only(refine, program, splat, written):
    shutil.copy(splat, refine.folder / "own.ply")
    options = ["--output", refine.folder / "own.ply", "--overwrite", "--refine_steps", 32]
    options += ["--refine_size", 64, "--near", NEAR, "--far", FAR]
    assert program("refine", refine.folder / "own.ply", refine.posed, *options, config=False) == 0
    assert not written and load_ply(refine.folder / "own.ply").harmonics.shape[-1] > 1


def test_a_scene_that_cannot_be_written_on_the_way_is_refined_all_the_same(
    refine, program, monkeypatch, caplog
):
    def full(gaussians, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(previews, "save_splat", full)
    monkeypatch.setattr(previews, "_PAUSE", 0.0)
    assert refine(output="new.ply", steps=33) == 0, program.err
    assert caplog.text.count("cannot be watched while it is refined: [Errno 28]") == 1
    assert load_ply(refine.folder / "new.ply").means.shape[1] > 0


def test_photos_without_cameras_and_splats_that_are_none_are_refused(
    refine, program, photos, tmp_path
):
    assert refine(photos=photos) == 2
    assert "has no cameras" in program.err and "transforms.json" in program.err
    assert refine(photos=tmp_path / "nowhere") == 2 and "no file or folder" in program.err
    (tmp_path / "bad.ply").write_text("ply no")
    code = program("refine", tmp_path / "bad.ply", photos, "--output", tmp_path / "x", config=False)
    assert code == 2 and "bad.ply" in program.err and not (tmp_path / "x").exists()


def test_a_splat_of_something_else_is_said(program, splat, posed, tmp_path):
    other = load_ply(splat)
    other.means = other.means + torch.tensor([0.0, 0.0, 100.0])
    save_ply(other, tmp_path / "elsewhere.ply")
    code = program(
        "refine", tmp_path / "elsewhere.ply", posed, "--output", tmp_path / "x", "--near", NEAR,
        "--far", FAR, "--refine_size", 48, config=False,
    )  # fmt: skip
    assert code == 2 and "do not belong together" in program.err and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--refine", "off"], "refine"),
        (["--refine", "30", "--refine_steps", "3"], "refine_steps is 3 and refine 30"),
        (["--device", "abacus"], "abacus"),
        (["--photos", "9"], "photos is 9, but only 7 have cameras"),
    ],
)
def test_bad_options_are_short_errors(refine, program, options, message):
    assert refine(*options) == 2
    assert message in program.err and "Traceback" not in program.err


def test_the_input_is_not_overwritten(refine, program, splat):
    code = program("refine", splat, splat.parent, "--output", splat.parent, "--overwrite",
                   config=False)  # fmt: skip
    assert code == 2 and "holds the input" in program.err and splat.is_file()


def test_from_python_with_a_scene_views_or_a_path(room, posed, splat):
    gaussians = load_ply(splat)
    photographs = read_photographs(room, [0, 2, 4], size=64).photographs
    views = mvsplat.Views(
        torch.stack([photograph.pixels / 255 for photograph in photographs])[None],
        torch.stack([photograph.extrinsics for photograph in photographs])[None].float(),
        torch.stack([photograph.intrinsics for photograph in photographs])[None].float(),
        torch.full((1, 3), NEAR),
        torch.full((1, 3), FAR),
    )

    def quality(scene):
        decoder = mvsplat.SplattingDecoder()
        cameras = views.extrinsics, views.intrinsics, views.near, views.far
        return float(psnr(decoder(scene, *cameras, (48, 64)).color, views.image).mean())

    before = quality(gaussians)
    for photos in (room, posed, views):
        refined = mvsplat.refine(gaussians, photos, steps=12, size=64, near=NEAR)
        assert quality(refined) > before + 0.3
    with pytest.raises(ValueError, match="give one of them"):
        mvsplat.refine(gaussians, views, steps=3, seconds=2.0)


def test_corrected_cameras_reach_a_colmap_model(tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 3
    options.num_points3D = 20
    model = pycolmap.synthesize_dataset(options)
    source = tmp_path / "source"
    (source / "sparse/0").mkdir(parents=True)
    (source / "images").mkdir()
    model.write_binary(source / "sparse/0")
    images = sorted(model.images.values(), key=lambda image: image.name)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    export_colmap(source, tmp_path / "target", {images[1].name: pose})
    written = pycolmap.Reconstruction(tmp_path / "target/sparse/0")
    centers = {image.name: image.projection_center() for image in written.images.values()}
    assert centers[images[1].name] == pytest.approx([1.0, 2.0, 3.0])
    assert centers[images[0].name] == pytest.approx(images[0].projection_center())
    assert len(written.points3D) == len(model.points3D)
