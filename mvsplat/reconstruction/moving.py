"""Finding what moved between two photographs: it matches well, but not where it could be.

A patch of one photograph that a static scene shows must reappear on its epipolar line in the other.
A patch that reappears elsewhere, much more alike than anything on its line, and whose neighbours
moved along with it, belongs to something that moved.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mvsplat.geometry.projection import homogeneous, invert_rigid, pixel_centers

_SIDE = 112  # pixels of the longer side at which patches are compared
_PATCH = 9
_STRIDE = 3
_TEXTURE = 0.01  # smaller eigenvalue of the structure tensor below which a patch matches anything
_ALIKE = 0.9  # normalised correlation from which on two patches show the same
_BETTER = 0.25  # how much more alike than on the line
_LINE_WIDTH = 3.0  # pixels beside the epipolar line that still count as on it
_COHERENT = 2.5  # pixels by which neighbours' movements may differ
_NEIGHBOURS = 3  # of eight


def moved_share(
    images: Float[Tensor, "2 3 h w"],
    extrinsics: Float[Tensor, "2 4 4"],
    intrinsics: Float[Tensor, "2 3 3"],
) -> float:
    """The share of the first photograph's textured patches that moved by the second one.

    Args:
        images: Two photographs, in [0, 1].
        extrinsics: Their camera-to-world matrices.
        intrinsics: Their normalised intrinsics.
    """
    grey = _reduced(images)
    height, width = grey.shape[-2:]
    patches = [_patches(picture) for picture in grey]
    rows = torch.arange(_STRIDE // 2, height - _PATCH + 1, _STRIDE)
    columns = torch.arange(_STRIDE // 2, width - _PATCH + 1, _STRIDE)
    across = width - _PATCH + 1
    chosen = (rows[:, None] * across + columns).flatten()
    textured = _texture(grey[0]).flatten()[chosen] > _TEXTURE
    if int(textured.sum()) == 0:
        return 0.0
    positions = pixel_centers(height, width, grey.device)
    half = _PATCH // 2
    positions = positions[half : height - half, half : width - half].reshape(-1, 2)
    alike = patches[0][chosen] @ patches[1].mT
    on_line = _near_line(positions[chosen], positions, extrinsics, intrinsics, (height, width))
    best, place = alike.max(dim=-1)
    best_on_line = torch.where(on_line, alike, -1).amax(dim=-1)
    back = (patches[1][place] @ patches[0].mT).argmax(dim=-1)
    size = positions.new_tensor([width, height])
    returns = ((positions[back] - positions[chosen]) * size).norm(dim=-1) <= _STRIDE
    moved = textured & returns & (best > _ALIKE) & (best_on_line < best - _BETTER)
    movement = (positions[place] - positions[chosen]) * size
    moved = _coherent(moved.view(len(rows), -1), movement.view(len(rows), -1, 2))
    return float(moved.sum() / textured.sum())


def _reduced(images: Float[Tensor, "2 3 h w"]) -> Float[Tensor, "2 h2 w2"]:
    grey = images.float().mean(dim=1, keepdim=True)
    scale = min(1.0, _SIDE / max(grey.shape[-2:]))
    size = [max(2 * _PATCH, round(side * scale)) for side in grey.shape[-2:]]
    return F.interpolate(grey, size=size, mode="area").squeeze(1)


def _patches(grey: Float[Tensor, "h w"]) -> Float[Tensor, "n p"]:
    """Every patch, without its mean and of length 1."""
    patches = F.unfold(grey[None, None], _PATCH)[0].mT
    patches = patches - patches.mean(dim=-1, keepdim=True)
    return patches / patches.norm(dim=-1, keepdim=True).clamp(min=1e-3)


def _texture(grey: Float[Tensor, "h w"]) -> Float[Tensor, "rows columns"]:
    """How much every patch changes in the direction in which it changes least."""
    down, across = torch.gradient(grey)
    products = torch.stack([down * down, across * across, down * across])
    xx, yy, xy = F.avg_pool2d(products[None], _PATCH, stride=1)[0]
    root = ((xx - yy).square() / 4 + xy.square()).sqrt()
    return ((xx + yy) / 2 - root).clamp(min=0).sqrt()


def _near_line(
    points: Float[Tensor, "n 2"],
    others: Float[Tensor, "m 2"],
    extrinsics: Float[Tensor, "2 4 4"],
    intrinsics: Float[Tensor, "2 3 3"],
    shape: tuple[int, int],
) -> Bool[Tensor, "n m"]:
    """Which pixels of the second photograph lie on the epipolar line of points of the first."""
    pixels = torch.diag(torch.tensor([shape[1], shape[0], 1.0], dtype=torch.float64))
    k = pixels @ intrinsics.double().cpu()
    pose = invert_rigid(extrinsics[1].double().cpu()) @ extrinsics[0].double().cpu()
    # In the second picture: where the first camera is, and where the points are at infinity.
    epipole = k[1] @ pose[:3, 3]
    at_infinity = (
        homogeneous(points.double().cpu())
        @ (k[1] @ pose[:3, :3] @ torch.linalg.inv(intrinsics[0].double().cpu())).mT
    )
    lines = torch.linalg.cross(epipole.expand_as(at_infinity), at_infinity)
    lines = lines / lines[:, :2].norm(dim=-1, keepdim=True).clamp(min=1e-12)
    there = homogeneous(others.double().cpu()) @ pixels
    return ((lines @ there.mT).abs() <= _LINE_WIDTH).to(points.device)


def _coherent(
    moved: Bool[Tensor, "rows columns"], movement: Float[Tensor, "rows columns 2"]
) -> Bool[Tensor, "rows columns"]:
    """Those of which enough neighbours moved by the same."""
    padded = F.pad(moved, (1, 1, 1, 1))
    moves = F.pad(movement, (0, 0, 1, 1, 1, 1))
    rows, columns = moved.shape
    agreeing = torch.zeros(rows, columns, dtype=torch.long, device=moved.device)
    for i in range(3):
        for j in range(3):
            if (i, j) == (1, 1):
                continue
            there = padded[i : i + rows, j : j + columns]
            by = moves[i : i + rows, j : j + columns]
            agreeing += there & ((by - movement).norm(dim=-1) <= _COHERENT)
    return moved & (agreeing >= _NEIGHBOURS)
