"""Which pixels of a picture show the scene: alpha, and masks beside the pictures."""

import json
import re

import numpy as np
import pytest
from PIL import Image, ImageOps

from mvsplat.data import open_scenes
from mvsplat.refinement.photographs import read_photographs

WIDTH, HEIGHT = 24, 16


def write_scene(folder, picture, name, distorted=False, place="images/", **fields):
    (folder / place).mkdir(parents=True, exist_ok=True)
    picture.save(folder / place / name, exif=picture.getexif())
    lens = {"fl_x": 20, "fl_y": 20, "cx": 12, "cy": 8, "w": WIDTH, "h": HEIGHT}
    frame = {"file_path": f"{place}{name}", "transform_matrix": np.eye(4).tolist()} | lens
    text = {"k1": -0.2 if distorted else 0.0, "frames": [frame | fields]}
    (folder / "transforms.json").write_text(json.dumps(text))
    source = open_scenes(folder)
    return source.scene("test", source.keys("test")[0])


def left_half():
    return np.arange(WIDTH)[None].repeat(HEIGHT, 0) < WIDTH // 2


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def test_what_is_transparent_does_not_count(tmp_path):
    rgba = np.dstack([picture(), left_half() * np.uint8(255)])
    scene = write_scene(tmp_path, Image.fromarray(rgba), "a.png")
    np.testing.assert_array_equal(scene.mask(0), left_half())


def write_mask(file, mask=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    mask = left_half() * np.uint8(255) if mask is None else mask
    Image.fromarray(mask).save(file)


@pytest.mark.parametrize(
    ("place", "mask"),
    [
        ("images/", "masks/a.jpg.png"),
        ("images/", "masks/a.png"),
        ("images/", "images/masks/a.png"),
        ("", "masks/a.jpg.png"),
        ("images/left/", "masks/left/a.jpg.png"),  # COLMAP's way where pictures are in folders
        ("images/left/", "images/masks/left/a.png"),
        ("images/", "segmented/of a.png"),
    ],
)
def test_masks_are_where_programs_put_them(tmp_path, place, mask):
    write_mask(tmp_path / mask)
    named = {"mask_path": f"./{mask}"} if mask.startswith("segmented") else {}
    scene = write_scene(tmp_path, Image.fromarray(picture()), "a.jpg", place=place, **named)
    np.testing.assert_array_equal(scene.mask(0), left_half())
    assert not scene.notes


def test_a_folder_of_masks_does_not_mask_itself(tmp_path):
    scene = write_scene(tmp_path, Image.fromarray(picture()), "a.png", place="masks/")
    assert scene.mask(0) is None


def test_what_is_transparent_or_masked_does_not_count(tmp_path):
    """As programs that save every picture with alpha need it."""
    opaque = np.full((HEIGHT, WIDTH), 255, np.uint8)
    opaque[0] = 0
    write_mask(tmp_path / "masks/a.png")
    scene = write_scene(tmp_path, Image.fromarray(np.dstack([picture(), opaque])), "a.png")
    np.testing.assert_array_equal(scene.mask(0), left_half() & (opaque > 0))


@pytest.mark.parametrize("name", ["masks/a.jpg.png", "../secret.png", 7, "a.jpg"])
def test_a_mask_that_is_named_and_not_there_is_told(tmp_path, name):
    write_mask(tmp_path / "secret.png")
    inside = tmp_path / "scene"
    inside.mkdir()
    scene = write_scene(inside, Image.fromarray(picture()), "a.jpg", place="", mask_path=name)
    assert scene.mask(0) is None
    (note,) = scene.notes
    assert "mask_path of transforms.json" in note and str(name) in note


@pytest.mark.parametrize(
    "levels",
    [
        left_half().astype(np.uint8),  # 0 and 1, as many programs write them
        left_half().astype(np.uint16) * 65535,
        np.where(left_half(), 255, 6).astype(np.uint8),  # JPEG's noise in black
        np.dstack([left_half() * np.uint8(255)] * 3),
        left_half(),
    ],
    ids=["ones", "16 bits", "noise", "RGB", "1 bit"],
)
def test_masks_of_all_kinds_say_the_same(tmp_path, levels):
    write_mask(tmp_path / "masks/a.png", levels)
    scene = write_scene(tmp_path, Image.fromarray(picture()), "a.jpg")
    np.testing.assert_array_equal(scene.mask(0), left_half())


@pytest.mark.parametrize("times", [0.5, 3])
def test_masks_of_another_size_fit(tmp_path, times):
    size = round(WIDTH * times), round(HEIGHT * times)
    mask = Image.fromarray(left_half() * np.uint8(255)).resize(size, Image.Resampling.NEAREST)
    write_mask(tmp_path / "masks/a.png", np.asarray(mask))
    scene = write_scene(tmp_path, Image.fromarray(picture()), "a.jpg")
    np.testing.assert_array_equal(scene.mask(0), left_half())


@pytest.mark.parametrize("turn", [6, 8, 5, 7])
@pytest.mark.parametrize("is_upright", [False, True])
def test_masks_lie_as_their_pictures_do(tmp_path, turn, is_upright):
    """Of a picture that is stored on its side, masks of the stored pixels and of upright ones."""
    bright = Image.fromarray((left_half()[..., None] * np.uint8(255)).repeat(3, 2))
    bright.getexif()[0x0112] = turn
    stored = Image.fromarray(left_half() * np.uint8(255))
    stored.getexif()[0x0112] = turn
    mask = ImageOps.exif_transpose(stored) if is_upright else stored
    write_mask(tmp_path / "masks/a.png", np.asarray(mask))
    scene = write_scene(tmp_path, bright, "a.png", w=HEIGHT, h=WIDTH, cx=8, cy=12)
    assert scene.image(0).size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(scene.mask(0), np.asarray(scene.image(0))[..., 0] > 128)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "its mask masks/a.png: cannot be decoded"),
        (b"no picture", "its mask masks/a.png: cannot be decoded"),
        (np.full((16, 16), 255, np.uint8), "masks/a.png: it is 16 x 16 .* 24 x 16, another shape"),
        (np.zeros((16, 24), np.uint8), "its mask leaves nothing of it"),
    ],
    ids=["empty", "damaged", "shape", "black"],
)
def test_a_photograph_with_an_unusable_mask_is_left_out(tmp_path, content, reason):
    file = tmp_path / "masks/a.png"
    write_mask(file, content if isinstance(content, np.ndarray) else None)
    if isinstance(content, bytes):
        file.write_bytes(content)
    scene = write_scene(tmp_path, Image.fromarray(picture()), "a.png")
    found = read_photographs(scene, [0])
    assert found.photographs == []
    assert re.search(reason, found.unreadable[scene.frame_names[0]])


