"""Finding what moved between two photographs: it matches well, but not where it could be.

A patch of one photograph that a static scene shows must reappear on its epipolar line in the other.
A patch that reappears elsewhere, much more alike than anything on its line, and whose neighbours
moved along with it, belongs to something that moved.
"""

import torch
from jaxtyping import Float
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
) -> float:
    """The share of the first photograph's textured patches that moved by the second one.

    Args:
        images: Two photographs, in [0, 1].
        extrinsics: Their camera-to-world matrices.
        intrinsics: Their normalised intrinsics.
    """
    matches = match_patches(images, extrinsics, intrinsics)
    textured = matches.textured
    if not bool(textured.any()):
        return 0.0
    best, place = matches.alike.max(dim=-1)
    on_line = torch.where(matches.off_line <= _BESIDE, matches.alike, -1).amax(dim=-1)
    moved = textured & (best > _ALIKE) & (on_line < best - _BETTER)
    moved = matches.returning(moved, place)
    moved = supported(moved, matches.movement(place), matches.raster, _TOGETHER)
    return float(moved.sum() / textured.sum())
