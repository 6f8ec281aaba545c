"""Scores of a rendering beside a photograph of which some pixels do not count."""

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mvsplat.reconstruction.scores import compare
from mvsplat.refinement.photographs import Photograph


def photograph(height=24, width=32, mask=None):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, height, width), generator=generator).to(torch.uint8)
    return Photograph("a", pixels, torch.eye(4).double(), torch.eye(3).double(), mask)


def rendered(photo):
    noise = 0.1 * torch.randn(photo.pixels.shape, generator=torch.Generator().manual_seed(1))
    return (photo.pixels / 255 + noise).clamp(0, 1)


def test_whole_frames_are_scored_as_by_another_library():
    photo = photograph()
    picture, truth = rendered(photo).numpy(), photo.pixels.numpy() / 255
    found = compare(rendered(photo), photo)
    assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(truth, picture, data_range=1.0))
    expected = structural_similarity(
        truth, picture, data_range=1.0, channel_axis=0, gaussian_weights=True
    )
    assert found["ssim"] == pytest.approx(expected, abs=1e-4)


def test_pixels_that_do_not_count_change_nothing():
    mask = torch.zeros(24, 32, dtype=torch.bool)
    mask[:, :20] = True
    photo = photograph(mask=mask)
    picture = rendered(photo)
    found = compare(picture, photo)
    error = (picture[:, :, :20] - photo.pixels[:, :, :20] / 255).square().mean()
    assert found["psnr"] == pytest.approx(-10 * math.log10(float(error)), abs=1e-3)
    picture[:, :, 20:] = 0
    assert compare(picture, photo) == found
    exact = photo.pixels / 255
    exact[:, :, 20:] = 0
    assert compare(exact, photo) == {"psnr": 100.0, "ssim": pytest.approx(1.0)}


def test_what_cannot_be_scored_is_not_a_number():
    nothing = photograph(mask=torch.zeros(24, 32, dtype=torch.bool))
    assert all(math.isnan(value) for value in compare(rendered(nothing), nothing).values())
    small = photograph(8, 40)
    found = compare(rendered(small), small)
    assert math.isnan(found["ssim"]) and math.isfinite(found["psnr"])
