"""Choosing context views: pairs that can be matched, which together see as much as possible.

Two views reconstruct what they share if they overlap and see it from angles that differ neither
too little (no parallax) nor too much (nothing looks alike). A set of views is judged by how much
of every view's content is seen, from a similar side, by a chosen view that has a good partner.
Nothing here is random, and equal choices are decided in favour of the lower frame number.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvsplat.geometry.overlap import ViewPairs, compare_views, frustum_points, visible_points

# The best triangulation angle and how fast views get worse below and above it, in degrees: the
# shape of the view score of Yao et al., "MVSNet", ECCV 2018, with gentler flanks.
_BEST_ANGLE, _BELOW, _ABOVE = 8.0, 4.0, 15.0
_ENOUGH_OVERLAP = 0.6  # more overlap makes a pair no better
_NO_PAIR = 0.01  # a quality below this is none
OTHER_SIDE = 45.0  # degrees from which on content counts as another side of things
MOST_CANDIDATES = 200
_MOST_EXCHANGES = 100
_PARTNERS_COUNT = 1e-3  # breaks ties

# Below these, a context view has no partner to speak of.
LITTLE_OVERLAP, LITTLE_ANGLE, NO_ANGLE = 0.15, 0.5, 0.02


def choose_context(
    extrinsics: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
    near: float,
    far: float,
    count: int = 2,
    points: Float[Tensor, "p 3"] | None = None,
) -> Int[Tensor, " count"]:
    """The context views to reconstruct a scene from, in ascending order.

    Works for turntables, walks, forward motion and captures from several sides: far-apart sides
    get pairs of their own. Without any parallax (a camera that only turns, or none at all) the
    views are those that cover most; :func:`context_problems` says so. Of more than 200 views, 200
    evenly spaced ones are candidates.

    Args:
        extrinsics: Camera-to-world matrices of the views to choose from.
        intrinsics: Their normalised intrinsics.
        near: Nearest depth of the scene; the overlap depends on it.
        far: Farthest depth.
        count: Number of context views.
        points: Sparse points of the scene, which tell the overlap better than the bounds do.

    Raises:
        ValueError: There are fewer views than ``count``, or the bounds make no sense.
    """
    chosen = torch.linspace(0, len(extrinsics) - 1, min(len(extrinsics), MOST_CANDIDATES))
    if count > len(chosen) > 0 and len(chosen) == MOST_CANDIDATES:
        chosen = torch.arange(len(extrinsics))
    candidates = chosen.round().long()
    pose, camera = extrinsics[candidates], intrinsics[candidates]
    shown = frustum_points(pose, camera, near, far)
    if points is not None and len(points):
        shown = visible_points(points, pose, camera)
    return candidates[best_context(compare_views(shown, pose, camera), count)]


def best_context(pairs: ViewPairs, count: int) -> Int[Tensor, " count"]:
    """The choice of :func:`choose_context`, from the measures of all pairs of views.

    Raises:
        ValueError: There are fewer views than ``count``, or fewer than one is asked for.
    """
    total = len(pairs.overlap)
    if not 1 <= count <= total:
        raise ValueError(f"{count} context views are asked for, of {total} views")
    coverage, quality = _coverage(pairs), pair_quality(pairs)
    chosen: list[int] = []
    while len(chosen) < count:
        chosen += _next(chosen, min(2, count - len(chosen)), coverage, quality)
    return torch.tensor(sorted(_improved(chosen, coverage, quality)))


def pair_quality(pairs: ViewPairs) -> Float[Tensor, "n n"]:
    """How well each two views can be matched, in [0, 1]; 0 for a view with itself."""
    angle = pairs.angle.nan_to_num(180.0)
    angle = torch.maximum(angle, angle.mT)
    width = torch.where(angle < _BEST_ANGLE, _BELOW, _ABOVE)
    by_angle = torch.exp(-((angle - _BEST_ANGLE) ** 2) / (2 * width**2))
    quality = by_angle * (pairs.mutual / _ENOUGH_OVERLAP).clamp(max=1)
    return quality.where(quality > _NO_PAIR, 0).fill_diagonal_(0)


class PoorPartners(NamedTuple):
    """Context views without another that shows the same from another place.

    Args:
        one_spot: All cameras stand in one place; the rest is empty then.
        apart: (view, the one that overlaps it most, share of its content) of little overlap.
        close: (view, the one that overlaps it most) where no view has enough parallax.
    """

    one_spot: bool
    apart: list[tuple[int, int, float]]
    close: list[tuple[int, int]]


def poor_partners(pairs: ViewPairs, little_overlap: float = LITTLE_OVERLAP) -> PoorPartners:
    """Find context views that have no partner to speak of.

    Args:
        pairs: Measures of two context views or more.
        little_overlap: The share of a view's content that a partner must show.
    """
    overlap = pairs.mutual.fill_diagonal_(-1)
    angle = torch.minimum(pairs.angle, pairs.angle.mT).nan_to_num(0)
    found = PoorPartners(bool((angle.max() < NO_ANGLE) & (overlap.max() > 0)), [], [])
    if found.one_spot:
        return found
    for view, row in enumerate(overlap):
        share, partner = float(row.max()), int(row.argmax())
        if share < little_overlap:
            found.apart.append((view, partner, share))
        elif float(angle[view].max()) < LITTLE_ANGLE:
            found.close.append((view, partner))
    return found


def context_problems(pairs: ViewPairs, names: Sequence[object]) -> list[str]:
    """What is wrong with context views, in sentences; empty if nothing is.

    Args:
        pairs: Measures of the context views alone.
        names: What to call each of them.
    """
    if len(names) < 2:
        return ["a single context view leaves nothing to match"]
    found = poor_partners(pairs)
    if found.one_spot:
        return ["the cameras are all in one place: without parallax depth is a guess"]
    apart = [
        f"view {names[view]} shares at most {share:.0%} with another context view"
        for view, _, share in found.apart
    ]
    close = [
        f"view {names[view]} and view {names[partner]} see everything from less than "
        f"{LITTLE_ANGLE} degrees apart: too little parallax for depth"
        for view, partner in found.close
    ]
    return apart + close


def _coverage(pairs: ViewPairs) -> Float[Tensor, "n n"]:
    """How much of the row's content the column shows from a similar side."""
    angle = (pairs.angle.nan_to_num(180.0) / OTHER_SIDE).clamp(max=1)
    return (pairs.overlap * (angle * torch.pi / 2).cos()).fill_diagonal_(1)


