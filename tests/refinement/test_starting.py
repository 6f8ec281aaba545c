"""The choice of what to start from, where it is known what is better."""

from dataclasses import replace

import pytest
import torch
import walls
from worlds import photographs, world, worsened

from mvsplat.refinement.judging import split_off
from mvsplat.refinement.merging import Merged, those
from mvsplat.refinement.points import gaussians_from_points
from mvsplat.refinement.starting import (
    BOTH,
    NETWORK,
    POINTS,
    choose_start,
    find_start,
    needless,
    thinned,
)
from mvsplat.refinement.stereo import sweep_photographs


@pytest.fixture(scope="module")
def truth():
    return world()


@pytest.fixture(scope="module")
def photos(truth):
    return photographs(truth, 6, (24, 32))


@pytest.fixture(autouse=True)
def short_races(monkeypatch):
    monkeypatch.setattr("mvsplat.refinement.starting._STEPS", 12)


def test_the_better_start_wins_whatever_the_order(truth, photos):
    good, bad = worsened(truth), those(worsened(truth), slice(0, 20))
    told = []
    found = choose_start(
        {"bad": bad, "good": good}, photos, 1.0, progress=lambda *x: told.append(x)
    )
    assert found.name == "good" and found.gaussians is good
    assert found.psnr["good"] > found.psnr["bad"] + 1
    assert told == [(step, 24) for step in range(1, 25)]
    again = choose_start({"good": good, "bad": bad}, photos, 1.0)
    assert again.name == "good" and again.psnr == found.psnr  # to the last bit


def test_with_few_photographs_or_one_candidate_the_first_is_taken(truth, photos):
    empty = those(truth, slice(0, 0))
    found = choose_start({"network": worsened(truth), "points": truth}, photos[:5], 1.0)
    assert found.name == "network" and found.psnr == {}
    assert choose_start({"points": empty, "network": truth}, photos, 1.0).name == "network"
    with pytest.raises(ValueError, match="nothing to start from"):
        choose_start({"points": empty}, photos, 1.0)


def test_no_photograph_that_tells_is_trained_on(truth, photos):
    class Spy:
        def __init__(self):
            self.trained, self.shown = set(), set()

        def step(self, parameters, photograph, *rest):
            self.trained.add(photograph.name)

        def render(self, parameters, photograph, near, degree):
            self.shown.add(photograph.name)
            return torch.zeros(3, *photograph.shape)

    spy = Spy()
    choose_start({"a": truth, "b": truth}, photos, 1.0, engine=spy)
    assert spy.shown and not spy.shown & spy.trained
    assert spy.shown | spy.trained == {photo.name for photo in photos}


@pytest.fixture(scope="module")
def walled():
    return walls.capture()


def network(walled, wrong: float = 1.0) -> Merged:
    """What a network says that is right but for a factor of all depths: a Gaussian a pixel."""
    parts = []
    for number, (photo, depth) in enumerate(walled):
        points = walls.points_of(photo, depth * wrong)
        parts.append((points, torch.full((len(points),), number)))
    means, numbers = (torch.cat(x) for x in zip(*parts, strict=True))
    scene = gaussians_from_points(means, [photo for photo, _ in walled])
    assert scene.means.shape[1] == len(means)
    scene = replace(scene, opacities=0.8 * torch.ones_like(scene.opacities))
    return Merged(scene, numbers, torch.ones(len(means)), torch.ones(len(means)))


def test_points_are_found_without_a_network(walled):
    told = []
    photos = [photo for photo, _ in walled]
    given = torch.tensor([[0.2, 0.1, 6.0], [0.0, 0.0, -50.0]])  # one of them is seen
    found = find_start(photos, 3.0, 12.0, points=given, progress=lambda *x: told.append(x))
    means = found.gaussians.means[0]
    off = (means[:, 2:] - torch.tensor([walls.BACK, walls.FRONT])).abs().amin(dim=1)
    assert found.name == POINTS and (off < 0.2).float().mean() > 0.95
    assert (means == given[0]).all(dim=1).sum() == 1 and not (means[:, 2] < 0).any()
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("wrong", [1.0, 0.6])
def test_no_candidate_is_better_than_the_start(walled, wrong):
    predicted = network(walled, wrong)
    found = find_start([photo for photo, _ in walled], 3.0, 12.0, predicted, most=3000)
    assert list(found.psnr) == [BOTH, POINTS, NETWORK]
    assert found.psnr[found.name] == max(found.psnr.values())
    if wrong != 1:
        assert found.name != NETWORK
    assert found.gaussians.means.shape[1] <= 4500


def test_the_network_is_not_needed_where_depth_was_measured_nor_before_it(walled):
    stereo = sweep_photographs([photo for photo, _ in walled], 3.0, 12.0)
    depths = torch.cat([view.depth.flatten() for view in stereo.views])
    right, near, far = (needless(network(walled, factor), stereo) for factor in (1.0, 0.6, 1.5))
    for found in (right, near, far):
        assert found[depths > 0].all()
    # In its own photograph's holes, a Gaussian may be on what others measured, or before it; what
    # is behind everything hides nothing.
    hole = depths == 0
    on, before, behind = (float(found[hole].float().mean()) for found in (right, near, far))
    assert on > 0.15 and before > 0.15 and behind < 0.02, (on, before, behind)


def test_what_the_network_says_of_those_who_judge_is_not_taken(walled, monkeypatch):
    raced = {}

    def spy(candidates, *rest):
        raced.update(candidates)
        return choose_start(candidates, *rest)

    monkeypatch.setattr("mvsplat.refinement.starting.choose_start", spy)
    predicted = network(walled)
    find_start([photo for photo, _ in walled], 3.0, 12.0, predicted)
    (judge,) = split_off(len(walled))
    left = predicted.gaussians.means[0, predicted.photograph != judge]
    assert torch.equal(raced[NETWORK].means[0], left)
    assert raced[BOTH].means.shape[1] - raced[POINTS].means.shape[1] < 0.5 * len(left)


def test_fewer_photographs_than_six_are_left_to_the_network(walled):
    predicted = network(walled[:5])
    found = find_start([photo for photo, _ in walled[:5]], 3.0, 12.0, predicted)
    assert found.name == NETWORK and found.gaussians is predicted.gaussians


def test_fewer_gaussians_cover_as_much(truth):
    few = thinned(truth, 15)
    assert few.means.shape[1] == 15 and torch.equal(few.means, thinned(truth, 15).means)
    areas = [scene.scales.square().sum(dim=(1, 2)).item() for scene in (few, truth)]
    assert areas[0] == pytest.approx(areas[1], rel=0.3)
    assert thinned(truth, 1000) is truth
