"""Depth of a photograph by a plane sweep: where its patches look alike in others, at one depth.

The others are warped onto the photograph for each of many depths, evenly spaced in disparity, and
compared with it by normalised correlation. Turned and enlarged patches are thus found, too, and a
pattern that repeats is seen to fit at several depths. A depth counts only where all doubts are out.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mvsplat.geometry.projection import camera_rays, invert_rigid, pixel_centers

_PLANES = 64
_PATCH = 7
_STRIDE = 2  # pixels between patches
_TEXTURE = 0.01  # smaller eigenvalue of the structure tensor below which a patch matches anything
_ALIKE = 0.8  # normalised correlation from which on two patches show the same
_PEAK = 3  # planes beside the best one that belong to it
_UNIQUE = 0.05  # how much less alike patches must be on all other planes
_SAME_DEPTH = 1.3  # ratio of depths of neighbours on one surface
_NEIGHBOURS = 5  # of the 8 around a patch that must be on its surface
_MEASURED = 2.0  # planes from infinity at which a quarter of the patches must at least be
_FEWEST_PLANES, _MOST_PLANES = 32, 96  # of a sweep between bounds
_LIKELY = 0.6  # normalised correlation from which on a depth is worth to be checked
_LITTLE_TEXTURE = 0.005  # from which on a patch is worth to be looked for
_NOISE = 1e-4  # variance of grey values that is none


class SweptPoints(NamedTuple):
    """What a plane sweep found.

    Args:
        positions: World-space points.
        textured: How many patches could have become points.
    """

    positions: Float[Tensor, "p 3"]
    textured: int


def sweep_points(
    pictures: Sequence[Float[Tensor, "_h _w"]],
    extrinsics: Float[Tensor, "v 4 4"],
    intrinsics: Float[Tensor, "v 3 3"],
) -> SweptPoints:
    """Points that the first photograph and the others surely show; possibly none.

    Args:
        pictures: Grey photographs in [0, 1], about a hundred pixels a side.
        extrinsics: Their camera-to-world matrices.
        intrinsics: Their normalised intrinsics.

    Returns:
        Points at the first one's patches. What cannot be told from infinity gets the farthest depth
        that can; if most of all cannot, there are none: the cameras stand too close together.
    """
    height, width = pictures[0].shape
    pose = extrinsics[0].double()
    baseline = (extrinsics[1:, :3, 3].double() - pose[:3, 3]).norm(dim=-1).max()
    step = 1 / (intrinsics[0, 0, 0].double() * width * baseline)  # moves about a pixel
    disparity = step * torch.arange(_PLANES, dtype=torch.float64)
    pixels = pixel_centers(height, width, pictures[0].device).view(-1, 2)
    rays = camera_rays(pixels, intrinsics[0]).double()
    alike = torch.full((), torch.inf)
    for picture, other, camera in zip(pictures[1:], extrinsics[1:], intrinsics[1:], strict=True):
        places = _sweep(rays, invert_rigid(other.double()) @ pose, camera.double(), disparity)
        alike = torch.minimum(alike, _alikeness(pictures[0], picture, places))
    plane, good = _unique_peak(alike.where(alike.isfinite(), -1))
    textured = _texture(pictures[0]) > _TEXTURE
    good &= textured
    good = _supported(good, plane.clamp(min=1).log())
    rays = rays.view(height, width, 3)[::_STRIDE, ::_STRIDE]
    found = plane[good].double()
    if not len(found) or float(found.quantile(0.75)) < _MEASURED:
        return SweptPoints(torch.zeros(0, 3), int(textured.sum()))
    points = rays[good] / (step * found.clamp(min=1))[:, None]
    positions = (points @ pose[:3, :3].mT + pose[:3, 3]).float()
    return SweptPoints(positions, int(textured.sum()))


def sweep_depth(
    pictures: Sequence[Float[Tensor, "_h _w"]],
    extrinsics: Float[Tensor, "v 4 4"],
    intrinsics: Float[Tensor, "v 3 3"],
    near: float,
    far: float,
) -> Float[Tensor, "rows columns"]:
    """Depth of every second pixel of the first photograph's rows and columns; 0 where none fits.

    Where it is hidden in some of the others, those in which it looks most alike decide. Depths are
    likely, not sure: some are wrong, which other photographs' depths are to show.

    Args:
        pictures: Grey photographs in [0, 1], about a hundred pixels a side.
        extrinsics: Their camera-to-world matrices.
        intrinsics: Their normalised intrinsics.
        near: Nearest depth that is looked for.
        far: Farthest depth.
    """
    height, width = pictures[0].shape
    pose = extrinsics[0].double()
    baseline = (extrinsics[1:, :3, 3].double() - pose[:3, 3]).norm(dim=-1).max()
    moved = float(intrinsics[0, 0, 0] * width * baseline * (1 / near - 1 / far))  # pixels
    planes = min(max(math.ceil(moved), _FEWEST_PLANES), _MOST_PLANES)
    disparity = torch.linspace(1 / far, 1 / near, planes, dtype=torch.float64)
    pixels = pixel_centers(height, width, pictures[0].device).view(-1, 2)
    rays = camera_rays(pixels, intrinsics[0]).double()
    alike = []
    for picture, other, camera in zip(pictures[1:], extrinsics[1:], intrinsics[1:], strict=True):
        places = _sweep(rays, invert_rigid(other.double()) @ pose, camera.double(), disparity)
        found = _alikeness(pictures[0], picture, places)
        alike.append(found.where(found.isfinite(), -1))
    most = torch.stack(alike).topk(max(1, len(alike) // 2), dim=0).values.mean(dim=0)
    best, place = most.max(dim=0)
    good = (best > _LIKELY) & (place > 0) & (place < planes - 1)
    good &= _texture(pictures[0]) > _LITTLE_TEXTURE
    found = disparity[0] + _between_planes(most, place) * (disparity[1] - disparity[0])
    return (1 / found).float().where(good, 0)


def _sweep(
    rays: Float[Tensor, "p 3"],
    pose: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    disparity: Float[Tensor, " d"],
) -> Float[Tensor, "d p 3"]:
    """Homogeneous image points, in a second camera, of a first one's rays at every disparity."""
    at_infinity = (rays @ (intrinsics @ pose[:3, :3]).mT).float()
    return at_infinity + (disparity[:, None, None] * (intrinsics @ pose[:3, 3])).float()


