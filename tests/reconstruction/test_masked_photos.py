"""Pixels that do not count, from photographs without cameras to what is written of them."""

import re
import shutil
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mvsplat import reconstruct
from mvsplat.data import open_scenes
from mvsplat.data.bounds import Bounds
from mvsplat.reconstruction import inputs
from mvsplat.reconstruction.cameras import structure_from_motion as sfm
from mvsplat.reconstruction.cameras.colmap_export import export_colmap
from mvsplat.reconstruction.collecting import collect, photo_paths
from mvsplat.reconstruction.diagnosis import bounds_warnings
from mvsplat.reconstruction.frames import UsedPhoto
from mvsplat.reconstruction.inputs import open_input
from mvsplat.reconstruction.pictures import load_photo
from mvsplat.reconstruction.scene_input import SceneInput
from mvsplat.refinement.photographs import Photograph

needs_pycolmap = pytest.mark.skipif(
    find_spec("pycolmap") is None, reason="pycolmap is not installed (the extra photos)"
)
HEIGHT, WIDTH = 60, 80


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def ellipse(height=HEIGHT, width=WIDTH):
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return x**2 + y**2 < 0.8


def with_alpha(pixels, counted):
    return Image.fromarray(np.dstack([pixels, counted * np.uint8(255)]))


def read(folder, photo):
    file = folder / f"{photo.file}.png"
    return np.asarray(Image.open(file)) > 0 if photo.masked else None


def test_alpha_and_masks_are_collected_with_their_photos(tmp_path):
    with_alpha(noise(0), ellipse()).save(tmp_path / "alpha.png")
    with_alpha(noise(1), np.ones((HEIGHT, WIDTH), bool)).save(tmp_path / "opaque.png")
    for number, place in ((2, "masks/2.jpg.png"), (3, "masks/3.png")):
        Image.fromarray(noise(number)).save(tmp_path / f"{number}.jpg")
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(ellipse() * np.uint8(255)).save(tmp_path / place)
    Image.fromarray(noise(4)).save(tmp_path / "plain.jpg")
    collection = collect(photo_paths(tmp_path), tmp_path / "work/images")
    assert collection.dropped == {}
    for photo in collection.photos:
        mask = read(collection.masks, photo)
        if photo.name in ("opaque.png", "plain.jpg"):
            assert mask is None
        else:
            np.testing.assert_array_equal(mask, ellipse())
    assert len(list(collection.masks.iterdir())) == 3


@pytest.mark.parametrize("turn", [1, 2, 3, 4, 5, 6, 7, 8])
def test_masks_turn_and_shrink_with_their_photos(tmp_path, turn):
    """White is where the mask lets it count, and black elsewhere, however the file lies."""
    counted = np.zeros((HEIGHT, WIDTH), bool)
    counted[10:50, 8:30] = True
    exif = Image.Exif()
    exif[0x0112] = turn
    bright = Image.fromarray((counted[..., None] * np.uint8(255)).repeat(3, 2))
    bright.save(tmp_path / "a.png", exif=exif)
    (tmp_path / "masks").mkdir()
    Image.fromarray(counted * np.uint8(255)).save(tmp_path / "masks/a.png")
    for longest in (None, 40):
        photo = load_photo(tmp_path / "a.png", longest)
        mask = np.asarray(photo.mask) > 0
        assert photo.mask.size == photo.image.size
        assert np.asarray(photo.image)[mask].min() > 230 and mask.mean() > 0.06
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))
    whole = np.asarray(load_photo(tmp_path / "a.png").mask) > 0
    np.testing.assert_array_equal(whole, np.asarray(upright)[..., 0] > 0)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.zeros((HEIGHT, WIDTH), np.uint8), "its mask leaves nothing of it"),
        (np.full((9, 9), 255, np.uint8), "its mask masks/1.png: .*9 x 9 .*80 x 60"),
        (b"none", "its mask masks/1.png: cannot be decoded"),
    ],
    ids=["black", "shape", "damaged"],
)
def test_photos_with_unusable_masks_are_dropped_with_the_reason(tmp_path, mask, reason):
    for number in range(2):
        Image.fromarray(noise(number)).save(tmp_path / f"{number}.png")
    file = tmp_path / "masks/1.png"
    file.parent.mkdir()
    if isinstance(mask, bytes):
        file.write_bytes(mask)
    else:
        Image.fromarray(mask).save(file)
    collection = collect(photo_paths(tmp_path), tmp_path / "work/images")
    assert [photo.name for photo in collection.photos] == ["0.png"]
    assert re.match(reason, collection.dropped["1.png"])


def test_pictures_from_python_keep_their_alpha(tmp_path, monkeypatch):
    seen = []

    def estimate(collection, *_):
        seen.append(collection)
        raise InterruptedError

    monkeypatch.setattr(inputs, "estimate_cameras", estimate)
    listed = [with_alpha(noise(0), ellipse()), noise(1), Image.fromarray(noise(2))]
    with pytest.raises(InterruptedError):
        open_input(listed, tmp_path)
    (collection,) = seen
    masks = [read(collection.masks, photo) for photo in collection.photos]
    np.testing.assert_array_equal(masks[0], ellipse())
    assert masks[1:] == [None, None]
    with pytest.raises(ValueError, match="photo 0: its mask leaves nothing"):
        open_input([with_alpha(noise(0), np.zeros((HEIGHT, WIDTH), bool))], tmp_path)


