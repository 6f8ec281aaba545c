"""The matching start does what it promises before the first step."""

import math

import pytest
import torch
import torch.nn.functional as F
from views import random_views, small_encoder

from mvsplat import Views


def textured_plane(scenes: int = 6, size: int = 64, depth: float = 2.5) -> Views:
    """Smooth random textures on a plane, seen by two cameras side by side."""
    generator = torch.Generator().manual_seed(0)
    baseline = 0.5
    shift = baseline / depth * size
    wide = torch.randn(scenes, 3, size // 4, size // 2, generator=generator)
    wide = F.interpolate(wide, size=(size, 2 * size), mode="bicubic").mul(0.25).add(0.5).clamp(0, 1)
    start = size // 2
    images = [
        wide[..., start : start + size],
        wide[..., round(start + shift) : round(start + shift) + size],
    ]
    extrinsics = torch.eye(4).repeat(scenes, 2, 1, 1)
    extrinsics[:, 1, 0, 3] = baseline
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).repeat(scenes, 2, 1, 1)
    near, far = torch.ones(scenes, 2), torch.full((scenes, 2), 10.0)
    return Views(torch.stack(images, dim=1), extrinsics, intrinsics, near, far)


@pytest.mark.parametrize("unet", [True, False])
def test_coarse_depth_beats_chance_by_far(unet):
    encoder = small_encoder(
        cnn_widths=(32, 48, 64),
        d_feature=64,
        depth_candidates=32,
        initialization="matching",
        cost_volume_unet=unet,
    )
    with torch.no_grad():
        estimate = encoder(textured_plane()).estimate
    truth = (estimate.disparities[0, 0] - 1 / 2.5).abs().argmin()
    # Away from the border, which the other view does not see.
    logits = estimate.logits[:, 0, :, 2:-2, 5:-2].movedim(1, -1).reshape(-1, 32)
    entropy = F.cross_entropy(logits, truth.expand(len(logits)))
    hits = ((logits.argmax(-1) - truth).abs() <= 1).float().mean()
    assert entropy < math.log(32) - 0.4
    assert hits > 0.5 > 5 * 3 / 32


@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("per_pixel", [1, 3])
def test_colours_are_the_pixels(degree, per_pixel):
    encoder = small_encoder(
        initialization="matching", sh_degree=degree, gaussians_per_pixel=per_pixel
    )
    views = random_views()
    with torch.no_grad():
        gaussians = encoder(views)
    colors = 0.28209479177387814 * gaussians.harmonics[..., 0] + 0.5
    expected = views.image.permute(0, 1, 3, 4, 2).reshape(1, -1, 3)
    expected = expected.repeat_interleave(per_pixel, dim=1)
    torch.testing.assert_close(colors, expected, rtol=0, atol=1e-5)
    if degree:
        assert gaussians.harmonics[..., 1:].abs().max() < 0.1


def test_gaussians_are_small_and_nearly_opaque():
    encoder, views = small_encoder(initialization="matching"), random_views()
    with torch.no_grad():
        gaussians = encoder(views)
    torch.testing.assert_close(gaussians.opacities, torch.full_like(gaussians.opacities, 0.8))
    pixel = (1 / (0.9 * 48) + 1 / (1.1 * 32)) / 2
    pixels = gaussians.scales / gaussians.estimate.depth.reshape(1, -1, 1) / pixel
    assert pixels.median() == pytest.approx(0.5, rel=0.2)


def test_the_published_start_is_drawn_matrix_by_matrix():
    # Xavier's bound of a square matrix, although five of them are one parameter here.
    block = small_encoder(initialization="published").transformer.blocks[0]
    bound = math.sqrt(6 / (32 + 32))
    assert 0.95 * bound < block.project.weight.abs().max() <= bound


def test_an_unknown_start_is_refused():
    from mvsplat.encoder.initialization import initialize

    with pytest.raises(ValueError, match="initialization is 'best'"):
        initialize(small_encoder(), "best")
