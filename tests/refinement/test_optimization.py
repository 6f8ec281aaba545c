"""Optimising on photographs whose truth is known."""

import math

import pytest
import torch
from worlds import photographs, world, worsened

from mvsplat.evaluation import metrics
from mvsplat.refinement.engine import TorchEngine
from mvsplat.refinement.optimization import Settings, optimise, split_off
from mvsplat.refinement.parameters import Parameters

FEW = Settings(steps=60)


@pytest.fixture(scope="module")
def truth():
    return world()


@pytest.fixture(scope="module")
def refined(truth):
    return optimise(worsened(truth), photographs(truth, 9), 1.0, FEW)


def quality(gaussians, photos):
    engine, parameters = TorchEngine(), Parameters.from_gaussians(gaussians)
    pictures = torch.stack([engine.render(parameters, p, 1.0, 1) for p in photos])
    return metrics.psnr(pictures, torch.stack([p.pixels / 255 for p in photos])).mean().item()


def test_views_that_were_not_trained_on_gain(truth, refined):
    others = photographs(truth, 8)  # from between the nine places
    before = quality(worsened(truth), others)
    assert quality(refined.gaussians, others) > before + 3
    assert refined.kept and refined.steps == 60 and 0 < refined.best_step <= 60


def test_the_curve_tells_how_good_it_was(refined):
    assert [point.step for point in refined.curve][:2] == [0, 3]
    assert refined.curve[-1].step == 60
    assert refined.curve[-1].validation_psnr > refined.curve[0].validation_psnr + 3
    best = max(refined.curve, key=lambda point: point.validation_psnr)
    assert best.step == refined.best_step


def test_the_same_seed_gives_the_same_bits(truth, refined):
    again = optimise(worsened(truth), photographs(truth, 9), 1.0, FEW)
    assert torch.equal(again.gaussians.means, refined.gaussians.means)
    other = optimise(worsened(truth), photographs(truth, 9), 1.0, Settings(steps=60, seed=1))
    assert not torch.equal(other.gaussians.means, refined.gaussians.means)


def test_what_cannot_become_better_is_not_kept(truth):
    start = Parameters.from_gaussians(truth).to_gaussians()
    found = optimise(start, photographs(truth, 9), 1.0, Settings(steps=3))
    assert not found.kept and found.best_step == 0
    assert torch.equal(found.gaussians.means, start.means)


def test_time_ends_it(truth):
    found = optimise(worsened(truth), photographs(truth, 9), 1.0, Settings(seconds=0.2))
    assert found.steps > 0 and found.curve[-1].seconds < 2


def test_an_interrupt_keeps_the_best_so_far(truth):
    seen = []

    def interrupt(progress):
        seen.append(progress)
        if progress.step == 20:
            raise KeyboardInterrupt

    found = optimise(worsened(truth), photographs(truth, 9), 1.0, FEW, interrupt)
    assert found.interrupted and found.kept and found.steps == 20
    assert seen[-1].steps == 60 and math.isfinite(seen[-1].psnr) and seen[-1].seconds_left > 0


def test_nothing_to_compare_with_is_told(truth):
    with pytest.raises(ValueError, match="no photograph"):
        optimise(truth, [], 1.0)


def test_few_photographs_are_all_trained_on():
    assert split_off(7) == []
    assert split_off(8) == [3] and len(split_off(500)) == 4
