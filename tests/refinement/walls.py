"""Two painted walls, photographed by a ray caster of a few lines: depth is known everywhere."""

import math

import torch
import torch.nn.functional as F

from mvsplat.geometry.projection import camera_rays, pixel_centers
from mvsplat.refinement.photographs import Photograph

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


def points_of(photo: Photograph, depth: torch.Tensor) -> torch.Tensor:
    """World positions of a photograph's pixels, row by row."""
    pixels = pixel_centers(*SHAPE, torch.device("cpu")).view(-1, 2)
    rays = camera_rays(pixels, photo.intrinsics).double() * depth.view(-1, 1)
    return (rays @ photo.extrinsics[:3, :3].T + photo.extrinsics[:3, 3]).float()


def capture() -> list[tuple[Photograph, torch.Tensor]]:
    """Six photographs from places side by side, with their depth."""
    places = [(-0.5, 0.0), (-0.1, 0.1), (0.3, -0.1), (0.5, 0.2)]
    places += [(0.7, 0.1, -5.0), (1.1, 0.0, -5.0)]
    return [photograph(number, pose_at(*place)) for number, place in enumerate(places)]
