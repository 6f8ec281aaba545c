"""Splitting and pruning."""

import torch
from worlds import photographs, world, worsened

from mvsplat.refinement.cpu.engine import CpuEngine
from mvsplat.refinement.engine import StepResult
from mvsplat.refinement.growth import Growth, split
from mvsplat.refinement.parameters import Parameters, Rates


def found(pull: torch.Tensor, seen: torch.Tensor | None = None) -> StepResult:
    seen = torch.ones(len(pull), dtype=torch.bool) if seen is None else seen
    return StepResult(0.0, 0.0, seen, pull, pull, pull, torch.zeros(6), None)


def test_halves_lie_side_by_side_along_the_longest_axis():
    parameters = Parameters.from_gaussians(world(4))
    whole = parameters.to_gaussians()
    split(parameters, torch.tensor([False, True, False, False]))
    assert len(parameters) == 5
    first, second = parameters.means[3], parameters.means[4]
    torch.testing.assert_close((first + second) / 2, whole.means[0, 1])
    # The longest axis is the covariance's first eigenvector.
    values, vectors = torch.linalg.eigh(whole.covariances[0, 1])
    along = (first - second) / (first - second).norm()
    assert abs(along @ vectors[:, 2]) > 0.999
    torch.testing.assert_close((first - second).norm(), values[2].sqrt(), rtol=1e-3, atol=0)
    halves = parameters.to_gaussians().covariances[0, 3:]
    assert (torch.linalg.eigvalsh(halves)[:, 2] < 0.9 * values[2]).all()


def test_splitting_hardly_changes_the_picture():
    truth = world()
    parameters = Parameters.from_gaussians(truth)
    (photo,) = photographs(truth, 1)
    split(parameters, torch.ones(len(parameters), dtype=torch.bool))
    picture = CpuEngine().render(parameters, photo, 1.0, 1).clamp(0, 1)
    assert (picture - photo.pixels / 255).square().mean() < 0.004


def test_those_that_are_pulled_at_most_are_split_up_to_the_target():
    parameters = Parameters.from_gaussians(world(10))
    places = parameters.means.clone()
    growth = Growth(parameters)
    pull = torch.arange(10.0)
    growth.note(found(pull))
    growth.note(found(0 * pull, torch.arange(10) < 0))
    growth.grow(parameters, 13)
    assert len(parameters) == 13
    assert torch.equal(parameters.means[:7], places[:7])
    growth.note(found(torch.arange(13.0)))
    growth.grow(parameters, 5)  # nothing is removed for the target's sake
    assert len(parameters) == 13


def test_a_pull_seen_rarely_counts_as_much_as_one_seen_often():
    parameters = Parameters.from_gaussians(world(3))
    places = parameters.means.clone()
    growth = Growth(parameters)
    for step in range(5):
        pull, seen = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([True, step == 0, True])
        growth.note(found(torch.where(seen, pull, 0), seen))
    growth.grow(parameters, 4)
    assert torch.equal(parameters.means[:2], places[[0, 2]])


def test_faint_ones_are_removed():
    gaussians = world(10)
    gaussians.opacities[0, :4] = 0.001
    parameters = Parameters.from_gaussians(gaussians)
    growth = Growth(parameters)
    growth.note(found(torch.zeros(10)))
    growth.grow(parameters, 100)
    assert torch.equal(parameters.means, gaussians.means[0, 4:])


def test_details_grow_where_they_are():
    """A coarse Gaussian over a finely patterned half of the picture is split, not the plain one."""
    truth = world(1)
    start = Parameters.from_gaussians(truth)
    start.append(start.copy())
    start.means[:] = torch.tensor([[-0.8, 0.0, 3.0], [0.8, 0.0, 3.0]])
    start.log_scales[:] = -1.0
    start.harmonics[:] = 0
    (photo,) = photographs(worsened(truth), 1)
    photo.pixels[:] = 128
    photo.pixels[:, ::4, :24] = 255
    photo.pixels[:, 2::4, :24] = 0
    growth = Growth(start)
    growth.note(CpuEngine().step(start, photo, Rates(*[0.0] * 6), 1.0, 1))
    growth.grow(start, 3)
    assert start.means[0, 0] > 0 and (start.means[1:, 0] < 0).all()
