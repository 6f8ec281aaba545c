"""A scene and its cameras in the frame of the page's viewer.

That frame has y up and a unit in which what cameras see is a few metres away, for the viewer walks
at a fixed speed; its cameras look along -z. The first camera looks along -z but for its tilt.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.export.cameras import Frame
from mvsplat.geometry.rotations import matrix_to_quaternion
from mvsplat.geometry.trajectories import upwards
from mvsplat.types import Gaussians

_METRES = 4.0
"""How far away what cameras see is in the median."""

_HALF_FOV = math.radians(30)
_ENOUGH_TO_MEASURE = 20_000


class PageFrame(NamedTuple):
    """A point p of the world is at scale * rotation @ (p - center) in the page."""

    rotation: Float[Tensor, "3 3"]
    center: Float[Tensor, "3"]
    scale: float

    def placement(self) -> dict[str, Any]:
        """What the page's script does to the scene."""
        w, *xyz = matrix_to_quaternion(self.rotation).tolist()
        shift = -self.scale * self.rotation @ self.center
        return {"position": _short(shift), "rotation": [*xyz, w], "scale": self.scale}

    def camera(self, frame: Frame, focus: float) -> dict[str, Any]:
        """A camera and the point at a distance that it looks at, as the page's script takes it."""
        pose = frame.extrinsics.double()
        right, forward = (self.rotation @ pose[:3, axis] for axis in (0, 2))
        position = self.scale * self.rotation @ (pose[:3, 3] - self.center)
        lens = frame.intrinsics.double()
        return {
            "name": frame.name,
            "position": _short(position),
            "target": _short(position + self.scale * focus * forward),
            "right": _short(right),
            "focal": _short(lens.diagonal()[:2]),
            "center": _short(lens[:2, 2]),
        }


def placed_for_page(gaussians: Gaussians, frames: list[Frame]) -> dict[str, Any]:
    """Where the scene and its cameras are in the page; without cameras, an overview.

    Args:
        gaussians: A batch of one scene, with at least one Gaussian.
        frames: Cameras of the scene, perhaps none.
    """
    means = gaussians.means[0].detach().cpu().double()
    means = means[:: -(-len(means) // _ENOUGH_TO_MEASURE)]
    middle = means.median(dim=0).values
    seen_from = frames or [_overview(means, middle)]
    focuses = [_focus(frame, means) for frame in seen_from]
    typical = float(torch.tensor(focuses).median())
    poses = torch.stack([frame.extrinsics.double() for frame in seen_from])
    page = PageFrame(_axes(poses), middle, _METRES / typical)
    cameras = [page.camera(frame, focus) for frame, focus in zip(seen_from, focuses, strict=True)]
    return {
        "placement": page.placement(),
        "cameras": cameras if frames else [],
        "overview": None if frames else cameras[0],
    }


def _axes(poses: Float[Tensor, "v 4 4"]) -> Float[Tensor, "3 3"]:
    """Rows x, y and z of the page: y is up, and the first camera looks along -z."""
    y = upwards(poses)
    forward, image_up = poses[0, :3, 2], -poses[0, :3, 1]
    ahead = forward - (forward @ y) * y
    if ahead.norm() < 1e-3:  # it looks straight down, and what is above in its picture lies ahead
        ahead = image_up - (image_up @ y) * y
    z = -torch.nn.functional.normalize(ahead, dim=0)
    return torch.stack([torch.linalg.cross(y, z), y, z])


def _focus(frame: Frame, means: Float[Tensor, "g 3"]) -> float:
    """The median depth of the Gaussians that a camera sees; their distance if it sees none."""
    pose, lens = frame.extrinsics.double(), frame.intrinsics.double()
    points = (means - pose[:3, 3]) @ pose[:3, :3]
    x, y = points[:, :2].T / points[:, 2]
    u, v = lens[0, 0] * x + lens[0, 2], lens[1, 1] * y + lens[1, 2]
    seen = (points[:, 2] > 0) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    depths = points[seen, 2] if bool(seen.any()) else points.norm(dim=-1)
    return max(float(depths.median()), 1e-6)


def _overview(means: Float[Tensor, "g 3"], middle: Float[Tensor, "3"]) -> Frame:
    """A camera that sees most of a scene without cameras, whose up is -y as photographs have it."""
    distances = (means - middle).norm(dim=-1).sort().values
    radius = max(float(distances[int(0.9 * (len(distances) - 1))]), 1e-6)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = middle - torch.tensor([0.0, 0.0, radius / math.sin(_HALF_FOV)])
    focal = 0.5 / math.tan(_HALF_FOV)
    lens = torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
    return Frame("overview", pose, lens, 1, 1)


def _short(vector: Tensor) -> list[float]:
    return [float(f"{value:.7g}") for value in vector.tolist()]