def _alikeness(
    own: Float[Tensor, "h w"], other: Float[Tensor, "h2 w2"], places: Float[Tensor, "d p 3"]
) -> Float[Tensor, "d rows columns"]:
    """How alike every second pixel's patch is what the other picture shows in its place, for every
    disparity: their correlation; infinite where it does not show it and so has no say.
    """
    height, width = own.shape
    place = places[..., :2] / places[..., 2:].clamp(min=1e-9)
    margin = place.new_tensor([_PATCH / 2 / other.shape[1], _PATCH / 2 / other.shape[0]])
    inside = (places[..., 2] > 0) & ((place > margin) & (place < 1 - margin)).all(dim=-1)
    grid = (2 * place.clamp(-1, 2) - 1).view(-1, height, width, 2)
    warped = F.grid_sample(other.expand(len(grid), 1, -1, -1) - 0.5, grid, align_corners=False)
    own = own[None, None] - 0.5
    mean, warped_mean = _mean(own), _mean(warped)
    variance = (_mean(own * own) - mean.square()).clamp(min=0) + _NOISE
    warped_variance = (_mean(warped * warped) - warped_mean.square()).clamp(min=0) + _NOISE
    covariance = _mean(own * warped) - mean * warped_mean
    alike = covariance * (variance * warped_variance).rsqrt()
    inside = inside.view(-1, height, width)[:, ::_STRIDE, ::_STRIDE]
    return alike.squeeze(1).where(inside, torch.inf)


def _unique_peak(
    alike: Float[Tensor, "d h w"],
) -> tuple[Float[Tensor, "h w"], Bool[Tensor, "h w"]]:
    """The plane, or a place between two, at which each patch fits best, and whether only there."""
    best, place = alike.max(dim=0)
    plane = torch.arange(len(alike))[:, None, None]
    elsewhere = alike.masked_fill((plane - place).abs() <= _PEAK, -1).amax(dim=0)
    good = (best > _ALIKE) & (elsewhere < best - _UNIQUE) & (place < len(alike) - 1)
    return _between_planes(alike, place), good


def _between_planes(
    alike: Float[Tensor, "d h w"], place: Int[Tensor, "h w"]
) -> Float[Tensor, "h w"]:
    """Where a parabola through the best plane and those beside it is highest."""
    inner = place.clamp(1, len(alike) - 2)
    before, at, after = (
        alike.gather(0, (inner + shift)[None])[0].clamp(min=-1) for shift in (-1, 0, 1)
    )
    bend = (before - 2 * at + after).clamp(max=-1e-6)
    return place + ((before - after) / (2 * bend)).clamp(-0.5, 0.5).where(inner == place, 0)


def _supported(good: Bool[Tensor, "h w"], log: Float[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Good pixels that enough of their neighbours agree with about the depth."""
    limit = float(torch.tensor(_SAME_DEPTH).log())
    around = F.pad(log, (1, 1, 1, 1)).unfold(0, 3, 1).unfold(1, 3, 1)
    there = F.pad(good, (1, 1, 1, 1)).unfold(0, 3, 1).unfold(1, 3, 1)
    agreeing = there & ((around - log[:, :, None, None]).abs() <= limit)
    return good & (agreeing.sum(dim=(-2, -1)) > _NEIGHBOURS)  # one more: the patch itself


def _texture(grey: Float[Tensor, "h w"]) -> Float[Tensor, "rows columns"]:
    """How much every patch changes in the direction in which it changes least."""
    down, across = torch.gradient(grey)
    products = torch.stack([down * down, across * across, down * across])
    xx, yy, xy = _mean(products[None])[0]
    root = ((xx - yy).square() / 4 + xy.square()).sqrt()
    return ((xx + yy) / 2 - root).clamp(min=0).sqrt()


def _mean(values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c rows columns"]:
    """Means over patches, rows first, which is cheaper than both at a time."""
    for size, stride in (((_PATCH, 1), (_STRIDE, 1)), ((1, _PATCH), (1, _STRIDE))):
        padding = (size[0] // 2, size[1] // 2)
        values = F.avg_pool2d(values, size, stride, padding, count_include_pad=False)
    return values
