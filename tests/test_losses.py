"""Losses against closed forms, and what they say when the data does not fit."""

import pytest
import torch

from mvsplat.configurable import from_config
from mvsplat.evaluation.lpips import PerceptualDistance
from mvsplat.losses import LPIPS, MSE, CoarseDepth, coarse_cross_entropy
from mvsplat.types import Batch, DepthEstimate, Gaussians, Rendering, Views


def make_estimate(logits: torch.Tensor, near: float = 1.0, far: float = 4.0) -> DepthEstimate:
    """An estimate with these logits; candidates are uniform in disparity."""
    b, v, d, rows, columns = logits.shape
    return DepthEstimate(
        depth=torch.ones(b, v, 4 * rows, 4 * columns),
        confidence=torch.ones(b, v, rows, columns),
        logits=logits,
        disparities=torch.linspace(1 / far, 1 / near, d).expand(b, v, d),
    )


def make_batch(depth: torch.Tensor | None, v: int = 2, h: int = 8, w: int = 12) -> Batch:
    """One scene with random pictures."""
    views = Views(
        image=torch.rand(1, v, 3, h, w),
        extrinsics=torch.eye(4).expand(1, v, 4, 4),
        intrinsics=torch.eye(3).expand(1, v, 3, 3),
        near=torch.full((1, v), 1.0),
        far=torch.full((1, v), 4.0),
        depth=depth,
    )
    return Batch(context=views, target=views, scene=["scene"])


def make_gaussians(estimate: DepthEstimate | None = None) -> Gaussians:
    """A single Gaussian."""
    return Gaussians(
        means=torch.zeros(1, 1, 3),
        scales=torch.ones(1, 1, 3),
        rotations=torch.tensor([[[1.0, 0, 0, 0]]]),
        harmonics=torch.zeros(1, 1, 3, 1),
        opacities=torch.ones(1, 1),
        estimate=estimate,
    )


def make_rendering(color: torch.Tensor) -> Rendering:
    """A rendering of these colours."""
    b, v, _, h, w = color.shape
    return Rendering(color=color, depth=torch.ones(b, v, h, w), alpha=torch.ones(b, v, h, w))


def test_mse_is_the_mean_square():
    batch = make_batch(None)
    value = MSE()(make_rendering(batch.target.image + 0.1), batch, make_gaussians())
    assert value.item() == pytest.approx(0.01, rel=1e-4)


def test_cross_entropy_of_a_uniform_guess_is_the_log_of_the_candidates():
    depth = torch.rand(1, 2, 8, 12) * 3 + 1
    value = coarse_cross_entropy(make_estimate(torch.zeros(1, 2, 16, 2, 3)), depth)
    assert value.item() == pytest.approx(torch.tensor(16.0).log().item(), rel=1e-5)


def test_cross_entropy_matches_a_loop_over_pixels():
    torch.manual_seed(0)
    logits, depth = torch.randn(1, 2, 7, 2, 3), torch.rand(1, 2, 8, 12) * 5 + 0.5
    depth[0, 0, :3] = 0
    estimate = make_estimate(logits)
    estimate.disparities = estimate.disparities**2  # not uniform
    total, count = 0.0, 0
    for view, row, column in torch.cartesian_prod(*map(torch.arange, (2, 8, 12))).tolist():
        pixel = depth[0, view, row, column]
        if pixel == 0:
            continue
        candidates = estimate.disparities[0, view]
        disparity = (1 / pixel).clamp(candidates[0], candidates[-1])
        low = max(i for i in range(6) if candidates[i] <= disparity)
        share = (disparity - candidates[low]) / (candidates[low + 1] - candidates[low])
        log_p = logits[0, view, :, row // 4, column // 4].log_softmax(0)
        total -= ((1 - share) * log_p[low] + share * log_p[low + 1]).item()
        count += 1
    assert coarse_cross_entropy(estimate, depth).item() == pytest.approx(total / count, rel=1e-5)


def test_minimising_the_coarse_depth_loss_finds_the_cells_mean_disparity():
    torch.manual_seed(0)
    depth = torch.rand(1, 1, 8, 8) * 2.5 + 1.2
    logits = torch.zeros(1, 1, 12, 2, 2, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(400):
        optimizer.zero_grad()
        coarse_cross_entropy(make_estimate(logits), depth).backward()
        optimizer.step()
    candidates = make_estimate(logits).disparities.view(1, 1, 12, 1, 1)
    expectation = (logits.softmax(2) * candidates).sum(2)
    mean = torch.nn.functional.avg_pool2d(1 / depth, 4)
    torch.testing.assert_close(expectation, mean, atol=2e-3, rtol=0)


def test_coarse_depth_without_a_known_pixel_is_zero_with_zero_gradient():
    logits = torch.randn(1, 2, 4, 2, 3, requires_grad=True)
    value = coarse_cross_entropy(make_estimate(logits), torch.zeros(1, 2, 8, 12))
    value.backward()
    assert value == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_coarse_depth_says_what_is_missing():
    color = torch.rand(1, 2, 3, 8, 12)
    rendering, estimate = make_rendering(color), make_estimate(torch.zeros(1, 2, 4, 2, 3))
    with pytest.raises(ValueError, match="exact depth of the context views"):
        CoarseDepth()(rendering, make_batch(None), make_gaussians(estimate))
    with pytest.raises(ValueError, match="Gaussians.estimate"):
        CoarseDepth()(rendering, make_batch(torch.ones(1, 2, 8, 12)), make_gaussians())
    with pytest.raises(ValueError, match="9 x 12 pixels .* 2 x 3 cells"):
        coarse_cross_entropy(estimate, torch.ones(1, 2, 9, 12))


def test_losses_can_be_rebuilt_from_their_configuration():
    loss = from_config(LPIPS(weight=0.1, net="alex").config)
    assert (type(loss), loss.weight, loss.net) == (LPIPS, 0.1, "alex")
    assert from_config(CoarseDepth(0.5).config).weight == 0.5


def test_lpips_needs_its_weights_only_when_it_counts(tmp_path):
    batch = make_batch(None, h=64, w=64)
    rendering = make_rendering(batch.target.image)
    with pytest.raises(RuntimeError, match="prepare"):
        LPIPS()(rendering, batch, make_gaussians())
    unused = LPIPS(weight=0.0, backbone_weights=str(tmp_path / "absent.pth"))
    unused.prepare()
    assert unused(rendering, batch, make_gaussians()) == 0


def test_lpips_is_frozen_and_not_stored(monkeypatch):
    monkeypatch.setattr(PerceptualDistance, "pretrained", lambda net, _: PerceptualDistance(net))
    loss, batch = LPIPS(net="alex"), make_batch(None, h=64, w=64)
    loss.prepare()
    color = torch.rand(1, 2, 3, 64, 64, requires_grad=True)
    value = loss(make_rendering(color), batch, make_gaussians())
    value.backward()
    assert value > 0 and color.grad.isfinite().all() and color.grad.abs().sum() > 0
    assert not loss.state_dict() and not list(loss.parameters())