def test_pictures_without_either_have_no_mask(tmp_path):
    scene = write_scene(tmp_path, Image.fromarray(picture()), "a.png")
    assert scene.mask(0) is None
    assert read_photographs(scene, [0]).photographs[0].mask is None


def test_masks_are_undistorted_as_their_pictures_are(tmp_path):
    """A picture that is bright where its mask is stays so."""
    bright = (left_half()[..., None] * np.uint8(255)).repeat(3, 2)
    rgba = np.dstack([bright, left_half() * np.uint8(255)])
    scene = write_scene(tmp_path, Image.fromarray(rgba), "a.png", distorted=True)
    mask, colors = scene.mask(0), np.asarray(scene.image(0))
    assert mask.shape == (HEIGHT, WIDTH) and 0.3 < mask.mean() < 0.7
    assert (colors[mask] > 100).all()


def test_reduced_photographs_count_only_what_no_masked_pixel_shines_into(tmp_path):
    dark = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgba = np.dstack([dark, left_half() * np.uint8(255)])  # transparent pictures lie on white
    scene = write_scene(tmp_path, Image.fromarray(rgba), "a.png")
    (small,) = read_photographs(scene, [0], size=WIDTH // 2).photographs
    assert small.mask.any() and not small.mask.all()
    assert int(small.pixels[:, small.mask].max()) <= 8


def test_a_photograph_that_is_masked_altogether_is_named(tmp_path):
    rgba = np.dstack([picture(), np.zeros((HEIGHT, WIDTH), np.uint8)])
    scene = write_scene(tmp_path, Image.fromarray(rgba), "a.png")
    found = read_photographs(scene, [0])
    assert found.photographs == [] and "mask" in found.unreadable[scene.frame_names[0]]
