"""Optimising on photographs whose truth is known."""

import math
from dataclasses import replace

import pytest
import torch
from worlds import photographs, world, worsened

from mvsplat.evaluation import metrics
from mvsplat.refinement.engine import TorchEngine
from mvsplat.refinement.judging import SceneDoesNotFit
from mvsplat.refinement.optimization import Settings, optimise, split_off
from mvsplat.refinement.parameters import Parameters
from mvsplat.refinement.run import Run

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


def judged(result):
    return [
        point.validation_psnr for point in result.curve if not math.isnan(point.validation_psnr)
    ]


def test_the_curve_tells_how_good_it_was_for_photographs_not_trained_on(refined):
    assert [point.step for point in refined.curve][:2] == [0, 3]
    assert refined.curve[-1].step == 60
    assert judged(refined)[-1] > judged(refined)[0] + 3
    # From the middle on, these are trained on as well, and the last step counts.
    assert 8 <= len(judged(refined)) <= 12
    assert refined.best_step == 60


def test_a_scene_past_its_best_is_not_taken(truth):
    """Photographs whose noise is learnt by heart: the best step is before the last."""
    photos = photographs(truth, 9, (18, 24))
    generator = torch.Generator().manual_seed(0)
    for number, photo in enumerate(photos):
        if number != 3:
            noise = torch.randint(-90, 90, photo.pixels.shape, generator=generator)
            photo.pixels.copy_((photo.pixels + noise).clamp(0, 255))
    start = Parameters.from_gaussians(truth).to_gaussians()
    found = optimise(start, photos, 1.0, Settings(steps=40))
    assert found.best_step < 20 and not found.kept
    assert judged(found)[-1] < judged(found)[0] - 1


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


def test_an_interrupt_before_the_first_judgement_keeps_what_there_is(truth):
    def interrupt(progress):
        if progress.step == 20:
            raise KeyboardInterrupt

    many = Settings(steps=4000)  # judged for the first time after 200
    found = optimise(worsened(truth), photographs(truth, 9), 1.0, many, interrupt)
    assert found.interrupted and found.kept and found.best_step == 20


def test_nothing_to_compare_with_is_told(truth):
    with pytest.raises(ValueError, match="no photograph"):
        optimise(truth, [], 1.0)


def test_few_photographs_are_all_trained_on():
    assert split_off(5) == []
    assert split_off(6) == [3] and len(split_off(500)) == 4


def test_gaussians_are_added_up_to_the_budget(truth):
    start = worsened(truth)
    many = photographs(truth, 9, (40, 60))
    counts = []
    settings = Settings(steps=100, max_gaussians=90)
    found = optimise(start, many, 1.0, settings, lambda progress: counts.append(progress.gaussians))
    assert counts[0] == 60 and 80 < max(counts) <= 90
    assert found.gaussians.means.shape[1] == counts[-1]
    fewer = optimise(start, many, 1.0, Settings(steps=40, max_gaussians=10))
    assert 50 < fewer.gaussians.means.shape[1] <= 60  # faint ones may go, others stay


def test_gaussians_of_another_scene_are_told(truth):
    other = world(seed=7)
    far = replace(other, means=other.means + torch.tensor([0.0, 0.0, 400.0]))
    with pytest.raises(SceneDoesNotFit, match="do not belong together: after 30 steps .* PSNR of"):
        optimise(far, photographs(truth, 9), 1.0, Settings(steps=200))


def test_a_photograph_that_matches_nothing_is_named_and_left_out(truth):
    photos = photographs(truth, 10)
    noise = torch.randint(0, 256, (3, 9, 12), generator=torch.Generator().manual_seed(0))
    blocks = noise.repeat_interleave(4, 1).repeat_interleave(4, 2).to(torch.uint8)
    photos[6] = replace(photos[6], pixels=blocks)
    found = optimise(worsened(truth), photos, 1.0, Settings(steps=120))
    assert len(found.notes) == 1 and found.notes[0].startswith("photo_6 matches nothing")
    others = photographs(truth, 8)
    assert quality(found.gaussians, others) > quality(worsened(truth), others) + 2


def test_a_photograph_that_was_last_seen_before_the_scene_was_right_is_not_left_out(truth):
    photos = photographs(truth, 9)
    run = Run(truth, photos, 1.0, FEW, TorchEngine())
    run.shown = [run.psnr(index) for index in range(len(photos))]
    stale = run.trained[2]
    run.shown[stale] = run.flat[stale]
    run.leave_out_misfits()
    assert stale in run.trained and run.notes == []


def test_gaussians_that_are_not_finite_are_counted(truth):
    start = worsened(truth)
    start.means[0, :3] = torch.nan
    found = optimise(start, photographs(truth, 6), 1.0, Settings(steps=2))
    assert found.notes == ["3 Gaussians with NaN or infinite values were left out"]


def test_photographs_of_several_sizes_and_masks_are_used_together(truth):
    photos = photographs(truth, 5) + photographs(truth, 4, (24, 64))
    mask = torch.ones(36, 48, dtype=torch.bool)
    mask[:, :16] = False
    garbage = photos[1].pixels.clone()
    garbage[:, :, :16] = 255 - garbage[:, :, :16]
    photos[1] = replace(photos[1], pixels=garbage, mask=mask)
    found = optimise(worsened(truth), photos, 1.0, FEW)
    assert quality(found.gaussians, photographs(truth, 8)) > 29 and not found.notes


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"seconds": -1.0}, {"max_gaussians": 0}])
def test_settings_that_make_no_sense_are_told(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: .* expected more than 0"):
        Settings(**wrong)
