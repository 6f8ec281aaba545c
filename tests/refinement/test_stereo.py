"""Depth of photographs of painted walls, where it is known."""

import pytest
import torch
import walls
from walls import BACK, FRONT, LENS, SHAPE, pose_at

from mvsplat.refinement.photographs import Photograph
from mvsplat.refinement.stereo import sweep_photographs


@pytest.fixture(scope="module")
def capture():
    return walls.capture()


@pytest.fixture(scope="module")
def stereo(capture):
    return sweep_photographs([photo for photo, _ in capture], 3.0, 12.0)


def test_depth_is_exact_and_nearly_everywhere(capture, stereo):
    for (photo, exact), view in zip(capture, stereo.views, strict=True):
        assert view.depth.shape == SHAPE and torch.equal(view.pixels, photo.pixels)
        known = view.depth > 0
        error = (view.depth / exact - 1).abs()[known]
        assert known.float().mean() > 0.5
        assert error.median() < 0.006 and (error < 0.03).float().mean() > 0.95


def test_points_lie_on_the_walls_once(capture, stereo):
    points = stereo.points()
    off = (points[:, 2:] - torch.tensor([BACK, FRONT])).abs().amin(dim=1)
    assert (off < 0.2).float().mean() > 0.95
    known = sum(int((view.depth > 0).sum()) for view in stereo.views)
    assert SHAPE[0] * SHAPE[1] * 0.5 < len(points) < 0.5 * known


def test_a_photograph_of_something_else_has_no_depth_and_spoils_none(capture, stereo):
    torch.manual_seed(0)
    noise = Photograph("noise", torch.randint(255, (3, *SHAPE)).byte(), pose_at(0.1, 0.0), LENS)
    found = sweep_photographs([*(photo for photo, _ in capture), noise], 3.0, 12.0)
    assert (found.views[-1].depth > 0).float().mean() < 0.01
    for (_, exact), view, alone in zip(capture, found.views, stereo.views):
        known = view.depth > 0
        assert known.sum() > 0.7 * (alone.depth > 0).sum()
        assert ((view.depth / exact - 1).abs()[known] < 0.03).float().mean() > 0.94


def test_two_photographs_are_enough_and_masks_hide(capture):
    first, second = capture[1][0], capture[2][0]
    mask = torch.ones(SHAPE, dtype=torch.bool)
    mask[:, :40] = mask[:, 51] = False
    masked = Photograph("masked", first.pixels, first.extrinsics, first.intrinsics, mask)
    told = []
    found = sweep_photographs([masked, second], 3.0, 12.0, progress=lambda *x: told.append(x))
    assert told == [(1, 2), (2, 2)]
    depth = found.views[0].depth
    assert not (depth[~mask] > 0).any() and (depth[:, 40:] > 0).float().mean() > 0.4
    known = depth > 0
    assert ((depth / capture[1][1] - 1).abs()[known] < 0.03).float().mean() > 0.9
