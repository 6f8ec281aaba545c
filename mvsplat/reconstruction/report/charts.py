"""How refinement went, as a curve in SVG."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mvsplat.refinement.optimization import CurvePoint

_WIDTH, _HEIGHT = 560, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 34
_LINES = 5


class _Axes(NamedTuple):
    """Steps from 0 to the last across, decibels from low to high upwards."""

    last: int
    low: int
    high: int

    def x(self, step: int) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * step / max(self.last, 1), 1)

    def y(self, psnr: float | int) -> float:
        share = (psnr - self.low) / (self.high - self.low)
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share, 1)


def psnr_curve(points: Sequence[CurvePoint], best_step: int) -> str:
    """PSNR over steps, of the photographs that are optimised on and of those that judge.

    Args:
        points: What was measured; NaN where there was nothing to measure.
        best_step: The step whose scene was kept, marked.

    Returns:
        An ``svg`` element; empty if nothing was measured.
    """
    measured = {
        "training": [(point.step, point.training_psnr) for point in points],
        "validation": [(point.step, point.validation_psnr) for point in points],
    }
    lines = {n: [(s, v) for s, v in line if math.isfinite(v)] for n, line in measured.items()}
    values = [value for line in lines.values() for _, value in line]
    if not values:
        return ""
    low = math.floor(min(values))
    axes = _Axes(max(point.step for point in points), low, max(math.ceil(max(values)), low + 1))
    return "\n".join(
        [
            f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="PSNR over steps">',
            *_grid(axes),
            f'<line class="best" x1="{axes.x(best_step)}" x2="{axes.x(best_step)}" y1="{_TOP}" '
            f'y2="{_HEIGHT - _BOTTOM}"><title>best: step {best_step}</title></line>',
            *(_polyline(name, line, axes) for name, line in lines.items() if line),
            "</svg>",
        ]
    )


def _grid(axes: _Axes) -> list[str]:
    distance = max(1, -(-(axes.high - axes.low) // _LINES))
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{axes.y(psnr)}" '
        f'y2="{axes.y(psnr)}"/><text x="{_LEFT - 6}" y="{axes.y(psnr) + 4}" '
        f'text-anchor="end">{psnr}</text>'
        for psnr in range(axes.low, axes.high + 1, distance)
    ]
    for step, anchor in ((0, "start"), (axes.last, "end")):
        parts.append(
            f'<text x="{axes.x(step)}" y="{_HEIGHT - 12}" text-anchor="{anchor}">step {step}</text>'
        )
    return parts


def _polyline(name: str, line: Sequence[tuple[int, float]], axes: _Axes) -> str:
    places = " ".join(f"{axes.x(step)},{axes.y(psnr)}" for step, psnr in line)
    return f'<polyline class="{name}" points="{places}"/>'
