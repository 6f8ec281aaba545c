"""Depth maps in files: values, units, what is unknown."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from mvsplat.export import depth_unit, load_depth_png, save_depth_npy, save_depth_png


def test_a_png_holds_depth_to_half_its_unit(tmp_path):
    depth = torch.linspace(0.001, 65.0, 20 * 30).view(20, 30).requires_grad_()
    save_depth_png(depth, tmp_path / "a" / "depth.png", unit=0.001)
    with Image.open(tmp_path / "a" / "depth.png") as image:  # another reader's view of the file
        assert image.mode == "I;16" and image.text["depth_unit"] == "0.001"
        steps = np.asarray(image).astype(np.float64)
    assert np.abs(steps * 0.001 - depth.detach().double().numpy()).max() <= 0.0005 + 1e-6
    torch.testing.assert_close(
        load_depth_png(tmp_path / "a" / "depth.png"), depth.detach(), atol=0.00051, rtol=0
    )


def test_unknown_depth_is_zero_and_known_depth_never(tmp_path):
    depth = torch.tensor([[0.0, -1.0, torch.nan, torch.inf, 1e-9, 1e9]])
    save_depth_png(depth, tmp_path / "depth.png", unit=0.01)
    steps = np.asarray(Image.open(tmp_path / "depth.png"))
    assert steps.tolist() == [[0, 0, 0, 0, 1, 65535]]


@pytest.mark.parametrize("farthest", [0.03, 1.0, 65.535, 65.6, 100.0, 131.08, 1e7])
def test_the_unit_is_the_finest_that_reaches(farthest):
    unit = depth_unit(farthest)
    assert unit * 65535 >= farthest > unit * 65535 / 2.51
    digit = unit / 10 ** math.floor(math.log10(unit) + 1e-9)
    assert round(digit, 6) in (1, 2, 5)


def test_an_array_is_exact(tmp_path):
    depth = torch.rand(7, 9) * 100
    depth[0, 0] = torch.nan
    save_depth_npy(depth, tmp_path / "depth.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "depth.npy"), depth.numpy())


@pytest.mark.parametrize("unit", [0.0, -1.0, math.nan, math.inf])
def test_impossible_units_are_refused(tmp_path, unit):
    with pytest.raises(ValueError, match="unit is"):
        save_depth_png(torch.ones(2, 2), tmp_path / "depth.png", unit)
    with pytest.raises(ValueError, match="farthest depth is"):
        depth_unit(unit)


def test_other_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        load_depth_png(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png is damaged"):
        load_depth_png(tmp_path / "text.png")
    Image.new("RGB", (3, 3)).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match=r"photo\.png is no depth map"):
        load_depth_png(tmp_path / "photo.png")
