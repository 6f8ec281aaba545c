"""Merging what several photographs say of a painted wall with a box before it."""

import pytest
import torch

from mvsplat.geometry.projection import camera_rays, pixel_centers
from mvsplat.refinement.merging import DepthView, Merging, joined, those
from mvsplat.types import Gaussians

SIZE = 24
LENS = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
ALL = [torch.tensor([j for j in range(4) if j != i]) for i in range(4)]


def painted(points):
    """A colour that depends on the place."""
    return 0.5 + 0.4 * torch.stack([p.sin() for p in (*points[..., :2].unbind(-1),)], -1)


def photograph(x: float, z: float = 0.0, shift: float = 1.0):
    """A view along z of a wall at z = 6 and a box's face at 4, and a Gaussian for every pixel.

    Args:
        x, z: Where the camera stands.
        shift: Factor by which all depths are wrong.
    """
    pose = torch.eye(4)
    pose[0, 3], pose[2, 3] = x, z
    rays = camera_rays(pixel_centers(SIZE, SIZE, torch.device("cpu")).view(-1, 2), LENS)
    near = pose[:3, 3] + rays * (4 - z)
    on_box = near[:, :2].abs().amax(1) < 1
    depth = torch.where(on_box, 4 - z, 6 - z)
    places = pose[:3, 3] + rays * depth[:, None]
    color = torch.cat([painted(places), on_box[:, None].float()], dim=1)
    view = DepthView(
        (255 * color).round().to(torch.uint8).T.reshape(3, SIZE, SIZE),
        (depth * shift).view(SIZE, SIZE),
        pose,
        LENS,
    )
    return gaussians(pose[:3, 3] + rays * depth[:, None] * shift, color), view


def gaussians(means, color) -> Gaussians:
    count = len(means)
    return Gaussians(
        means[None],
        torch.full((1, count, 3), 0.1),
        torch.tensor([1.0, 0, 0, 0]).repeat(1, count, 1),
        color[None, :, :, None],
        torch.full((1, count), 0.9),
    )


def merged(parts, together=None):
    merging = Merging(ALL, together)
    for number, (scene, view) in enumerate(parts):
        merging.add(number, scene, view, torch.full((scene.means.shape[1],), 0.8))
    return merging.result()


def test_what_another_view_shows_is_not_repeated():
    found = merged([photograph(x) for x in (0.0, 0.3, 0.6, 0.9)])
    assert (found.photograph == 0).sum() == SIZE**2
    # A view 0.3 beside shows a strip of the wall that is new, 0.3 / 6 of the width, and what the
    # box hid before, 0.3 (1 / 4 - 1 / 6) of the width along half of the height.
    for number in (1, 2, 3):
        assert 0.03 < (found.photograph == number).sum() / SIZE**2 < 0.16
    # All of the wall that any view shows has a Gaussian near.
    everything = torch.cat([photograph(x)[0].means[0] for x in (0.0, 0.3, 0.6, 0.9)])
    apart = torch.cdist(everything, found.gaussians.means[0]).amin(dim=1)
    assert apart.max() < 1.5 * 6 / SIZE


def test_what_is_of_another_colour_or_finer_is_kept():
    first, second = photograph(0.0), photograph(0.05)
    other = DepthView(255 - second[1].pixels, *(vars(second[1])[n] for n in FIELDS))
    assert (merged([first, (second[0], other)]).photograph == 1).sum() > 0.95 * SIZE**2
    closer = photograph(
        0.0, z=2.5
    )  # its pixels are finer by 3.5 / 6 on the wall, 1.5 / 4 on the box
    assert (merged([first, closer]).photograph == 1).sum() > 0.9 * SIZE**2


FIELDS = ("depth", "extrinsics", "intrinsics")


def test_what_belongs_together_is_no_repetition():
    parts = [photograph(x) for x in (0.0, 0.3)]
    assert len(merged(parts, together=[0, 0, 1, 1]).photograph) == 2 * SIZE**2


def test_what_floats_before_what_others_see_is_dropped():
    right = [photograph(x) for x in (0.0, 0.2, 0.4)]
    wrong = photograph(0.3, shift=0.5)
    found = merged([*right, wrong])
    alone = merged(right)
    assert (found.photograph == 3).sum() < 0.06 * SIZE**2
    assert (found.photograph < 3).sum() == len(alone.photograph)  # and takes nothing else along
    # With one other view it is word against word.
    two = merged([right[0], (wrong[0], wrong[1])])
    floating = two.photograph == 1
    assert floating.sum() == SIZE**2
    assert two.confidence[floating].mean() < 0.5 < two.confidence[~floating].mean() < 0.81


def test_pixels_are_measured_in_the_own_photograph():
    found = merged([photograph(0.0)])
    depth = found.gaussians.means[0, :, 2]
    assert torch.allclose(found.pixel, depth / SIZE, rtol=1e-5)


def test_scenes_of_different_harmonics_are_joined():
    one = photograph(0.0)[0]
    other = Gaussians(*(getattr(one, n).clone() for n in ORDER))
    other.harmonics = torch.cat([other.harmonics, torch.ones(*other.harmonics.shape[:3], 3)], -1)
    both = joined([one, other])
    assert both.means.shape[1] == 2 * SIZE**2
    assert torch.equal(both.harmonics[:, : SIZE**2, :, :1], one.harmonics)
    assert not both.harmonics[:, : SIZE**2, :, 1:].any()
    assert torch.equal(both.harmonics[:, SIZE**2 :], other.harmonics)


ORDER = ("means", "scales", "rotations", "harmonics", "opacities")


@pytest.mark.parametrize("chosen", [slice(0, 2), torch.arange(SIZE**2) < 2])
def test_a_part_does_not_hold_on_to_the_whole(chosen):
    part = those(photograph(0.0)[0], chosen)
    for name in ORDER:
        value = getattr(part, name)
        assert value.shape[1] == 2
        assert value.untyped_storage().nbytes() == value.numel() * value.element_size()
