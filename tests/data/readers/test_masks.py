"""Which pixels of a picture show the scene: alpha, and masks beside the pictures."""

import json

import numpy as np
import pytest
from PIL import Image

from mvsplat.data import open_scenes
from mvsplat.refinement.photographs import read_photographs

WIDTH, HEIGHT = 24, 16


def write_scene(folder, picture, name, distorted=False):
    (folder / "images").mkdir()
    picture.save(folder / "images" / name)
    lens = {"fl_x": 20, "fl_y": 20, "cx": 12, "cy": 8, "w": WIDTH, "h": HEIGHT}
    frame = {"file_path": f"images/{name}", "transform_matrix": np.eye(4).tolist()} | lens
    text = {"k1": -0.2 if distorted else 0.0, "frames": [frame]}
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


@pytest.mark.parametrize("name", ["a.png.png", "a.png"])
def test_masks_lie_beside_the_pictures(tmp_path, name):
    (tmp_path / "masks").mkdir()
    Image.fromarray(left_half() * np.uint8(255)).save(tmp_path / "masks" / name)
    scene = write_scene(tmp_path, Image.fromarray(picture()), "a.png")
    np.testing.assert_array_equal(scene.mask(0), left_half())


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
