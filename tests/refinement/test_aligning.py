"""A network's Gaussians brought to measured depth, where the truth is known."""

import pytest
import torch
import walls

from mvsplat.refinement.aligning import aligned
from mvsplat.refinement.merging import DepthView, Merged
from mvsplat.refinement.points import gaussians_from_points


@pytest.fixture(scope="module")
def captured():
    return walls.capture()[1:3]


def said(captured, wrong):
    """What a network says of photographs whose depths it is wrong about by a factor."""
    views, parts, numbers = [], [], []
    for number, (photo, depth) in enumerate(captured):
        view = DepthView(photo.pixels, depth.float() * wrong, photo.extrinsics, photo.intrinsics)
        views.append(view)
        parts.append(view.points())
        numbers.append(torch.full((len(parts[-1]),), number))
    scene = gaussians_from_points(torch.cat(parts), [photo for photo, _ in captured])
    count = scene.means.shape[1]
    return Merged(scene, torch.cat(numbers), torch.ones(count), torch.ones(count)), views


def measured(captured, every=37):
    return torch.cat([walls.points_of(*photo)[::every] for photo in captured])


def errors(merged, captured):
    """Relative errors of the Gaussians' depths in their photographs, and of their directions."""
    found = []
    for number, (photo, depth) in enumerate(captured):
        places = merged.gaussians.means[0, merged.photograph == number].double()
        local = (places - photo.extrinsics[:3, 3]) @ photo.extrinsics[:3, :3]
        found.append((local[:, 2] / depth.flatten() - 1).abs())
    return torch.cat(found)


def slope(low, high):
    return torch.linspace(low, high, walls.SHAPE[1]).expand(walls.SHAPE)


@pytest.mark.parametrize("wrong", [1.4, 0.7, slope(0.8, 1.3)], ids=["far", "near", "tilted"])
def test_depth_becomes_that_of_the_points(captured, wrong):
    predicted, views = said(captured, wrong)
    before, after = errors(predicted, captured), None
    moved = aligned(predicted, views, measured(captured))
    after = errors(moved, captured)
    assert before.median() > 0.1 and after.median() < 0.02 and after.quantile(0.9) < 0.1
    # As large in the picture as before, at the same pixels.
    factor = moved.gaussians.scales / predicted.gaussians.scales
    assert torch.allclose(factor[0, :, 0], moved.pixel / predicted.pixel)
    for number, (photo, _) in enumerate(captured):
        mine = predicted.photograph == number
        rays = [
            torch.nn.functional.normalize(scene.means[0, mine] - photo.extrinsics[:3, 3].float())
            for scene in (predicted.gaussians, moved.gaussians)
        ]
        assert (rays[0] * rays[1]).sum(dim=-1).min() > 1 - 1e-5


def test_points_that_a_photograph_does_not_see_are_no_guide(captured):
    predicted, views = said(captured, 1.2)
    generator = torch.Generator().manual_seed(0)
    behind = torch.rand(60, 3, generator=generator) * torch.tensor([4.0, 4.0, 40.0])
    moved = aligned(predicted, views, torch.cat([measured(captured), behind + 10]))
    assert errors(moved, captured).median() < 0.02


def test_without_points_nothing_moves(captured):
    predicted, views = said(captured, 1.2)
    moved = aligned(predicted, views, measured(captured)[:5])
    assert torch.equal(moved.gaussians.means, predicted.gaussians.means)
