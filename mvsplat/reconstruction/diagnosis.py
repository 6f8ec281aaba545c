"""What a user should know about photographs that make a poor scene, in sentences."""

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.bounds import Bounds, share_at_bounds
from mvsplat.geometry.overlap import ViewPairs
from mvsplat.geometry.view_choice import poor_partners
from mvsplat.geometry.view_groups import measure_views
from mvsplat.reconstruction.frames import UsedPhoto
from mvsplat.reconstruction.moving import moved_share

_BLURRED = 0.55  # sharp photographs have 0.3 to 0.45
_LITTLE_OVERLAP = 0.3
_MOVED = 0.01
_UNSEEN = 0.3
_PILED_UP = 0.2
_TOLD = 4
# Pictures in which movement is looked for, and how many pairs of them.
_MATCHED_SHAPE, _MATCHED_PAIRS = (256, 256), 12


def all_warnings(
    context: list[UsedPhoto],
    left_out: list[UsedPhoto],
    pairs: ViewPairs,
    bounds: Bounds,
    depth: Float[Tensor, "v h w"] | None,
) -> list[str]:
    """Everything that is worth a warning.

    Args:
        context: The photographs the scene is made from.
        left_out: Those it was compared with.
        pairs: Measures of all these photographs.
        bounds: The depth bounds.
        depth: Depth of the context photographs as a model estimated it, in the scene's unit.
    """
    return [
        *parallax_warnings(context, pairs),
        *coverage_warnings(context, left_out, pairs),
        *blur_warnings(context),
        *motion_warnings(context, pairs),
        *bounds_warnings(bounds, depth),
    ]


def measure_pairs(frames: list[UsedPhoto], bounds: Bounds) -> ViewPairs:
    """Overlap and parallax of photographs."""
    extrinsics = torch.stack([frame.extrinsics for frame in frames])
    intrinsics = torch.stack([frame.intrinsics for frame in frames])
    return measure_views(extrinsics, intrinsics, bounds.near, bounds.far)


def parallax_warnings(context: list[UsedPhoto], pairs: ViewPairs) -> list[str]:
    """Photographs without a partner that shows the same from another place."""
    found = poor_partners(pairs.first(len(context)), _LITTLE_OVERLAP)
    if found.one_spot:
        return [
            "Pure rotation: all photos were taken from one spot. Without moving sideways there is "
            "no depth to be seen; what you get is a guess."
        ]
    names = [frame.name for frame in context]
    apart = [
        f"Low overlap: {names[view]} shares only {share:.0%} of its view with {names[partner]}, "
        "and less with the others; expect holes and wrong depth. Add photos in between."
        for view, partner, share in found.apart
    ]
    close = [
        f"Little parallax: {names[view]} and {names[partner]} see everything from nearly the same "
        "spot; their depth is uncertain. Step sideways between photos."
        for view, partner in found.close
    ]
    return _few(apart, "photos share little with any other") + _few(
        close, "photos have little parallax"
    )


def _few(found: list[str], what: str) -> list[str]:
    """The first few of many sentences of one kind."""
    more = [f"... and {len(found) - _TOLD} more {what}."] if len(found) > _TOLD else []
    return [*found[:_TOLD], *more]


def coverage_warnings(
    context: list[UsedPhoto], left_out: list[UsedPhoto], pairs: ViewPairs
) -> list[str]:
    """Photographs that show what the context does not."""
    count = len(context)
    seen = pairs.overlap[count:, :count].amax(dim=-1).tolist()
    unseen = [frame.name for frame, share in zip(left_out, seen, strict=True) if share < _UNSEEN]
    if not unseen:
        return []
    more = f" ({_listed(unseen)})"
    return [
        f"Partly covered: {len(unseen)} of {len(left_out)} photos left out{more} show mostly what "
        "the photos used do not: their scores say little of the scene."
    ]


def blur_warnings(frames: list[UsedPhoto]) -> list[str]:
    """Blurred photographs among those the scene is made from."""
    blurred = [frame.name for frame in frames if frame.blur > _BLURRED]
    if not blurred:
        return []
    return [
        f"Blurred: {_listed(blurred)}. Blurred photos match badly; hold the camera still, or use "
        "more light."
    ]


def motion_warnings(context: list[UsedPhoto], pairs: ViewPairs) -> list[str]:
    """Pairs between which something in the scene moved."""
    overlap = pairs.first(len(context)).mutual.fill_diagonal_(-1)
    best = enumerate(overlap.argmax(dim=-1).tolist())
    couples = sorted({(min(pair), max(pair)) for pair in best if pair[0] != pair[1]})
    step = max(1, -(-len(couples) // _MATCHED_PAIRS))
    found = []
    for first, second in couples[::step]:
        two = [context[place].crop(_MATCHED_SHAPE) for place in (first, second)]
        share = moved_share(
            torch.stack([frame.pixels for frame in two]) / 255,
            torch.stack([frame.extrinsics for frame in two]),
            torch.stack([frame.intrinsics for frame in two]),
            [frame.mask for frame in two],
        )
        if share > _MOVED:
            found.append(
                f"Moving objects: {share:.0%} of what matches between {two[0].name} and "
                f"{two[1].name} is not where a still scene would have it. Moving things are "
                "smeared or doubled; wrong cameras look the same."
            )
    return _few(found, "pairs of photos show movement")


def bounds_warnings(bounds: Bounds, depth: Float[Tensor, "v h w"] | None) -> list[str]:
    """Depths that pile up at a bound, which then cuts the scene off."""
    if depth is None:
        return []
    known = depth[depth > 0]
    if not len(known):
        return []
    at_near, at_far = share_at_bounds(known, torch.tensor(bounds.near), torch.tensor(bounds.far))
    if at_near <= _PILED_UP:
        return []
    return [
        f"Depth bounds: {at_near:.0%} of the depths are at the near bound, {bounds.near:.3g}; a "
        "smaller --near may help."
    ]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
