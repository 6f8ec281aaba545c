"""Depth of photographs of painted walls, ray-traced here: it is known everywhere."""

import math

import pytest
import torch
import torch.nn.functional as F

from mvsplat.geometry.projection import camera_rays, pixel_centers
from mvsplat.refinement.photographs import Photograph
from mvsplat.refinement.stereo import sweep_photographs

SHAPE = (72, 95)
LENS = torch.tensor([[1.0, 0, 0.5], [0, 95 / 72, 0.5], [0, 0, 1]], dtype=torch.float64)
BACK, FRONT = 8.0, 5.0  # a wall, and another before it where x < 0


def paint(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    layers = [
        F.interpolate(torch.rand(1, 3, n, n, generator=generator), (512, 512), mode="bicubic")
        for n in (24, 48, 96)
    ]
    return torch.stack(layers).mean(0).clamp(0, 1)


PAINT = paint(0), paint(1)


def pose_at(x: float, y: float, turned: float = 0.0) -> torch.Tensor:
    pose = torch.eye(4, dtype=torch.float64)
    c, s = math.cos(math.radians(turned)), math.sin(math.radians(turned))
    pose[0, 0], pose[0, 2], pose[2, 0], pose[2, 2] = c, s, -s, c
    pose[0, 3], pose[1, 3] = x, y
    return pose


def photograph(number: int, pose: torch.Tensor) -> tuple[Photograph, torch.Tensor]:
    """What a camera sees, and its exact depth."""
    pixels = pixel_centers(*SHAPE, torch.device("cpu")).view(-1, 2)
    local = camera_rays(pixels, LENS).double()
    rays = local @ pose[:3, :3].T
    color, depth = torch.zeros(3, len(rays)), torch.zeros(len(rays), dtype=torch.float64)
    for wall, texture in zip((BACK, FRONT), PAINT):
        distance = wall / rays[:, 2]  # along rays whose z in the camera's frame is 1
        hit = pose[:3, 3] + rays * distance[:, None]
        shown = F.grid_sample(texture, hit[None, None, :, :2].float() / 6, align_corners=False)
        here = torch.ones(len(rays), dtype=torch.bool) if wall == BACK else hit[:, 0] < 0
        color, depth = color.where(~here, shown[0, :, 0]), depth.where(~here, distance)
    picture = (255 * color).round().to(torch.uint8).view(3, *SHAPE)
    return Photograph(str(number), picture, pose, LENS), depth.view(SHAPE)


@pytest.fixture(scope="module")
def capture():
    places = [(-0.5, 0.0), (-0.1, 0.1), (0.3, -0.1), (0.7, 0.1, -5.0), (1.1, 0.0, -5.0)]
    return [photograph(number, pose_at(*place)) for number, place in enumerate(places)]


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
    mask[:, :40] = False
    masked = Photograph("masked", first.pixels, first.extrinsics, first.intrinsics, mask)
    told = []
    found = sweep_photographs([masked, second], 3.0, 12.0, progress=lambda *x: told.append(x))
    assert told == [(1, 2), (2, 2)]
    depth = found.views[0].depth
    assert not (depth[:, :38] > 0).any() and (depth[:, 40:] > 0).float().mean() > 0.4
    known = depth > 0
    assert ((depth / capture[1][1] - 1).abs()[known] < 0.03).float().mean() > 0.9
