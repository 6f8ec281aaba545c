"""Which other views each view is matched with."""

import torch
from jaxtyping import Int
from torch import Tensor

from mvsplat.types import Views

# With no more views than this, every view is matched with all others.
ALWAYS_ALL = 3


def checked(nearest: int | None) -> int | None:
    """The argument of :func:`neighbours`; ValueError where it would leave none."""
    if nearest is not None and nearest < 1:
        raise ValueError(f"nearest_views is {nearest}: expected 1 or more, or null for all")
    return nearest


def neighbours(views: Views, nearest: int | None) -> Int[Tensor, "s v u"]:
    """For each view, the indices of the others that it is matched with.

    All others in ascending order; from four views on, if ``nearest`` is given, so many of them,
    those with the nearest camera centres, nearest first (DepthSplat, Xu et al., 2025).

    Returns:
        For each scene; for all of them at once (s = 1) where they do not differ.
    """
    count = views.extrinsics.shape[1]
    if nearest is None or count <= ALWAYS_ALL:
        return other_views(count, views.extrinsics.device)
    centers = views.extrinsics[..., :3, 3].float()
    distances = (centers[:, :, None] - centers[:, None]).norm(dim=-1)
    distances = distances + torch.diag(distances.new_full((count,), torch.inf))
    # Stable: of views in one place, the first.
    return distances.sort(dim=-1, stable=True).indices[..., : min(nearest, count - 1)]


def other_views(views: int, device: torch.device) -> Int[Tensor, "1 v u"]:
    """For each view, the indices of the others."""
    # Not cached: torch.compile looks through this, and it copies nothing to the device.
    offsets = torch.arange(views, device=device)[:, None] + torch.arange(1, views, device=device)
    return (offsets % views).sort(dim=1).values[None]
