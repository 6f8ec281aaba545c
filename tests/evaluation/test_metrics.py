"""Metrics against scikit-image and closed forms."""

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mvsplat.evaluation.metrics import abs_rel, psnr, ssim


@pytest.fixture
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth, noisy and flat pictures; predictions leave [0, 1] in places."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 3, 24, 37, generator=generator)
    truth[0, 1] = torch.linspace(0, 1, 37)
    truth[1, 0] = 0.5
    noise = 0.3 * torch.randn(truth.shape, generator=generator)
    return truth + noise * torch.tensor([0.05, 0.5, 1.0]).view(3, 1, 1, 1), truth


def test_psnr_is_scikit_images(pictures):
    prediction, truth = pictures
    values = psnr(prediction, truth)
    assert values.shape == (2, 3)
    for index in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
        a, b = (x[tuple(index)].clamp(0, 1).numpy() for x in (truth, prediction))
        expected = peak_signal_noise_ratio(a, b, data_range=1)
        assert values[tuple(index)].item() == pytest.approx(expected, abs=1e-4)


def test_psnr_of_identical_pictures_is_finite():
    picture = torch.rand(3, 8, 8)
    assert psnr(picture, picture).item() == pytest.approx(100)


def test_ssim_is_scikit_images(pictures):
    prediction, truth = pictures
    values = ssim(prediction, truth)
    assert values.shape == (2, 3)
    for index in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
        a, b = (x[tuple(index)].clamp(0, 1).double().numpy() for x in (truth, prediction))
        expected = structural_similarity(
            a, b, win_size=11, gaussian_weights=True, channel_axis=0, data_range=1
        )
        assert values[tuple(index)].item() == pytest.approx(expected, abs=1e-6)


def test_ssim_of_a_picture_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match="at least 11 x 11 pixels, got 10 x 20"):
        ssim(torch.rand(3, 10, 20), torch.rand(3, 10, 20))


def test_relative_depth_error_counts_known_pixels_only():
    truth = torch.tensor([[[2.0, 0.0], [4.0, math.inf]], [[0.0, 0.0], [0.0, 0.0]]])
    depth = torch.tensor([[[3.0, 9.0], [3.0, 9.0]], [[1.0, 1.0], [1.0, 1.0]]])
    error = abs_rel(depth, truth)
    assert error[0].item() == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert error[1].isnan()
