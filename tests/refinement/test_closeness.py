"""With few photographs, Gaussians stay close to their start."""

from dataclasses import replace

import torch
from worlds import photographs, world, worsened

from mvsplat.refinement.closeness import Anchor, Closeness, anchor_of
from mvsplat.refinement.optimization import Settings, optimise
from mvsplat.refinement.parameters import FIELDS, Parameters
from mvsplat.types import DepthEstimate

ALL = torch.ones(60, dtype=torch.bool)


def test_centres_move_along_their_rays_only():
    parameters = Parameters.from_gaussians(world())
    origins = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    start = parameters.copy()
    closeness = Closeness(parameters, Anchor(torch.zeros(60), origins))
    parameters.means += 0.1 * torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    closeness.pull(parameters, ALL)
    rays = torch.nn.functional.normalize(start.means - origins, dim=-1)
    moved = parameters.means - start.means
    along = (moved * rays).sum(-1, keepdim=True)
    torch.testing.assert_close(moved, along * rays, atol=1e-5, rtol=0)
    assert along.abs().mean() > 0.03


def test_the_surer_the_network_the_stronger_the_pull():
    parameters = Parameters.from_gaussians(world())
    sure = (torch.arange(60) % 2).float()
    closeness = Closeness(parameters, Anchor(sure, torch.zeros(60, 3)))
    start = parameters.copy()
    for name in FIELDS[1:]:
        getattr(parameters, name).add_(1)
    unseen = torch.arange(60) < 50
    closeness.pull(parameters, unseen)
    for name in FIELDS[1:]:
        moved = (getattr(parameters, name) - getattr(start, name)).reshape(60, -1)
        assert moved[:50][sure[:50] == 1].max() < moved[:50][sure[:50] == 0].min()
        assert (moved[50:] - 1).abs().max() < 1e-5  # not updated, not pulled


def test_rays_and_confidence_of_an_encoders_gaussians_are_known():
    estimate = DepthEstimate(
        depth=torch.ones(1, 2, 4, 6),
        confidence=torch.tensor([[[[0.1, 0.2, 0.3]], [[0.4, 0.5, 0.6]]]]).repeat(1, 1, 2, 1),
        logits=torch.zeros(1, 2, 5, 2, 3),
        disparities=torch.ones(1, 2, 5),
    )
    predicted = replace(world(96), estimate=estimate)  # two a pixel
    centers = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    anchor = anchor_of(predicted, centers)
    assert anchor.origins[:, 0].tolist() == [0.0] * 48 + [1.0] * 48
    first_row = anchor.confidence[:12].tolist()
    assert [round(c, 1) for c in first_row] == [0.1] * 4 + [0.2] * 4 + [0.3] * 4
    assert anchor_of(world(97), centers) is None
    assert anchor_of(replace(world(95), estimate=estimate), centers) is None
    assert anchor_of(predicted, centers[:1]) is None


def test_few_photographs_neither_add_nor_move_much():
    truth = world()
    start = worsened(truth)
    found = optimise(start, photographs(truth, 3), 1.0, Settings(max_gaussians=1000))
    assert found.kept and found.gaussians.means.shape == start.means.shape
    assert 0 < (found.gaussians.means - start.means).norm(dim=-1).median() < 0.05
    assert found.curve[-1].training_psnr > found.curve[1].training_psnr


def test_what_the_start_does_not_show_is_not_asked_of_it():
    """As of whole frames, when a model saw crops: Gaussians at the edge would be drawn out."""
    truth = world(200)
    left = truth.means[0, :, 0] < -0.25 * truth.means[0, :, 2]
    fields = ("means", "scales", "rotations", "harmonics", "opacities")
    start = worsened(replace(truth, **{name: getattr(truth, name)[:, left] for name in fields}))
    start.scales *= 0.5
    photos = photographs(truth, 3)
    other = [replace(photo, pixels=photo.pixels.clone()) for photo in photos]
    for photo in other:
        photo.pixels[:, :, 40:] = 255 - photo.pixels[:, :, 40:]  # where nothing is
    one, two = (optimise(start, p, 1.0, Settings(steps=10)).gaussians for p in (photos, other))
    assert torch.equal(one.harmonics, two.harmonics)


def test_time_ends_few_photographs_early_and_never_late():
    truth = world()
    photos = photographs(truth, 2, (16, 16))
    assert optimise(worsened(truth), photos, 1.0, Settings(seconds=1e-3)).steps == 1
    assert optimise(worsened(truth), photos, 1.0, Settings(seconds=1e3)).steps == 160


def test_gaussians_that_are_left_out_leave_no_anchor_of_others():
    truth = world()
    start = worsened(truth)
    start.means[0, 0] = torch.nan
    anchor = Anchor(torch.ones(60), torch.zeros(60, 3))
    photos = photographs(truth, 2, (16, 16))
    found = optimise(start, photos, 1.0, Settings(steps=2), anchor=anchor)
    assert found.gaussians.means.shape[1] == 59 and len(found.notes) == 1
