"""Undistorted pictures are what a pinhole with the stated intrinsics would have taken."""

import cv2
import numpy as np
import pytest
import torch
from noise import noise
from PIL import Image

from mvsplat.data.readers.colmap_cameras import colmap_lens
from mvsplat.data.readers.distortion import Brown
from mvsplat.data.readers.lens import Lens

WIDTH, HEIGHT = 160, 120
BARREL = [120.0, 118.0, 83.0, 57.5, -0.25, 0.06, 0.002, -0.003]
PINCUSHION = [120.0, 118.0, 83.0, 57.5, 0.15, 0.05, -0.002, 0.001]


def pattern(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth picture of the plane z = 1."""
    waves = [np.sin(15 * x + 6 * y), np.cos(12 * y - 9 * x), np.sin(9 * x * y + 12 * x)]
    return np.clip(128 + 100 * np.stack(waves, -1), 0, 255)


def matrix(parameters) -> np.ndarray:
    fx, fy, cx, cy = parameters[:4]
    # OpenCV puts pixel centres at whole numbers, we and COLMAP at halves.
    return np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])


def photograph(parameters) -> Image.Image:
    """The pattern through a lens; OpenCV finds what each pixel sees."""
    grid = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1).astype(np.float64)
    rays = cv2.undistortPoints(
        grid.reshape(-1, 1, 2), matrix(parameters), np.array(parameters[4:]),
        criteria=(3, 200, 1e-12),
    )  # fmt: skip
    return Image.fromarray(
        pattern(*rays.reshape(HEIGHT, WIDTH, 2).transpose(2, 0, 1)).round().astype(np.uint8)
    )


@pytest.mark.parametrize("parameters", [BARREL, PINCUSHION])
def test_undistorted_pictures_show_what_their_intrinsics_say(parameters):
    lens = colmap_lens("OPENCV", (WIDTH, HEIGHT), parameters)
    picture = np.asarray(lens.undistort(photograph(parameters)), dtype=np.float64)

    assert picture.shape == (HEIGHT, WIDTH, 3)
    (fx, _, cx), (_, fy, cy), _ = lens.intrinsics.double().tolist()
    u, v = np.meshgrid((np.arange(WIDTH) + 0.5) / WIDTH, (np.arange(HEIGHT) + 0.5) / HEIGHT)
    expected = pattern((u - cx) / fx, (v - cy) / fy)
    assert np.abs(picture - expected)[2:-2, 2:-2].max() < 2.5
    assert np.abs(picture - expected).mean() < 0.5
    # A half-pixel shift, the usual mistake, would be far outside of that.
    shifted = pattern((u + 0.5 / WIDTH - cx) / fx, (v - cy) / fy)
    assert np.abs(picture - shifted).mean() > 2.0


@pytest.mark.parametrize("parameters", [BARREL, PINCUSHION])
def test_the_sampling_is_opencvs_undistortion(parameters):
    lens = colmap_lens("OPENCV", (WIDTH, HEIGHT), parameters)
    ours = np.asarray(lens.undistort(photograph(parameters)), dtype=np.float64)
    new = lens.intrinsics.double().numpy() * [[WIDTH], [HEIGHT], [1]]
    new[:2, 2] -= 0.5
    theirs = cv2.undistort(
        np.asarray(photograph(parameters)), matrix(parameters), np.array(parameters[4:]), None, new
    )
    assert np.abs(ours - theirs)[2:-2, 2:-2].mean() < 0.5


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("OPENCV", BARREL),
        ("OPENCV", PINCUSHION),
        ("OPENCV_FISHEYE", [60.0, 60.0, 80.0, 60.0, 0.02, -0.01, 0.0, 0.0]),
        ("SIMPLE_FISHEYE", [45.0, 80.0, 60.0]),
        ("FOV", [100.0, 100.0, 80.0, 60.0, 0.9]),
        ("SIMPLE_RADIAL", [100.0, 80.0, 60.0, -0.15]),
    ],
)
def test_no_pixel_is_blank_and_no_more_is_lost_than_must_be(model, parameters):
    lens = colmap_lens(model, (WIDTH, HEIGHT), parameters)
    (fx, _, cx), (_, fy, cy), _ = lens.intrinsics.double().tolist()
    side = torch.linspace(0, 1, 201, dtype=torch.float64)
    uv = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1)
    ideal = (uv - uv.new_tensor([cx, cy])) / uv.new_tensor([fx, fy])
    seen = lens.observe(ideal)
    assert -1e-3 < seen.min() and seen.max() < 1 + 1e-3
    touches = min(float(seen.min()), 1 - float(seen.max())) < 0.01
    assert touches or ideal.abs().max() > 1.7  # or it is as wide as we let it be: 60 degrees


def test_pinholes_are_left_alone():
    lens = Lens.from_pixels((100.0, 90.0), (70.0, 61.0), (WIDTH, HEIGHT))
    picture = noise((WIDTH, HEIGHT), 50)
    assert lens.undistort(picture) is picture
    expected = torch.tensor([[0.625, 0, 0.4375], [0, 0.75, 61 / 120], [0, 0, 1]])
    torch.testing.assert_close(lens.intrinsics, expected)


def test_a_lens_serves_pictures_of_every_size():
    lens = colmap_lens("OPENCV", (WIDTH, HEIGHT), BARREL)
    large = photograph(BARREL).resize((WIDTH * 4, HEIGHT * 4), Image.Resampling.BICUBIC)
    small = lens.undistort(large).resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    difference = np.asarray(small, float) - np.asarray(lens.undistort(photograph(BARREL)), float)
    assert np.abs(difference)[4:-4, 4:-4].mean() < 1


@pytest.mark.parametrize("k", [(1e6,), (-1e4,), (float("1e300"),)])
def test_senseless_distortion_is_an_error_or_still_covers(k):
    lens = Lens((1.0, 1.0), (0.5, 0.5), None, Brown(k))
    try:
        assert lens.intrinsics.isfinite().all()
    except ValueError as error:
        assert "distortion makes no sense" in str(error)


@pytest.mark.parametrize("bad", [(0.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_bad_focal_lengths(bad):
    with pytest.raises(ValueError, match="focal length"):
        Lens(bad, (0.5, 0.5))
