"""How much views show of the same: overlap, parallax, and the context views that follow from them.

Everything rests on sample points, "what a view shows": a view's pixels at several depths between
the bounds, the sparse points in its frame, or its pixels at their exact depth. Conventions as in
:mod:`mvsplat.types`; matrices are [i, j] = [the view whose content it is, the view that looks].
Without exact depth nothing is hidden behind anything: opposite sides of an object "overlap". The
triangulation angle tells them apart, so the two are best used together.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mvsplat.geometry.projection import camera_rays, homogeneous, invert_rigid, pixel_centers

ENTRIES_AT_A_TIME = 2**23  # points times views
_CELLS = 12  # parts of a frame, along each side, in which sparse points count the same
_HIDDEN = 1.02  # a point this much deeper than what a view shows there is hidden behind it


@dataclass(frozen=True)
class SamplePoints:
    """What each view shows.

    Args:
        position: World-space points of every view.
        weight: How much each counts; 0 where the view does not show it.
    """

    position: Float[Tensor, "n s 3"]
    weight: Float[Tensor, "n s"]

    def __getitem__(self, views: slice | Int[Tensor, " v"]) -> "SamplePoints":
        """The points of some of the views."""
        return SamplePoints(self.position[views], self.weight[views])


@dataclass(frozen=True)
class ViewPairs:
    """Measures of every pair of views; row: whose content, column: who looks.

    Args:
        overlap: Share of the row's content that lies in the column's frame, in [0, 1].
        angle: Mean triangulation angle in degrees between the two views' rays to the shared
            content; NaN where there is none.
        baseline: Distance of the cameras, in the scene's unit.
    """

    overlap: Float[Tensor, "n n"]
    angle: Float[Tensor, "n n"]
    baseline: Float[Tensor, "n n"]

    @property
    def mutual(self) -> Float[Tensor, "n n"]:
        """The lower of the two directions' overlap."""
        return torch.minimum(self.overlap, self.overlap.mT)

    def first(self, count: int) -> "ViewPairs":
        """The pairs among the first views."""
        measures = (self.overlap, self.angle, self.baseline)
        return ViewPairs(*(measure[:count, :count] for measure in measures))


def frustum_points(
    extrinsics: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
    near: float | Float[Tensor, " n"],
    far: float | Float[Tensor, " n"],
    grid: int = 12,
    depths: int = 6,
) -> SamplePoints:
    """Every view's pixels, on a grid x grid raster, at several depths between its bounds.

    The depths are evenly spaced in their logarithm, at the middle of equal parts.

    Raises:
        ValueError: The bounds are not 0 < near <= far < infinity.
    """
    low, high = (
        torch.as_tensor(bound, dtype=torch.float64).expand(len(extrinsics)) for bound in (near, far)
    )
    if not bool(((low > 0) & (low <= high) & high.isfinite()).all()):
        raise ValueError(f"near is {near} and far is {far}; expected 0 < near <= far")
    part = (torch.arange(depths, dtype=torch.float64) + 0.5) / depths
    depth = low[:, None] * (high / low)[:, None] ** part  # [n, depths]
    coordinates = pixel_centers(grid, grid, torch.device("cpu")).view(-1, 2)
    rays = camera_rays(coordinates.expand(len(extrinsics), -1, 2), intrinsics).double()
    points = _to_world((depth[:, :, None, None] * rays[:, None]).flatten(1, 2), extrinsics)
    return SamplePoints(points, torch.ones(points.shape[:2]))


def visible_points(
    points: Float[Tensor, "p 3"],
    extrinsics: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
    most: int = 2000,
) -> SamplePoints:
    """The sparse points (evenly thinned out to ``most``) in front of each camera and in its frame.

    Structure from motion finds many points where there is texture and few elsewhere; all parts of
    a frame that have points count the same.

    Raises:
        ValueError: There are no finite points.
    """
    points = points[points.isfinite().all(-1)].double()
    if not len(points):
        raise ValueError("there are no points with finite coordinates")
    points = points[torch.linspace(0, len(points) - 1, min(most, len(points))).round().long()]
    shown = SamplePoints(points[None], torch.ones(1, len(points)))
    seen = torch.cat([part for _, part in _looks(shown, extrinsics, intrinsics)], dim=1)[0].float()
    position = points.expand(len(extrinsics), -1, 3)
    cells = image_cells(position, extrinsics, intrinsics, _CELLS)
    counts = torch.zeros(len(seen), _CELLS**2).scatter_add_(1, cells, seen)
    return SamplePoints(position, seen / counts.gather(1, cells).clamp(min=1))