@pytest.fixture(scope="module")
def masked(room, tmp_path_factory):
    """Three photos of the room in a folder: transparent, with a mask, and with neither."""
    folder = tmp_path_factory.mktemp("masked") / "photos"
    folder.mkdir()
    height, width = room.image(0).height, room.image(0).width
    counted = np.arange(width)[None].repeat(height, 0) < 0.8 * width
    with_alpha(np.asarray(room.image(0)), counted).save(folder / "0.png")
    for index in (2, 4):
        room.image(index).save(folder / f"{index}.png")
    masks = folder.parent / "masks"
    masks.mkdir()
    Image.fromarray(counted * np.uint8(255)).save(masks / "2.png")
    return SimpleNamespace(folder=folder, counted=counted)


@needs_pycolmap
def test_structure_from_motion_looks_at_nothing_that_is_ignored(masked, tmp_path):
    collection = collect(photo_paths(masked.folder), tmp_path / "images")
    found = sfm.estimate_cameras(collection, tmp_path)
    assert found.dropped == {} and found.points > 50
    with import_module("pycolmap").Database.open(tmp_path / "database.db") as database:
        images = sorted(database.read_all_images(), key=lambda image: image.image_id)
        keypoints = [database.read_keypoints(image.image_id) for image in images]
    assert [image.name for image in images] == [photo.file for photo in collection.photos]
    border = masked.counted[0].sum()
    assert [float(points[:, 0].max()) <= border for points in keypoints] == [True, True, False]
    export_colmap(found.folder, tmp_path / "copy", {})
    for folder in (found.folder, tmp_path / "copy"):
        scene = open_scenes(folder).scene("test", open_scenes(folder).keys("test")[0])
        shares = [mask if mask is None else mask.mean() for mask in map(scene.mask, range(3))]
        assert shares[2] is None and shares[:2] == pytest.approx([0.8, 0.8], abs=0.03)


def test_a_crop_ignores_what_its_photo_does(room):
    """White is where pixels count, and the crop's white is, too, but for what resizing blurs."""
    counted = torch.from_numpy(ellipse(300, 400))
    pixels = counted.to(torch.uint8).mul(255).expand(3, -1, -1)
    camera = room.extrinsics[0].double(), room.intrinsics[0].double()
    photo = UsedPhoto(0, Photograph("0", pixels, *camera, counted), 0.0)
    for shape in ((32, 32), (32, 40), (64, 32)):
        crop = photo.crop(shape)
        bright = crop.pixels[0] > 128
        assert crop.mask.shape == shape and (crop.mask == bright).float().mean() > 0.98
    assert photo.to_show()[0, 0, 0] not in (0, 255) and (photo.to_show()[:, counted] == 255).all()
    assert UsedPhoto(0, Photograph("0", pixels, *camera), 0.0).crop((32, 32)).mask is None


def test_a_reconstruction_keeps_the_masks_of_its_photos(
    room, two_posed, checkpoint, tmp_path, quick
):
    """Nothing is predicted of what is ignored, and the folder of results knows the masks again."""
    height, width = room.image(0).height, room.image(0).width
    counted = np.arange(width)[None].repeat(height, 0) < width // 2
    folder = shutil.copytree(two_posed, tmp_path / "in")
    (folder / "masks").mkdir()
    Image.fromarray(counted * np.uint8(255)).save(folder / "masks/1.png")
    scene = reconstruct(folder, checkpoint, near=1.0, far=10.0, held_out=0, refine="off")
    assert scene.before.photograph is not None
    own = scene.context[0]
    means = scene.gaussians.means[0, scene.before.photograph == 0]
    project = own.intrinsics @ torch.linalg.inv(own.extrinsics)[:3]
    x, _, z = (torch.cat([means, torch.ones(len(means), 1)], dim=1) @ project.mT).unbind(-1)
    other = int((scene.before.photograph == 1).sum())
    assert float((x / z).max()) < 0.5 + 1e-4 and 0.4 * other < len(means) < 0.6 * other
    assert (scene.before.depth[0] == 0).any() and (scene.before.depth[1] > 0).all()
    out = tmp_path / "out"
    scene.save(out)
    assert [path.name for path in (out / "masks").iterdir()] == ["0000_1.jpg.png"]
    assert "50% of one photo" in (out / "report.html").read_text()
    source = open_scenes(out)
    again = source.scene("test", source.keys("test")[0])
    masks = [again.mask(index) for index in range(2)]
    np.testing.assert_array_equal(masks[0], counted)
    assert masks[1] is None
    scene.save(out, overwrite=True)


def test_photos_whose_masks_leave_nothing_that_the_network_sees_are_an_error(
    two_posed, checkpoint, tmp_path
):
    folder = shutil.copytree(two_posed, tmp_path / "in")
    (folder / "masks").mkdir()
    edge = np.zeros((300, 400), np.uint8)
    edge[:, :10] = 255
    for index in (1, 5):
        Image.fromarray(edge).save(folder / f"masks/{index}.png")
    with pytest.raises(ValueError, match="masks leave nothing"):
        reconstruct(folder, checkpoint, size=32, near=1.0, far=10.0, refine="off")


def test_a_bad_mask_is_told_as_the_masks_fault(two_posed, tmp_path):
    folder = shutil.copytree(two_posed, tmp_path / "in")
    (folder / "masks").mkdir()
    (folder / "masks/1.png").write_bytes(b"")
    source = open_scenes(folder)
    found = SceneInput(source.scene("test", source.keys("test")[0]), ["1.png", "5.png"], "data")
    assert len(found.readable([0, 1], 64)) == 1
    assert found.dropped["1.png"].startswith("its mask masks/1.png: ")


def test_depth_that_is_not_known_is_at_no_bound():
    depth = torch.full((1, 4, 4), 2.0)
    depth[0, :3] = 0
    assert bounds_warnings(Bounds(1.0, 10.0, "given"), depth) == []
    assert bounds_warnings(Bounds(1.0, 10.0, "given"), torch.zeros(1, 4, 4)) == []
