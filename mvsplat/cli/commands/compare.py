"""``compare``: the results of several runs, scene by scene."""

from os.path import commonpath
from pathlib import Path

from mvsplat.cli.errors import CommandParser
from mvsplat.evaluation import comparison_files, load_results
from mvsplat.evaluation.comparison import Comparison, compare


def main(argv: list[str]) -> None:
    """Print tables, write files and pictures."""
    options = _parser().parse_args(argv)
    runs = {name: load_results(path) for name, path in _named(options.runs).items()}
    comparison = compare(runs, options.common, options.confidence, options.resamples, options.seed)
    folder = Path(options.output)
    comparison_files.save_comparison(comparison, folder)
    _print(comparison, options.metric, options.confidence)
    pictures = comparison_files.save_pictures(comparison, folder, options.metric, options.pictures)
    print(f"every scene's scores and differences: {folder}/comparison.csv, comparison.json")
    if pictures:
        print(f"the scenes that differ most, side by side: {pictures[0]} ...")
    elif options.pictures:
        print(
            "no pictures: the runs have none of the same scenes; `mvsplat test "
            "--results.images -1` keeps those of every scene"
        )


def _named(paths: list[str]) -> dict[str, Path]:
    """Short names for runs: what is left of their paths without the folder that all are in."""
    folders = [Path(path).resolve() for path in paths]
    if len(set(folders)) < len(folders):
        twice = next(path for path in paths if folders.count(Path(path).resolve()) > 1)
        raise ValueError(f"the run {twice} is given twice")
    common = commonpath([folder.parent for folder in folders])
    return {str(folder.relative_to(common)): folder for folder in folders}


def _print(comparison: Comparison, metric: str, confidence: float) -> None:
    from rich.console import Console

    console = Console()
    console.print(comparison_files.means_table(comparison))
    for name, run in comparison.runs.items():
        if not run.complete:
            line = f"INCOMPLETE: {name}: {run.missing()}"
            console.print(line, style="bold yellow", markup=False, soft_wrap=True)
    if len(comparison.scenes) > 1:
        console.print(
            f"The interval is the {100 * confidence:g} % confidence interval of the mean "
            "difference (paired bootstrap over scenes); bold: it leaves out 0.",
            style="dim",
        )
    for name, shown in comparison.metrics.items():
        if shown.better is None:
            line = f"{name}: which way is better is not known: the runs do not say it, or disagree."
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(comparison_files.scenes_table(comparison, metric))


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="mvsplat compare",
        description="Compare the results of runs that were tested on the same scenes.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        help="Run folders, folders of results, or scores.json files; at least two. The others are "
        "compared with the first.",
    )
    parser.add_argument(
        "--output",
        type=str,
        default="comparison",
        help="Folder for comparison.json, comparison.csv and the pictures.",
    )
    parser.add_argument(
        "--metric",
        type=str,
        default="psnr",
        help="Which scenes differ most is judged by this one: psnr, ssim, lpips, abs_rel, or the "
        "name of a metric of your own that the runs were tested with.",
    )
    parser.add_argument(
        "--pictures", type=int, default=5, help="Number of scenes to show side by side."
    )
    parser.add_argument(
        "--common", action="store_true", help="Compare on the scenes that all runs have."
    )
    parser.add_argument(
        "--confidence", type=float, default=0.95, help="Confidence of the intervals."
    )
    parser.add_argument(
        "--resamples", type=int, default=10_000, help="Bootstrap samples behind an interval."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of the bootstrap.")
    return parser
