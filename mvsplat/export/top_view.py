"""Gaussians and cameras as on a map: seen from above, without perspective."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from mvsplat.export.images import to_pil
from mvsplat.geometry.spherical_harmonics import normalization
from mvsplat.geometry.trajectories import mean_camera
from mvsplat.types import Gaussians, Views

CONTEXT_COLOR, TARGET_COLOR = "#d02f05", "#466be3"
_FRUSTUM = 0.12
"""Length of a camera's field of view, as a share of the map's size."""


def top_view(
    gaussians: Gaussians,
    context: Views,
    target: Views | None = None,
    scene: int = 0,
    size: int = 256,
) -> Float[Tensor, "3 size size"]:
    """A map of a scene: Gaussians in their own colours, context views red, target views blue.

    The map's upper edge is where the context views look, its right edge is on their right. It is
    seen along the mean camera's y axis and shows the middle 98 % of the Gaussians and all cameras.

    Args:
        gaussians: A batch of scenes.
        context: Their context views.
        target: Their target views, if they are to be shown.
        scene: Which scene of the batch.
        size: Height and width in pixels.
    """
    frame = torch.linalg.inv(mean_camera(context.extrinsics[scene]).double())
    means = gaussians.means[scene].detach().cpu().double() @ frame[:3, :3].mT + frame[:3, 3]
    cameras = [(context, CONTEXT_COLOR)] + ([] if target is None else [(target, TARGET_COLOR)])
    poses = [frame @ views.extrinsics[scene].cpu().double() for views, _ in cameras]
    centers = torch.cat([pose[:, [0, 2], 3] for pose in poses])
    opacity = gaussians.opacities[scene].detach().cpu().double()
    middle, extent = _window(means[:, [0, 2]][opacity > 0.05], centers)

    def place(points: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Right and forward to columns and rows, in [0, 1] inside the map."""
        return 0.5 + (points - middle) / extent * points.new_tensor([1.0, -1.0])

    color = 0.5 + normalization(0, 0) * gaussians.harmonics[scene, :, :, 0].detach().cpu().double()
    picture = _scatter(place(means[:, [0, 2]]), color.clamp(0, 1), opacity, size)
    draw = ImageDraw.Draw(picture)
    for (views, ink), pose in reversed(list(zip(cameras, poses, strict=True))):
        lens = views.intrinsics[scene].cpu().double()
        for corners in place(_frusta(pose, lens, _FRUSTUM * extent).view(-1, 2)).view(-1, 3, 2):
            points = [tuple(corner) for corner in (corners * size).tolist()]
            draw.line([points[1], points[0], points[2], points[1]], fill=ink, width=2)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255


def _window(
    points: Float[Tensor, "n 2"], centers: Float[Tensor, "c 2"]
) -> tuple[Float[Tensor, "2"], float]:
    """Middle and width of the square that the map shows."""
    points = points[points.isfinite().all(-1)]
    if len(points) > 0:
        ordered, last = points.sort(dim=0).values, len(points) - 1
        ends = torch.stack([ordered[round(0.01 * last)], ordered[round(0.99 * last)]])
        centers = torch.cat([centers, ends])
    low, high = centers.amin(0), centers.amax(0)
    return (low + high) / 2, max(1.1 * float((high - low).max()), 1e-6)


def _scatter(
    place: Float[Tensor, "n 2"],
    color: Float[Tensor, "n 3"],
    opacity: Float[Tensor, " n"],
    size: int,
) -> Image.Image:
    """Gaussians as dots on white; cells are so large that a surface seen flat has no holes."""
    cells = max(16, min(size, int(len(place) ** 0.5)))
    inside = ((place >= 0) & (place < 1)).all(-1) & (color.isfinite().all(-1) & (opacity > 0))
    column, row = (place[inside] * cells).long().unbind(-1)
    weight = opacity[inside, None]
    sums = torch.zeros(cells * cells, 4, dtype=torch.float64)
    sums.index_add_(0, row * cells + column, torch.cat([color[inside] * weight, weight], -1))
    ink = sums[:, 3:]
    mean = sums[:, :3] / ink.clamp(min=1e-12)
    pixels = torch.lerp(torch.ones_like(mean), mean, 1 - (-2 * ink).exp())
    picture = to_pil(pixels.T.reshape(3, cells, cells).float())
    return picture.resize((size, size), Image.Resampling.NEAREST)


def _frusta(
    pose: Float[Tensor, "v 4 4"], intrinsics: Float[Tensor, "v 3 3"], length: float
) -> Float[Tensor, "v 3 2"]:
    """Each camera's place and the two ends of its horizontal field of view, on the map."""
    x = (torch.tensor([0.0, 1.0]).double() - intrinsics[:, 0, 2:]) / intrinsics[:, 0, :1]
    zeros = torch.zeros_like(x)
    ends = length * torch.stack([x, zeros, zeros + 1], dim=-1)
    corners = torch.cat([torch.zeros_like(ends[:, :1]), ends], dim=1)
    world = corners @ pose[:, :3, :3].mT + pose[:, None, :3, 3]
    return world[..., [0, 2]]
