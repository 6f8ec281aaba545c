"""Colours, sheets and files of pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from mvsplat.export import color_depth, color_error, save_png, sheet
from mvsplat.export.images import depth_bounds
from mvsplat.files import file_name, replacing


def test_png_holds_the_nearest_8_bit_value(tmp_path):
    image = torch.linspace(-0.2, 1.2, 3 * 5 * 7).view(3, 5, 7)
    save_png(image, tmp_path / "a" / "picture.png")
    pixels = np.asarray(Image.open(tmp_path / "a" / "picture.png")).transpose(2, 0, 1)
    assert np.abs(pixels / 255 - image.clamp(0, 1).numpy()).max() <= 0.5 / 255 + 1e-6


def test_near_is_red_far_is_blue_and_unknown_is_black():
    depth = torch.tensor([[1.0, 2.0, 10.0, 0.0, torch.inf]]).repeat(3, 1)
    red, green, blue = color_depth(depth, bounds=(1.0, 10.0))[:, 0].unbind()
    assert red[0] > 0.6 and blue[0] < 0.1
    assert blue[2] > 0.5 and red[2] < 0.3
    assert red[3:].abs().sum() + green[3:].abs().sum() + blue[3:].abs().sum() == 0


def test_colours_are_even_in_disparity():
    near, far = 2.0, 8.0
    middle = torch.full((1, 1), 1 / ((1 / near + 1 / far) / 2))
    found = color_depth(middle, (near, far)).flatten() * 255
    assert found.round().tolist() == list(bytes.fromhex("a1fd3d"))  # turbo's middle colour


def test_bounds_ignore_unknown_pixels_and_outliers():
    depth = torch.linspace(2, 4, 1000)
    depth[0], depth[1], depth[2] = 0, torch.nan, 1e6
    near, far = depth_bounds(depth)
    assert near == pytest.approx(2.0, abs=0.05) and far == pytest.approx(4.0, abs=0.05)
    assert depth_bounds(torch.zeros(4))[0] > 0


def test_error_is_black_where_equal_and_brighter_where_worse():
    truth = torch.zeros(2, 3, 1, 3)
    colors = color_error(truth + torch.tensor([0.0, 0.1, 0.4]), truth)
    brightness = colors.sum(dim=1)[0, 0]
    assert colors.shape == (2, 3, 1, 3)
    assert brightness[0] < 0.03 and brightness[0] < brightness[1] < brightness[2]


def test_sheet_holds_every_picture_and_its_label():
    red, blue = torch.zeros(3, 32, 48), torch.zeros(3, 64, 64)
    red[0], blue[2] = 1, 1
    page = np.asarray(sheet([[("a picture", red), ("b", blue)], [("c" * 200, red)]], min_width=96))
    area = {"red": 2 * 64 * 96, "blue": 2**2 * 64 * 64}
    assert (page == (255, 0, 0)).all(-1).sum() == area["red"]
    assert (page == (0, 0, 255)).all(-1).sum() in (area["blue"], area["blue"] // 4)
    assert (page[:16] < 100).all(-1).sum() > 20  # the labels' ink


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_scene_names_become_safe_and_stay_different():
    assert file_name("5aca87f95a9412c6") == "5aca87f95a9412c6"
    names = ["../a", "a", "/a", "..", "", "a b", "a/b", "x" * 300, "x" * 301, "é"]
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(files)
    assert all(f and "/" not in f and not f.startswith(".") and len(f) < 120 for f in files)