def surface_points(
    depth: Float[Tensor, "n h w"],
    extrinsics: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
    grid: int = 24,
) -> SamplePoints:
    """Every view's pixels, on about a grid x grid raster, at their exact depth (0: unknown)."""
    height, width = depth.shape[-2:]
    rows, columns = (
        ((torch.arange(count := min(grid, size)) + 0.5) * size / count).long()
        for size in (height, width)
    )
    coordinates = pixel_centers(height, width, depth.device)[rows][:, columns].reshape(-1, 2)
    chosen = depth[:, rows][:, :, columns].flatten(1).double()
    rays = camera_rays(coordinates.expand(len(depth), -1, 2), intrinsics).double()
    points = _to_world(rays * chosen[..., None], extrinsics)
    return SamplePoints(points, ((chosen > 0) & chosen.isfinite()).float())


def compare_views(
    shown: SamplePoints,
    extrinsics: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
    depth: Float[Tensor, "n h w"] | None = None,
) -> ViewPairs:
    """Overlap, triangulation angle and baseline of every pair of views.

    Args:
        shown: What each view shows, from one of the functions above.
        extrinsics: The views' camera-to-world matrices.
        intrinsics: Their normalised intrinsics.
        depth: Exact depth (0: unknown); points behind what a view shows are hidden from it.
    """
    overlaps, angles = [], []
    centers = extrinsics[:, :3, 3].double()
    near_origin = (centers - centers.mean(0)).float()
    for start, seen in _looks(shown, extrinsics, intrinsics, depth):
        rows = slice(start, start + len(seen))
        weight = shown.weight[rows]
        seen &= weight[:, None] > 0
        share = (seen.float() @ weight[..., None])[..., 0] / weight.sum(-1)[:, None]
        overlaps.append(share.nan_to_num(0).clamp(max=1))
        points = (shown.position[rows] - centers.mean(0)).float()
        angles.append(_mean_angle(points, seen, near_origin[rows], near_origin))
    baseline = torch.cdist(centers, centers, compute_mode="donot_use_mm_for_euclid_dist")
    return ViewPairs(torch.cat(overlaps).double(), torch.cat(angles).double(), baseline)


def seen_by_any(
    shown: SamplePoints,
    extrinsics: Float[Tensor, "m 4 4"],
    intrinsics: Float[Tensor, "m 3 3"],
    depth: Float[Tensor, "m h w"] | None = None,
) -> Bool[Tensor, "n s"]:
    """Which of every view's content at least one of other views shows.

    Args:
        shown: What each of n views shows.
        extrinsics: Camera-to-world matrices of the m other views.
        intrinsics: Their normalised intrinsics.
        depth: Their exact depth, as in :func:`compare_views`.
    """
    seen = [part.any(1) for _, part in _looks(shown, extrinsics, intrinsics, depth)]
    return torch.cat(seen) & (shown.weight > 0)


def image_cells(
    points: Float[Tensor, "n s 3"],
    extrinsics: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
    size: int,
) -> Int[Tensor, "n s"]:
    """Which of size x size parts of its frame, row by row, a view shows its points in.

    Points beyond the frame get the part next to them, those behind the camera any.
    """
    project = intrinsics.double() @ invert_rigid(extrinsics.double())[:, :3]
    image = homogeneous(points.double()) @ project.mT
    cell = (image[..., :2] / image[..., 2:]).nan_to_num(0, 0, 0).clamp(0, 1) * size
    column, row = cell.long().clamp(max=size - 1).unbind(-1)
    return row * size + column


