"""Patches of one photograph found again in another, by normalised correlation.

Coarse, dense and quick: pictures are reduced to about a hundred pixels a side and every patch is
compared with every other, wherever it is. That is enough to see whether something moved.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mvsplat.geometry.projection import homogeneous, invert_rigid, pixel_centers

_SIDE = 112  # pixels of the longer side at which patches are compared
_PATCH = 9
_STRIDE = 3
_TEXTURE = 0.01  # smaller eigenvalue of the structure tensor below which a patch matches anything
_RETURN = 3.0  # pixels by which a match may miss its start when matched back


@dataclass
class PatchMatches:
    """Patches of a first photograph, on a raster, compared with all of a second.

    Args:
        raster: Rows and columns of the first photograph's patches.
        size: Width and height of the reduced pictures in pixels.
        start: Normalised centres of the first photograph's patches.
        positions: Normalised centres of all patches of the second.
        alike: How alike they are, in [-1, 1].
        off_line: Pixels between the second's patches and the first's epipolar lines.
        textured: Which of the first's patches can be told from their surroundings.
        patches: Of each photograph its patches, normalised.
        chosen: Which of the first photograph's patches are on the raster.
    """

    raster: tuple[int, int]
    size: Float[Tensor, "2"]
    start: Float[Tensor, "n 2"]
    positions: Float[Tensor, "m 2"]
    alike: Float[Tensor, "n m"]
    off_line: Float[Tensor, "n m"]
    textured: Bool[Tensor, " n"]
    patches: Float[Tensor, "2 m p"]
    chosen: Int[Tensor, " n"]

    def movement(self, place: Int[Tensor, " n"]) -> Float[Tensor, "n 2"]:
        """From each patch to the given one of the second photograph, in pixels."""
        return (self.positions[place] - self.start) * self.size

    def returning(
        self, candidates: Bool[Tensor, " n"], place: Int[Tensor, " n"]
    ) -> Bool[Tensor, " n"]:
        """Those candidates whose match, searched for in the first photograph, is found at them."""
        some = candidates.nonzero().squeeze(-1)
        back = (self.patches[1][place[some]] @ self.patches[0].mT).argmax(dim=-1)
        missed = ((self.positions[back] - self.start[some]) * self.size).norm(dim=-1)
        return candidates.index_put((some,), missed <= _RETURN)


def match_patches(
    images: Float[Tensor, "2 3 h w"],
    extrinsics: Float[Tensor, "2 4 4"],
    intrinsics: Float[Tensor, "2 3 3"],
) -> PatchMatches:
    """Compare all patches of two photographs.

    Args:
        images: Two photographs, in [0, 1].
        extrinsics: Their camera-to-world matrices.
        intrinsics: Their normalised intrinsics.
    """
    grey = _reduced(images)
    height, width = grey.shape[-2:]
    patches = torch.stack([_patches(picture) for picture in grey])
    rows = torch.arange(_STRIDE // 2, height - _PATCH + 1, _STRIDE)
    columns = torch.arange(_STRIDE // 2, width - _PATCH + 1, _STRIDE)
    chosen = (rows[:, None] * (width - _PATCH + 1) + columns).flatten()
    half = _PATCH // 2
    positions = pixel_centers(height, width, grey.device)
    positions = positions[half : height - half, half : width - half].reshape(-1, 2)
    size = positions.new_tensor([width, height])
    return PatchMatches(
        raster=(len(rows), len(columns)),
        size=size,
        start=positions[chosen],
        positions=positions,
        alike=patches[0][chosen] @ patches[1].mT,
        off_line=_off_line(positions[chosen], positions, extrinsics, intrinsics, size),
        textured=_texture(grey[0]).flatten()[chosen] > _TEXTURE,
        patches=patches,
        chosen=chosen,
    )


def supported(
    good: Bool[Tensor, " n"],
    value: Float[Tensor, "n d"],
    raster: tuple[int, int],
    limit: float,
    least: int = 3,
) -> Bool[Tensor, " n"]:
    """Good patches of which enough of the eight neighbours on the raster are good and agree.

    Args:
        good: Which patches count.
        value: What neighbours must agree on.
        raster: Rows and columns.
        limit: The largest difference that is agreement.
        least: How many neighbours must agree.
    """
    rows, columns = raster
    marked = F.pad(good.view(raster), (1, 1, 1, 1))
    values = F.pad(value.view(rows, columns, -1), (0, 0, 1, 1, 1, 1))
    agreeing = torch.zeros(raster, dtype=torch.long, device=good.device)
    for i in range(3):
        for j in range(3):
            if (i, j) != (1, 1):
                near = values[i : i + rows, j : j + columns] - values[1:-1, 1:-1]
                there = marked[i : i + rows, j : j + columns]
                agreeing += there & (near.norm(dim=-1) <= limit)
    return good & (agreeing >= least).flatten()


def _reduced(images: Float[Tensor, "2 3 h w"]) -> Float[Tensor, "2 h2 w2"]:
    grey = images.float().mean(dim=1, keepdim=True)
    scale = min(1.0, _SIDE / max(grey.shape[-2:]))
    size = [max(2 * _PATCH, round(side * scale)) for side in grey.shape[-2:]]
    return F.interpolate(grey, size=size, mode="area").squeeze(1)


def _patches(grey: Float[Tensor, "h w"]) -> Float[Tensor, "m p"]:
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


def _off_line(
    points: Float[Tensor, "n 2"],
    others: Float[Tensor, "m 2"],
    extrinsics: Float[Tensor, "2 4 4"],
    intrinsics: Float[Tensor, "2 3 3"],
    size: Float[Tensor, "2"],
) -> Float[Tensor, "n m"]:
    """Pixels between points of the second photograph and epipolar lines of points of the first."""
    pixels = torch.diag(torch.cat([size.double(), size.new_ones(1).double()]))
    first, second = intrinsics.double()
    pose = invert_rigid(extrinsics[1].double()) @ extrinsics[0].double()
    # In the second picture: where the first camera is, and where the points are at infinity.
    epipole = pixels @ second @ pose[:3, 3]
    to_infinity = pixels @ second @ pose[:3, :3] @ torch.linalg.inv(first)
    at_infinity = homogeneous(points.double()) @ to_infinity.mT
    lines = torch.linalg.cross(epipole.expand_as(at_infinity), at_infinity)
    lines = lines / lines[:, :2].norm(dim=-1, keepdim=True).clamp(min=1e-12)
    there = homogeneous(others.double()) @ pixels
    return (lines.float() @ there.float().mT).abs_()
