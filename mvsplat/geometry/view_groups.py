"""All views of a scene in groups that are matched with each other, each view's content taken once.

A network predicts a few views at a time. Here every view gets partners that suit it (by overlap and
parallax, as context views are chosen), in as few groups as that allows.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvsplat.geometry.overlap import ViewPairs, compare_views, frustum_points, visible_points
from mvsplat.geometry.view_choice import OTHER_SIDE, pair_quality

_AS_GOOD = 0.6  # of the best partner's worth, from which on a partner will do
_MOST_LOOKS = 2**27  # points times views times views


class ViewGroup(NamedTuple):
    """Views that are predicted together.

    Args:
        members: Their numbers, the first one with its partners.
        owned: Those of them whose prediction is taken from this group.
    """

    members: tuple[int, ...]
    owned: tuple[int, ...]


def measure_views(
    extrinsics: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
    near: float,
    far: float,
    points: Float[Tensor, "p 3"] | None = None,
) -> ViewPairs:
    """Measures of all pairs of views, from fewer sample points the more views there are.

    Args:
        extrinsics: Camera-to-world matrices.
        intrinsics: Normalised intrinsics.
        near: Nearest depth of the scene.
        far: Farthest depth.
        points: Sparse points of the scene, which tell the overlap better than the bounds do.

    Raises:
        ValueError: The bounds make no sense.
    """
    samples = _MOST_LOOKS // len(extrinsics) ** 2
    if points is not None and bool(points.isfinite().all(dim=-1).any()):
        most = min(2000, max(100, samples))
        shown = visible_points(points, extrinsics, intrinsics, most)
    else:
        grid = min(12, max(4, int((samples / 6) ** 0.5)))
        shown = frustum_points(extrinsics, intrinsics, near, far, grid)
    return compare_views(shown, extrinsics, intrinsics)


def neighbour_groups(pairs: ViewPairs, size: int) -> list[ViewGroup]:
    """Groups of ``size`` views (all of them, if they are fewer) that own each view once.

    A view is the first of a group unless an earlier group already has it beside a partner that is
    about as good for it as any; so there are between n / size and n groups.
    """
    total = len(pairs.overlap)
    size = min(size, total)
    worth = partner_worth(pairs)
    best = worth.max(dim=1).values
    suits = worth >= _AS_GOOD * best[:, None]
    free = torch.ones(total, dtype=torch.bool)
    groups = []
    for first in range(total):
        if not free[first]:
            continue
        free[first] = False
        # Partners that are still free save a group, if first and partner suit each other.
        saves = free & suits[first] & suits[:, first]
        order = torch.argsort(worth[first] + saves, descending=True, stable=True)
        partners = order[order != first][: size - 1]
        owned = partners[saves[partners]]
        free[owned] = False
        groups.append(ViewGroup((first, *partners.tolist()), (first, *owned.tolist())))
    return groups


def neighbours(pairs: ViewPairs, most: int) -> list[Int[Tensor, " _m"]]:
    """Of each view the others that show its content from a similar side, those that show most
    first."""
    angle = (pairs.angle.nan_to_num(180.0) / OTHER_SIDE).clamp(max=1)
    shares = (pairs.overlap * (angle * torch.pi / 2).cos()).fill_diagonal_(0)
    found = shares.topk(min(most, len(shares)), dim=1)
    return [places[share > 0.05] for share, places in zip(found.values, found.indices, strict=True)]


def partner_worth(pairs: ViewPairs) -> Float[Tensor, "n n"]:
    """How well the column can be matched with the row, in [0, 1]; the diagonal is -1.

    Where no view has overlap and parallax, overlap decides, and where there is none, distance.
    """
    distance = pairs.baseline / pairs.baseline.max().clamp(min=1e-12)
    worth = pair_quality(pairs) + 1e-2 * pairs.mutual + 1e-4 * (1 - distance)
    return worth.fill_diagonal_(-1.0)
