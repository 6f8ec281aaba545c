"""A step against finite differences, torch's Adam and the metrics."""

from dataclasses import replace

import pytest
import torch
from worlds import LENS, photographs, world, worsened

from mvsplat.evaluation import metrics
from mvsplat.refinement.engine import EPSILON, TorchEngine
from mvsplat.refinement.loss import photometric_loss
from mvsplat.refinement.parameters import FIELDS, Parameters, Rates

RATES = Rates(means=1e-3)


def test_the_loss_is_of_l1_and_the_metrics_ssim():
    x, y = torch.rand(3, 20, 30, dtype=torch.float64), torch.rand(3, 20, 30, dtype=torch.float64)
    truth = 0.8 * (x - y).abs().mean() + 0.2 * (1 - metrics.ssim(x, y))
    assert photometric_loss(x, y).item() == pytest.approx(truth.item(), rel=1e-6)


def test_pixels_that_do_not_count_have_no_part_in_the_loss():
    x, y = torch.rand(3, 20, 30), torch.rand(3, 20, 30)
    mask = torch.rand(20, 30) > 0.3
    other = torch.where(mask, x, torch.rand(3, 20, 30))
    assert photometric_loss(x, y, mask) == photometric_loss(other, y, mask)
    absolute = (x - y).abs().mean(0)[mask].mean()
    small = photometric_loss(x[:, :8], y[:, :8], mask[:8])
    assert small == pytest.approx(0.8 * (x - y).abs().mean(0)[:8][mask[:8]].mean().item(), rel=1e-5)
    everything = torch.ones(20, 30, dtype=torch.bool)
    assert photometric_loss(x, y, everything) == pytest.approx(photometric_loss(x, y).item())
    assert absolute > 0
    assert photometric_loss(x, y, ~everything) == 0


@pytest.fixture(scope="module")
def scene():
    truth = world()
    return Parameters.from_gaussians(worsened(truth)), photographs(truth, 3)


def test_a_step_is_adams(scene):
    parameters, (photo, *_) = scene
    mine = parameters.copy()
    leaves = {name: t.clone().requires_grad_() for name, t in parameters.tensors().items()}
    base = leaves["harmonics"][..., :1].detach().clone().requires_grad_()
    rest = leaves["harmonics"][..., 1:].detach().clone().requires_grad_()
    groups = [{"params": [leaves[n]], "lr": getattr(RATES, n)} for n in FIELDS if n != "harmonics"]
    groups += [{"params": [base], "lr": RATES.harmonics_base}]
    groups += [{"params": [rest], "lr": RATES.harmonics_rest}]
    adam = torch.optim.Adam(groups, eps=EPSILON)
    engine = TorchEngine()
    for _ in range(3):
        shown = {**leaves, "harmonics": torch.cat([base, rest], dim=-1)}
        rendered = engine._render(shown, photo, photo.extrinsics, 1.0, 1)
        adam.zero_grad()
        photometric_loss(rendered, photo.pixels / 255).backward()
        adam.step()
        found = engine.step(mine, photo, RATES, 1.0, 1)
    assert found.seen.float().mean() > 0.8
    theirs = {**leaves, "harmonics": torch.cat([base, rest], dim=-1)}
    for name in FIELDS:
        torch.testing.assert_close(
            getattr(mine, name)[found.seen], theirs[name][found.seen], rtol=1e-4, atol=1e-6
        )


def test_what_a_view_does_not_see_stays(scene):
    parameters, (photo, *_) = scene
    mine = parameters.copy()
    mine.means[:10, 2] -= 8  # behind the camera
    before = mine.copy()
    found = TorchEngine().step(mine, photo, RATES, 1.0, 1)
    assert not found.seen[:10].any() and found.seen[10:].any()
    assert (found.radii[:10] == 0).all() and (mine.updates[:10] == 0).all()
    for name in FIELDS:
        assert torch.equal(getattr(mine, name)[:10], getattr(before, name)[:10])
        assert not torch.equal(getattr(mine, name)[10:], getattr(before, name)[10:])


def test_gradients_of_pose_and_exposure_are_the_losses(scene):
    parameters, (photo, *_) = scene
    exposure = torch.tensor([[1.1, 0.02], [0.9, -0.03], [1.0, 0.05]])
    engine = TorchEngine()
    found = engine.step(parameters.copy(), photo, RATES, 1.0, 1, exposure)

    xi = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    light = exposure.clone().requires_grad_()
    pose = photo.extrinsics @ exponential(xi)
    rendered = engine._render(parameters.tensors(), photo, pose, 1.0, 1)
    exposed = light[:, 0, None, None] * rendered + light[:, 1, None, None]
    photometric_loss(exposed, photo.pixels / 255).backward()
    torch.testing.assert_close(found.pose, xi.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.exposure, light.grad)
    assert not photo.extrinsics.requires_grad


def exponential(xi):
    """The motion of a camera by a turn and a shift in its own frame, as a matrix."""
    a, b, c, x, y, z = xi
    zero = torch.zeros_like(a)
    rows = [[zero, -c, b, x], [c, zero, -a, y], [-b, a, zero, z], [zero] * 4]
    return torch.linalg.matrix_exp(torch.stack([torch.stack(row) for row in rows]))


def test_screen_gradients_are_those_of_places_in_the_picture():
    """One small Gaussian: moving it in the picture is moving the picture's principal point."""
    truth = world(1)
    truth.means[:], truth.scales[:] = torch.tensor([0.05, -0.1, 3.0]), 0.15
    truth.harmonics[..., 1:] = 0
    (photo,) = photographs(truth, 1)
    moved = replace(truth, means=truth.means + torch.tensor([0.06, 0.04, 0.0]))
    parameters = Parameters.from_gaussians(moved)
    engine = TorchEngine()

    def loss(x, y):
        lens = LENS.clone()
        lens[:2, 2] += torch.tensor([x, y])
        shifted = replace(photo, intrinsics=lens)
        return engine.step(parameters.copy(), shifted, RATES, 1.0, 1).loss

    step = 1e-3
    # A move by a share of the picture is one of twice as many halves.
    across, down = loss(step, 0) - loss(-step, 0), loss(0, step) - loss(0, -step)
    slope = torch.tensor([across, down]).norm().item() / (4 * step)
    found = engine.step(parameters.copy(), photo, RATES, 1.0, 1)
    assert found.screen_gradients.item() == pytest.approx(slope, rel=0.1)
    # 3 x 0.15 units, 3 units away; focal lengths are 0.9 x 48 and 1.2 x 36 pixels.
    assert found.radii.item() == pytest.approx(0.45 / 3 * 43.2, rel=1e-4)
