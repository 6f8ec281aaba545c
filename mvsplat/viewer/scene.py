"""One splat in the page's own frame: the scene moved and scaled to a size that suits a viewer.

The page's frame has the world's axes, its origin amid the Gaussians, and a unit in which they are
about ten away. Cameras are OpenCV cameras in both, so only positions and sizes change.
"""

import math
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.decoder import SplattingDecoder
from mvsplat.export.cameras import Cameras, Frame
from mvsplat.geometry.rotations import matrix_to_quaternion, quaternion_to_matrix
from mvsplat.geometry.trajectories import CameraPath, spin, through_cameras, upwards, wobble
from mvsplat.types import Gaussians, Rendering

DILATION = 0.3
"""Variance that splatting adds to every footprint, in square pixels."""

DISTANCE = 10.0
"""How far away the Gaussians are, in the median, in the page's unit."""

_DEFAULT_FOV = math.radians(60)
_PATH_FRAMES = 1000


class PageFrame(NamedTuple):
    """Where in the world a page's origin is, and how many of its units one of the world's is."""

    center: tuple[float, float, float]
    unit: float


class ViewedScene:
    """A splat and its cameras, in the world and in the page.

    Args:
        gaussians: One scene.
        cameras: Cameras to show and jump to, in the scene's frame and unit.
        frame: The page's, where it is to stay as it is; None takes one that suits the scene.

    Attributes:
        frame: The page's.
        gaussians: In the page's frame.
        frames: The cameras, their extrinsics in the page's frame.
        up: Unit vector that points upwards.
        near: The scene's near bound; nothing is drawn nearer than a fifth of it.
        dilated: Whether :meth:`adjusted` has nothing to add to fill gaps.
    """

    def __init__(
        self,
        gaussians: Gaussians,
        cameras: Cameras | None = None,
        frame: PageFrame | None = None,
    ):
        frames = [] if cameras is None else cameras.frames
        self.frame = _suiting(gaussians.means[0], frames) if frame is None else frame
        self._center, self._unit = torch.tensor(self.frame.center), self.frame.unit
        self.gaussians = replace(
            gaussians,
            means=(gaussians.means - self._center) * self._unit,
            scales=gaussians.scales * self._unit,
            estimate=None,
        )
        self.frames = [replace(f, extrinsics=self.to_page(f.extrinsics.float())) for f in frames]
        self.near = 1.0 if cameras is None else cameras.near * self._unit
        self.dilated = cameras is None or cameras.dilated
        self.up = self._upwards()
        self._decoder = SplattingDecoder(sh_degree=4)

    def to_page(self, pose: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
        """A camera of the world's in the page's frame."""
        pose = pose.clone()
        pose[:3, 3] = (pose[:3, 3] - self._center) * self._unit
        return pose

    def to_world(self, pose: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
        """A camera of the page's in the world."""
        pose = pose.clone()
        pose[:3, 3] = pose[:3, 3] / self._unit + self._center
        return pose

    def _upwards(self) -> Float[np.ndarray, "3"]:
        """What is up for the cameras, on average; -y (as in most data sets) without any."""
        if not self.frames:
            return np.array([0.0, -1.0, 0.0])
        poses = torch.stack([frame.extrinsics for frame in self.frames])
        return upwards(poses).double().numpy()

    def start(self) -> tuple[Float[Tensor, "4 4"], float]:
        """The first camera (without any, an overview) and half its height at distance 1."""
        if self.frames:
            return self.frames[0].extrinsics, 0.5 / float(self.frames[0].intrinsics[1, 1])
        pose = torch.eye(4)
        pose[2, 3] = -2 * DISTANCE
        return pose, math.tan(_DEFAULT_FOV / 2)

    @cached_property
    def path(self) -> CameraPath:
        """A smooth way through the cameras; a wobble around a single one, a turn without any."""
        if len(self.frames) > 1:
            poses = torch.stack([frame.extrinsics for frame in self.frames])
            lenses = torch.stack([frame.intrinsics.float() for frame in self.frames])
            return through_cameras(poses, lenses, _PATH_FRAMES)
        pose, tangent = self.start()
        lens = torch.tensor([[0.5 / tangent, 0, 0.5], [0, 0.5 / tangent, 0.5], [0, 0, 1]])
        if self.frames:
            return wobble(pose, lens, _PATH_FRAMES, radius=0.05 * DISTANCE, focus=DISTANCE)
        return spin(pose, lens, _PATH_FRAMES, pivot=torch.zeros(3))

    def adjusted(self, size: float, degree: int, fill: bool) -> Gaussians:
        """The Gaussians as the page's controls want them.

        Args:
            size: Factor for their sizes.
            degree: Highest degree of harmonics to keep.
            fill: Add the dilation of a pixel of the photographs. Rendered at their resolution, as
                in training, splats always have it; close-ups show holes where it is missing.
        """
        scales = self.gaussians.scales * size
        if fill and not self.dilated:
            scales = (scales.square() + DILATION * self._pixels.square()[..., None]).sqrt()
        harmonics = self.gaussians.harmonics[..., : (degree + 1) ** 2]
        return replace(self.gaussians, scales=scales, harmonics=harmonics)

    @cached_property
    def _pixels(self) -> Float[Tensor, "1 g"]:
        """Size of the photographs' pixels at each Gaussian: the smallest; 0 if none sees it."""
        means = self.gaussians.means
        smallest = torch.full(means.shape[:2], torch.inf)
        for frame in self.frames:
            points = (means - frame.extrinsics[:3, 3]) @ frame.extrinsics[:3, :3]
            depth = points[..., 2]
            ratio = points[..., :2] / depth[..., None] * frame.intrinsics.diagonal()[:2].float()
            seen = (depth > 0) & (ratio.abs() <= 1).all(dim=-1)  # generously: twice the picture
            size = depth / float(frame.intrinsics[1, 1] * frame.height)
            smallest = torch.where(seen, torch.minimum(smallest, size), smallest)
        return torch.where(smallest.isfinite(), smallest, 0)

    @torch.no_grad()
    def render(
        self,
        gaussians: Gaussians,
        pose: Float[Tensor, "4 4"],
        tangent: float,
        height: int,
        width: int,
    ) -> Rendering:
        """What this package's decoder shows from a camera in the page's frame.

        Args:
            gaussians: The scene's, as they are or adjusted.
            pose: Camera-to-world, in the page's frame.
            tangent: Half the picture's height at distance 1.
            height: Of the picture, in pixels.
            width: Of the picture, in pixels.
        """
        focal = 0.5 / tangent
        lens = torch.tensor([[focal * height / width, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
        near = torch.full((1, 1), self.near)
        cameras = (pose[None, None], lens[None, None], near, 100 * near)
        return self._decoder(gaussians, *cameras, (height, width))


def _suiting(means: Float[Tensor, "g 3"], frames: list[Frame]) -> PageFrame:
    """Where the Gaussians are, in the middle of the cameras' views."""
    center = means.median(dim=0).values if len(means) else torch.zeros(3)
    viewpoints = torch.stack([f.extrinsics[:3, 3].float() for f in frames] or [center])
    distances = (means - viewpoints.mean(dim=0)).norm(dim=-1)
    typical = float(distances.median()) if len(means) else 1.0
    x, y, z = center.tolist()
    return PageFrame((x, y, z), DISTANCE / typical if typical > 0 else 1.0)


def quaternion_of(pose: Float[Tensor, "4 4"]) -> Float[np.ndarray, "4"]:
    """Rotation of a camera as viser takes it: w, x, y, z in float64."""
    return matrix_to_quaternion(pose[:3, :3].double()).numpy()


def pose_of(wxyz: np.ndarray, position: np.ndarray) -> Float[Tensor, "4 4"]:
    """A camera that viser reports, as a matrix."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = quaternion_to_matrix(torch.as_tensor(wxyz, dtype=torch.float64))
    pose[:3, 3] = torch.as_tensor(position, dtype=torch.float64)
    return pose.float()


def fitting_tangent(frame: Frame, aspect: float) -> float:
    """Half the height at distance 1 of a canvas that shows the frame's whole photograph.

    Args:
        frame: A camera.
        aspect: The canvas's width divided by its height.
    """
    vertical, horizontal = (0.5 / float(frame.intrinsics[i, i]) for i in (1, 0))
    return max(vertical, horizontal / aspect)
