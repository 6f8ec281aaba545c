"""The choice of what to start from, where it is known what is better."""

import pytest
import torch
from worlds import photographs, world, worsened

from mvsplat.refinement.merging import those
from mvsplat.refinement.starting import choose_start


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
    found = choose_start({"network": worsened(truth), "points": truth}, photos[:4], 1.0)
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
