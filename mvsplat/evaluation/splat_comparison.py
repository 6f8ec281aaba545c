"""How much two versions of a scene differ to the eye: pictures of both from the same cameras."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.decoder import SplattingDecoder
from mvsplat.evaluation.metrics import psnr
from mvsplat.export.cameras import Cameras
from mvsplat.geometry.spherical_harmonics import MAX_DEGREE
from mvsplat.geometry.trajectories import spin
from mvsplat.types import Gaussians

_VIEWS = 6
_LONGEST_SIDE = 512
_HALF_FOV = math.radians(30)


class Viewpoint(NamedTuple):
    """A camera to compare from; bounds of depth and a picture's height and width with it."""

    extrinsics: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]
    near: float
    far: float
    size: tuple[int, int]


def viewpoints(gaussians: Gaussians, cameras: Cameras | None) -> list[Viewpoint]:
    """Some of a scene's cameras, evenly chosen; without any, an orbit that sees most of it.

    Pictures have the photographs' shape and at most 512 pixels a side.
    """
    if cameras is None:
        return _orbit(gaussians)
    count = len(cameras.frames)
    chosen = sorted({round(i * (count - 1) / max(_VIEWS - 1, 1)) for i in range(_VIEWS)})
    views = []
    for frame in (cameras.frames[number] for number in chosen):
        factor = min(1, _LONGEST_SIDE / max(frame.width, frame.height))
        size = (max(1, round(frame.height * factor)), max(1, round(frame.width * factor)))
        lens = frame.intrinsics.float()
        views.append(Viewpoint(frame.extrinsics.float(), lens, cameras.near, cameras.far, size))
    return views


@torch.no_grad()
def rendered_psnr(scene: Gaussians, version: Gaussians, view: Viewpoint) -> float:
    """The PSNR, in dB, of a version's picture against the scene's; both batches of one."""
    decoder = SplattingDecoder(sh_degree=MAX_DEGREE)
    bounds = (torch.full((1, 1), bound) for bound in (view.near, view.far))
    cameras = (view.extrinsics[None, None], view.intrinsics[None, None], *bounds, view.size)
    truth, picture = (decoder(one, *cameras).color for one in (scene, version))
    return psnr(picture, truth).item()


def _orbit(gaussians: Gaussians) -> list[Viewpoint]:
    means = gaussians.means[0]
    middle = means.median(dim=0).values if len(means) else torch.zeros(3)
    distances = (means - middle).norm(dim=-1).sort().values
    radius = float(distances[int(0.9 * (len(distances) - 1))]) if len(distances) else 1.0
    radius = max(radius, 1e-3)
    distance = radius / math.sin(_HALF_FOV)
    pose = torch.eye(4)
    pose[:3, 3] = middle - torch.tensor([0.0, 0.0, distance])
    focal = 0.5 / math.tan(_HALF_FOV)
    lens = torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
    path = spin(pose, lens, _VIEWS, middle)
    size = (_LONGEST_SIDE, _LONGEST_SIDE)
    return [
        Viewpoint(pose.float(), lens, distance / 20, 20 * distance, size)
        for pose, lens in zip(path.extrinsics, path.intrinsics, strict=True)
    ]