def _next(
    chosen: list[int],
    room: int,
    coverage: Float[Tensor, "n n"],
    quality: Float[Tensor, "n n"],
) -> list[int]:
    """The view, or (where there is room) the pair of views a view, that adds most."""
    scores = _scores_with(chosen, coverage, quality)
    best = _first_largest(scores)
    if room < 2:
        return [best]
    total, covered = len(coverage), _covered(chosen, coverage, quality)
    gains = torch.full((total, total), -torch.inf, dtype=torch.float64)
    for view in range(total):
        pair = torch.maximum(coverage[:, view, None], coverage) * quality[view]  # [n, others]
        gains[view] = torch.maximum(covered[:, None], pair).sum(0) - covered.sum()
    gains[chosen] = gains[:, chosen] = -torch.inf
    gains.fill_diagonal_(-torch.inf)
    first, second = divmod(_first_largest(gains.flatten()), total)
    if chosen and scores[best] - covered.sum() >= gains[first, second] / 2:
        return [best]
    return [first, second]


def _improved(
    chosen: list[int], coverage: Float[Tensor, "n n"], quality: Float[Tensor, "n n"]
) -> list[int]:
    """Exchange one view at a time for the best in its place, until all are that."""
    kept = 0
    for exchange in range(_MOST_EXCHANGES):
        place = exchange % len(chosen)
        rest = [*chosen[:place], *chosen[place + 1 :]]
        scores = _scores_with(rest, coverage, quality)
        best = _first_largest(scores)
        if scores[best] > scores[chosen[place]] * (1 + 1e-6):
            chosen, kept = [*chosen[:place], best, *chosen[place + 1 :]], 0
        kept += 1
        if kept > len(chosen):
            break
    return chosen


def _scores_with(
    chosen: list[int], coverage: Float[Tensor, "n n"], quality: Float[Tensor, "n n"]
) -> Float[Tensor, " n"]:
    """How good the chosen views and each further one are together; -inf for the chosen ones.

    That is the content covered by views with good partners, summed over the views of the scene;
    where it is the same, the partners count.
    """
    to_others = quality[chosen]  # [chosen, n]
    partner = torch.maximum(_partners(chosen, quality)[:, None], to_others)
    own = to_others.max(0).values if chosen else quality.new_zeros(len(quality))
    covered = coverage * own
    for view, of_view in zip(chosen, partner, strict=True):
        covered = torch.maximum(covered, coverage[:, view, None] * of_view)
    scores = covered.sum(0) + _PARTNERS_COUNT * (partner.sum(0) + own)
    scores[chosen] = -torch.inf
    return scores


def _covered(
    chosen: list[int], coverage: Float[Tensor, "n n"], quality: Float[Tensor, "n n"]
) -> Float[Tensor, " n"]:
    """How much of every view's content is covered, by views as good as their best partner."""
    if not chosen:
        return coverage.new_zeros(len(coverage))
    return (coverage[:, chosen] * _partners(chosen, quality)).max(-1).values


def _partners(chosen: list[int], quality: Float[Tensor, "n n"]) -> Float[Tensor, " v"]:
    """Of every chosen view, the quality of its best partner."""
    return quality[chosen][:, chosen].max(-1).values if chosen else quality.new_zeros(0)


def _first_largest(values: Float[Tensor, " n"]) -> int:
    """The first of the values that are largest but for rounding."""
    top = values.max()
    return int((values >= top - 1e-6 * top.abs()).nonzero()[0, 0])
