"""Results for the terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mvsplat.evaluation.means import (
    DIGITS,
    METHODS,
    METRICS,
    extreme_scenes,
    groups,
    mean_scores,
    median_timing,
)
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

    means = mean_scores(results)
    columns = [metric for metric in METRICS if any(metric in row for row in means.values())]
    best = {
        metric: (min if "↓" in METRICS[metric] else max)(
            row[metric] for row in means.values() if metric in row
        )
        for metric in columns
    }
    scenes = "1 scene" if len(results) == 1 else f"{len(results)} scenes"
    table = Table(title=f"Mean over {scenes}" + ("" if complete else " (incomplete)"))
    table.add_column("")
    for metric in columns:
        table.add_column(METRICS[metric], justify="right")
    for method, row in means.items():
        cells = []
        for metric in columns:
            text = score(row[metric], metric) if metric in row else ""
            cells.append(f"[bold]{text}[/bold]" if row.get(metric) == best[metric] else text)
        table.add_row(METHODS.get(method, method), *cells)
    return table


def group_table(kind: str, found: dict[str, list[Result]]) -> "Table":
    """The model's mean scores in each group of scenes."""
    from rich.table import Table

    rows = {label: mean_scores(members).get("model", {}) for label, members in found.items()}
    columns = [metric for metric in METRICS if any(metric in row for row in rows.values())]
    table = Table(title=f"Model by {kind}")
    table.add_column(kind)
    table.add_column("scenes", justify="right")
    for metric in columns:
        table.add_column(METRICS[metric], justify="right")
    for label, row in rows.items():
        cells = [score(row[metric], metric) if metric in row else "" for metric in columns]
        table.add_row(label, str(len(found[label])), *cells)
    return table


def score(value: float, metric: str) -> str:
    """A score with as many digits as papers give it."""
    return f"{value:.{DIGITS[metric]}f}"


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
    names = ("lowest PSNR:  ", "highest PSNR: ")
    for name, chosen in zip(names, extreme_scenes(results), strict=True):
        if chosen:
            values = ((r["scene"], r["scores"]["model"]["mean"]["psnr"]) for r in chosen)
            yield name + ", ".join(f"{scene} {psnr:.2f} dB" for scene, psnr in values)