def weakest_link(overlap: Float[Tensor, "*batch v v"]) -> Float[Tensor, "*batch"]:
    """The largest overlap such that links of at least that much connect all of v views.

    Of two views it is their overlap; a single view is fully connected (1).

    Args:
        overlap: Symmetric overlap of the views; the diagonal does not matter.
    """
    views = overlap.shape[-1]
    reach = overlap.masked_fill(torch.eye(views, dtype=torch.bool), 1)
    for via in range(views):
        detour = torch.minimum(reach[..., :, via, None], reach[..., None, via, :])
        reach = torch.maximum(reach, detour)
    return reach.flatten(-2).amin(-1)


def _looks(
    shown: SamplePoints,
    extrinsics: Float[Tensor, "m 4 4"],
    intrinsics: Float[Tensor, "m 3 3"],
    depth: Float[Tensor, "m h w"] | None = None,
) -> Iterator[tuple[int, Bool[Tensor, "rows m s"]]]:
    """Which points each of the views sees, some rows at a time, with the first row's number."""
    # Centred, so that single precision does where a scene is far from its origin.
    origin = extrinsics[:, :3, 3].double().mean(0)
    pose = extrinsics.double().clone()
    pose[:, :3, 3] -= origin
    project = (intrinsics.double() @ invert_rigid(pose)[:, :3]).float()
    points = (shown.position - origin).float()
    step = max(1, ENTRIES_AT_A_TIME // (points.shape[1] * len(extrinsics)))
    for start in range(0, len(points), step):
        part = homogeneous(points[start : start + step])
        x, y, z = (part @ row.mT for row in project.unbind(1))  # [rows, s, m]
        seen = (z > 0) & (x >= 0) & (y >= 0) & (x <= z) & (y <= z)
        if depth is not None:
            seen &= z <= _HIDDEN * _depth_at(depth, x / z, y / z, seen)
        yield start, seen.mT


def _depth_at(
    depth: Float[Tensor, "m h w"],
    x: Float[Tensor, "rows s m"],
    y: Float[Tensor, "rows s m"],
    seen: Bool[Tensor, "rows s m"],
) -> Float[Tensor, "rows s m"]:
    """The views' depth at image points: the largest of the four pixels around; unknown is far."""
    views, height, width = depth.shape
    surface = torch.where(depth > 0, depth, torch.inf).float()
    around = torch.nn.functional.pad(surface[:, None], (0, 1, 0, 1), mode="replicate")
    around = torch.nn.functional.max_pool2d(around, 2, stride=1)[:, 0]
    row, column = (
        torch.where(seen, at * size - 0.5, 0).floor().clamp(0, size - 1).long()
        for at, size in ((y, height), (x, width))
    )
    return around[torch.arange(views), row, column]


def _mean_angle(
    points: Float[Tensor, "rows s 3"],
    seen: Bool[Tensor, "rows n s"],
    own: Float[Tensor, "rows 3"],
    others: Float[Tensor, "n 3"],
    most: int = 128,
) -> Float[Tensor, "rows n"]:
    """Mean angle in degrees at the seen points (about ``most`` of them) between two cameras."""
    every = max(1, points.shape[1] // most) | 1  # odd, so as not to walk along a raster's columns
    points, seen = points[:, ::every], seen[:, :, ::every]
    to_own = torch.nn.functional.normalize(own[:, None] - points, dim=-1)
    to_other = others[:, None] - points[:, None]
    to_other = torch.nn.functional.normalize(to_other, dim=-1)  # [rows, n, s, 3]
    chord = (to_own[:, None] - to_other).norm(dim=-1)
    angle = torch.rad2deg(2 * torch.asin((chord / 2).clamp(max=1)))
    return torch.where(seen, angle, 0).sum(-1) / seen.sum(-1)


def _to_world(
    points: Float[Tensor, "n s 3"], extrinsics: Float[Tensor, "n 4 4"]
) -> Float[Tensor, "n s 3"]:
    pose = extrinsics.double()
    return points @ pose[:, :3, :3].mT + pose[:, None, :3, 3]
