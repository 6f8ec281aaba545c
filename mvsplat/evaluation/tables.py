"""Results for the terminal."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mvsplat.evaluation.means import (
    METHODS,
    extreme_scenes,
    groups,
    mean_scores,
    median_timing,
    metrics_of,
)
from mvsplat.evaluation.metric_table import DESCRIPTIONS, MetricDescription
from mvsplat.evaluation.scoring import Result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_results(results: list[Result], console: "Console", missing: str = "") -> None:
    """The table, groups, cost, and the scenes that came out worst and best.

    Args:
        results: The scenes' results.
        console: Where to.
        missing: What makes the results incomplete, if anything does.
    """
    console.print(results_table(results, complete=not missing))
    for kind, found in groups(results).items():
        console.print(group_table(kind, found))
    for line in (*_cost(results), *_extremes(results)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if missing:
        line = f"INCOMPLETE: {missing}"
        console.print(line, style="bold yellow", markup=False, soft_wrap=True)


def results_table(results: list[Result], complete: bool = True) -> "Table":
    """The mean scores as a table for the terminal, the best of each column in bold."""
    from rich.table import Table

    means, columns = mean_scores(results), metrics_of(results)
    best = {metric: _best(means, metric, shown) for metric, shown in columns.items()}
    scenes = "1 scene" if len(results) == 1 else f"{len(results)} scenes"
    table = Table(title=f"Mean over {scenes}" + ("" if complete else " (incomplete)"))
    table.add_column("")
    for shown in columns.values():
        table.add_column(shown.column, justify="right")
    for method, row in means.items():
        cells = []
        for metric, shown in columns.items():
            text = shown.number(row[metric]) if metric in row else ""
            cells.append(f"[bold]{text}[/bold]" if row.get(metric) == best[metric] else text)
        table.add_row(METHODS.get(method, method), *cells)
    return table


def _best(
    means: dict[str, dict[str, float]], metric: str, shown: MetricDescription
) -> float | None:
    """The best method's mean; None where nobody knows which way is better."""
    values = [row[metric] for row in means.values() if metric in row]
    return max(values, key=shown.gain) if shown.better and values else None


def group_table(kind: str, found: dict[str, list[Result]]) -> "Table":
    """The model's mean scores in each group of scenes."""
    from rich.table import Table

    rows = {label: mean_scores(members).get("model", {}) for label, members in found.items()}
    columns = {
        metric: shown
        for metric, shown in metrics_of(r for members in found.values() for r in members).items()
        if any(metric in row for row in rows.values())
    }
    table = Table(title=f"Model by {kind}")
    table.add_column(kind)
    table.add_column("scenes", justify="right")
    for shown in columns.values():
        table.add_column(shown.column, justify="right")
    for label, row in rows.items():
        cells = [s.number(row[metric]) if metric in row else "" for metric, s in columns.items()]
        table.add_row(label, str(len(found[label])), *cells)
    return table


def _cost(results: list[Result]) -> Iterator[str]:
    timing = median_timing(results)
    if not timing:
        return
    warm = any(not result["timing"]["warm_up"] for result in results if "timing" in result)
    yield (
        f"encoder {1000 * timing['encoder_seconds']:.0f} ms a scene, decoder "
        f"{1000 * timing['decoder_seconds_a_view']:.1f} ms a view, "
        f"{timing['gaussians']:,.0f} Gaussians, "
        f"{timing['peak_memory_bytes'] / 1e9:.2f} GB at the peak "
        f"({'medians without the first batch' if warm else 'first batch, which warms up'})"
    )


def _extremes(results: list[Result]) -> Iterator[str]:
    """Two lines, none for a single scene."""
    shown = DESCRIPTIONS["psnr"]
    names = ("lowest PSNR:  ", "highest PSNR: ")
    for name, chosen in zip(names, extreme_scenes(results), strict=True):
        if chosen:
            means = ((r["scene"], r["scores"]["model"]["mean"]) for r in chosen)
            values = (f"{scene} {shown.brief(mean.get('psnr', math.nan))}" for scene, mean in means)
            yield name + ", ".join(values)
