"""Finding what moved between two photographs: it matches well, but not where it could be.

A patch of one photograph that a static scene shows must reappear on its epipolar line in the other.
A patch that reappears elsewhere, much more alike than anything on its line, and whose neighbours
moved along with it, belongs to something that moved.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvsplat.geometry.matching import match_patches, supported

_ALIKE = 0.9  # normalised correlation from which on two patches show the same
_BETTER = 0.25  # how much more alike than on the line
_BESIDE = 3.0  # pixels beside the epipolar line that may still be on it
_TOGETHER = 2.5  # pixels by which neighbours' movements may differ


def moved_share(
    images: Float[Tensor, "2 3 h w"],
    extrinsics: Float[Tensor, "2 4 4"],
    intrinsics: Float[Tensor, "2 3 3"],
    masks: Sequence[Bool[Tensor, "h w"] | None] = (None, None),
) -> float:
    """The share of the first photograph's textured patches that moved by the second one.

    Args:
        images: Two photographs, in [0, 1].
        extrinsics: Their camera-to-world matrices.
        intrinsics: Their normalised intrinsics.
        masks: Which pixels count, where not all do.
    """
    matches = match_patches(images, extrinsics, intrinsics)
    textured = matches.textured & _counted(masks[0], matches.start)
    if not bool(textured.any()):
        return 0.0
    best, place = matches.alike.max(dim=-1)
    on_line = torch.where(matches.off_line <= _BESIDE, matches.alike, -1).amax(dim=-1)
    moved = textured & (best > _ALIKE) & (on_line < best - _BETTER)
    moved &= _counted(masks[1], matches.positions)[place]
    moved = matches.returning(moved, place)
    moved = supported(moved, matches.movement(place), matches.raster, _TOGETHER)
    return float(moved.sum() / textured.sum())


def _counted(mask: Bool[Tensor, "h w"] | None, places: Float[Tensor, "n 2"]) -> Bool[Tensor, " n"]:
    """Whether the pixels at normalised places count."""
    if mask is None:
        return torch.ones(len(places), dtype=torch.bool)
    height, width = mask.shape
    column, row = (places * places.new_tensor([width, height])).long().unbind(-1)
    return mask[row.clamp(0, height - 1), column.clamp(0, width - 1)]
