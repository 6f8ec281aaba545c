"""The optimised tensors: there and back, fewer and more of them."""

import pytest
import torch
from worlds import world

from mvsplat.refinement.parameters import FIELDS, Parameters


def test_gaussians_come_back():
    gaussians = world(20)
    back = Parameters.from_gaussians(gaussians).to_gaussians()
    for name in ("means", "scales", "rotations", "harmonics", "opacities"):
        torch.testing.assert_close(getattr(back, name), getattr(gaussians, name))


def test_gaussians_that_are_not_finite_are_left_out():
    gaussians = world(20)
    gaussians.means[0, 3, 1] = torch.nan
    gaussians.opacities[0, 5] = torch.inf
    kept = Parameters.from_gaussians(gaussians)
    assert len(kept) == 18
    assert torch.equal(kept.means[3], gaussians.means[0, 4])
    gaussians.harmonics[:] = torch.nan
    with pytest.raises(ValueError, match="none of 20 Gaussians has finite values"):
        Parameters.from_gaussians(gaussians)


def test_opacities_at_their_bounds_stay_finite():
    gaussians = world(3)
    gaussians.opacities[0] = torch.tensor([0.0, 0.5, 1.0])
    gaussians.scales[0, 0] = 0
    parameters = Parameters.from_gaussians(gaussians)
    assert parameters.opacity_logits.isfinite().all() and parameters.log_scales.isfinite().all()


def test_keeping_and_appending_take_adams_memory_along():
    parameters = Parameters.from_gaussians(world(6))
    parameters.updates[:] = torch.arange(6)
    parameters.first["means"][:] = torch.arange(6.0)[:, None]
    others = parameters.copy()
    parameters.keep(torch.tensor([True, False, True, False, False, True]))
    assert parameters.updates.tolist() == [0, 2, 5] and len(others) == 6
    parameters.append(others)
    assert parameters.updates.tolist() == [0, 2, 5, 0, 1, 2, 3, 4, 5]
    assert parameters.first["means"][:, 0].tolist() == [0, 2, 5, 0, 1, 2, 3, 4, 5]
    assert all(len(getattr(parameters, name)) == 9 for name in FIELDS)
    parameters.means[3] += 1  # copies, not views of the others'
    assert torch.equal(others.means[0] + 1, parameters.means[3])


def test_a_higher_degree_changes_nothing_at_first():
    parameters = Parameters.from_gaussians(world(6, degree=1))
    parameters.first["harmonics"][:] = 1
    before = parameters.copy()
    parameters.raise_degree(3)
    assert parameters.degree == 3
    assert torch.equal(parameters.harmonics[..., :4], before.harmonics)
    assert (
        not parameters.harmonics[..., 4:].any() and not parameters.first["harmonics"][..., 4:].any()
    )
    parameters.raise_degree(2)  # never lower
    assert parameters.degree == 3
    parameters.append(parameters.copy())
