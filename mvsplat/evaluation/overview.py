"""What a scene looks like beside what the model makes of it, as rows of labelled pictures."""

import torch
from torch import Tensor

from mvsplat.evaluation import metrics
from mvsplat.export.images import (
    MIN_WIDTH,
    color_confidence,
    color_depth,
    color_error,
    depth_bounds,
)
from mvsplat.export.top_view import top_view
from mvsplat.types import Batch, Gaussians, Rendering

Row = list[tuple[str, Tensor]]


def overview_row(batch: Batch, scene: int, gaussians: Gaussians, rendering: Rendering) -> Row:
    """One row: the first and last context view, and the middle target view in all its pictures."""
    images = batch.context.image[scene].cpu()
    last, middle = len(images) - 1, batch.target.image.shape[1] // 2
    row = [(_label("context", batch.context.index, scene, v), images[v]) for v in sorted({0, last})]
    bounds = depth_range(batch, scene, gaussians, rendering)
    row += _target_row(batch, scene, middle, rendering, bounds)
    row += _depths(batch, scene, 0, gaussians, bounds, " of first view")
    row += _confidence(batch, scene, 0, gaussians, " of first view")
    return [*row, _map(batch, scene, gaussians)]


def scene_rows(
    batch: Batch, scene: int, gaussians: Gaussians, rendering: Rendering, targets: int = 4
) -> list[Row]:
    """A row for every context view and for a few target views, spread over all of them."""
    bounds = depth_range(batch, scene, gaussians, rendering)
    views, available = range(batch.context.image.shape[1]), batch.target.image.shape[1]
    chosen = torch.linspace(0, available - 1, min(targets, available)).round().long().tolist()
    first, *others = (_context_row(batch, scene, view, gaussians, bounds) for view in views)
    return [
        [*first, _map(batch, scene, gaussians)],
        *others,
        *(_target_row(batch, scene, view, rendering, bounds) for view in chosen),
    ]


def _context_row(
    batch: Batch, scene: int, view: int, gaussians: Gaussians, bounds: tuple[float, float]
) -> Row:
    image = batch.context.image[scene, view].cpu()
    row = [(_label("context", batch.context.index, scene, view), image)]
    row += _depths(batch, scene, view, gaussians, bounds)
    return row + _confidence(batch, scene, view, gaussians)


def _confidence(batch: Batch, scene: int, view: int, gaussians: Gaussians, which: str = "") -> Row:
    """How sure the coarse depth is: the largest probability of its candidates."""
    if gaussians.estimate is None:
        return []
    confidence = gaussians.estimate.confidence[scene, view].detach().cpu()
    size = (batch.context.image.shape[-2], batch.context.image.shape[-1])
    enlarged = torch.nn.functional.interpolate(confidence[None, None].float(), size=size)[0, 0]
    return [(f"confidence{which}", color_confidence(enlarged))]


def _map(batch: Batch, scene: int, gaussians: Gaussians) -> tuple[str, Tensor]:
    height, width = batch.context.image.shape[-2:]
    size = height * max(1, round(MIN_WIDTH / width))  # as large as the sheet shows the pictures
    return ("from above", top_view(gaussians, batch.context, batch.target, scene, size))


def _depths(
    batch: Batch,
    scene: int,
    view: int,
    gaussians: Gaussians,
    bounds: tuple[float, float],
    which: str = "",
) -> Row:
    """A context view's depth, as estimated and as it is, as far as they are known."""
    row = []
    if gaussians.estimate is not None:
        estimated = gaussians.estimate.depth[scene, view].detach().cpu()
        row.append((f"estimated depth{which}", color_depth(estimated, bounds)))
    if batch.context.depth is not None:
        exact = batch.context.depth[scene, view].cpu()
        row.append((f"exact depth{which}", color_depth(exact, bounds)))
    return row


def _target_row(
    batch: Batch, scene: int, view: int, rendering: Rendering, bounds: tuple[float, float]
) -> Row:
    truth = batch.target.image[scene, view].cpu().float()
    color = rendering.color[scene, view].detach().cpu().float()
    depth = rendering.depth[scene, view].detach().cpu().float()
    return [
        (_label("target", batch.target.index, scene, view), truth),
        (f"rendering, {metrics.psnr(color, truth):.1f} dB", color),
        ("error", color_error(color, truth)),
        ("depth", color_depth(depth, bounds)),
    ]


def _label(kind: str, index: Tensor | None, scene: int, view: int) -> str:
    return f"{kind} {view if index is None else int(index[scene, view])}"


def depth_range(
    batch: Batch, scene: int, gaussians: Gaussians, rendering: Rendering
) -> tuple[float, float]:
    """One range of depths for all of a scene's pictures, so that colours can be compared."""
    if batch.context.depth is not None:
        return depth_bounds(batch.context.depth[scene])
    if gaussians.estimate is not None:
        return depth_bounds(gaussians.estimate.depth[scene].detach())
    return depth_bounds(rendering.depth[scene].detach())
