"""``index``: choose the context and target views that a data set is evaluated on."""

from argparse import RawDescriptionHelpFormatter
from collections import Counter
from pathlib import Path

from jsonargparse import DefaultHelpFormatter
from rich.console import Console
from rich.progress import Progress

from mvsplat.cli.errors import CommandParser
from mvsplat.data.evaluation_index.context_choice import ContextChoice
from mvsplat.data.evaluation_index.context_stretches import OverlapTiers
from mvsplat.data.evaluation_index.index_file import scene_of, write_evaluation_index
from mvsplat.data.evaluation_index.making import IndexReport, make_index
from mvsplat.data.evaluation_index.scene_overlap import Evidence, OverlapSettings, measure_overlap
from mvsplat.data.readers.opening import Format, open_scenes
from mvsplat.data.scene import SceneSource, Split
from mvsplat.evaluation.index_sheet import contact_sheet
from mvsplat.export.images import save_png

_SHOWN_DETAILS = 5

EPILOG = """\
ways to choose, --choice NAME:
  OverlapTiers  stretches of videos whose context views overlap little, more, much (default)
  FrameGaps     stretches of given lengths
  WholeScene    the context views that reconstruct most of a scene; photos in any order, too
  NearestViews  for targets spread over the scene the nearest context views, as usual on DTU
Their options are --choice.OPTION; --choice.help NAME lists them. Examples:
  mvsplat index datasets/re10k --choice.tiers "{large: [0.55, 0.8]}" --choice.context_views 3
  mvsplat index datasets/re10k --choice FrameGaps --choice.gaps "[45]" --choice.targets all
  mvsplat index datasets/dl3dv --choice FrameGaps --choice.start 0 --choice.gaps "[50]" \\
    --choice.context_views 6 --choice.targets 8
  mvsplat index datasets/dtu --choice NearestViews --choice.targets 4
Then evaluate with
  mvsplat test ... --data.test_views EvaluationViewSampler --data.test_views.index_path FILE
"""


class HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of the text below the options."""


def index(
    source: str,
    output: str = "evaluation_index.json",
    choice: ContextChoice | None = None,
    split: Split = "test",
    format: Format = "auto",
    seed: int = 0,
    evidence: Evidence = "auto",
    image_shape: tuple[int, int] | None = (256, 256),
    near: float | None = None,
    far: float | None = None,
    rows: int = 12,
    workers: int | None = None,
    overwrite: bool = False,
) -> IndexReport:
    """Choose views, write the index and a contact sheet beside it, and say what there is.

    Args:
        source: The data: a folder or file that any command reads (chunks, COLMAP, transforms.json,
            DTU, RealEstate10K), or the address of chunks in object storage (s3://bucket/folder).
        output: The index to write; the contact sheet has the same name with .png.
        choice: How views are chosen; see below.
        split: Which scenes.
        format: What the data is: a reader's name (chunks, transforms, colmap ...) or the import
            path of your own; auto looks.
        seed: Another seed gives other stretches and targets.
        evidence: What overlap is measured by: exact depth (then hidden things do not count),
            sparse points, or depth bounds; auto takes the first of these that a scene has.
        image_shape: Height and width of the evaluated views, to which frames are cropped: less of
            them overlaps. null: whole frames.
        near: Nearest depth, if overlap is measured by bounds; null takes the scene's own, or
            estimates it.
        far: Farthest depth; null: as near.
        rows: Entries on the contact sheet, spread over the index; 0: no sheet.
        workers: Processes that look at scenes, at most one a core; null: one a core.
        overwrite: Replace an index that is there.

    Raises:
        FileExistsError: The output is there already.
        ValueError: There are no scenes, or none of them can be used.
    """
    target = Path(output)
    if target.suffix != ".json":
        raise ValueError(f"--output {output}: expected a name that ends in .json")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{output} is there already: choose another name or add --overwrite")
    if rows < 0 or (workers is not None and workers < 0) or seed < 0:
        raise ValueError("rows, workers and seed cannot be negative")
    scenes = open_scenes(source, format, split)
    count = len(scenes.keys(split))
    if not count:
        raise ValueError(f"{source} has no {split} scenes; name the other --split?")
    settings = OverlapSettings(evidence, image_shape, near, far)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(f"Looking at {_count(count, 'scene', 'scenes')}", total=count)
        report = make_index(
            scenes,
            split,
            choice or OverlapTiers(),
            settings,
            seed,
            workers,
            progress=lambda done: bar.advance(task, done),
        )
    if not any(report.entries.values()):
        problem = "; ".join([_left_out(report), *report.details[:1]])
        raise ValueError(f"no scene can be used: {problem}")
    write_evaluation_index(target, report.entries)
    if rows:
        _write_sheet(target.with_suffix(".png"), scenes, split, settings, report, rows)
    return report


def summary(report: IndexReport) -> list[str]:
    """What there is, in lines."""
    entries = [entry for entry in report.entries.values() if entry is not None]
    scenes = len({entry.scene or name for name, entry in report.entries.items() if entry})
    lines = [f"{_count(len(entries), 'entry', 'entries')} from {_count(scenes, 'scene', 'scenes')}"]
    tiers = Counter(entry.tier for entry in entries)
    for tier, count in tiers.items():
        overlap = sorted(e.overlap for e in entries if e.tier == tier and e.overlap is not None)
        low, middle, high = overlap[0], overlap[len(overlap) // 2], overlap[-1]
        named = "" if tier is None else f"{tier}: {_count(count, 'entry', 'entries')}, "
        lines.append(f"  {named}overlap {low:.2f} to {high:.2f}, median {middle:.2f}")
    if report.left_out:
        lines.append(f"left out (null in the index): {_left_out(report)}")
    lines += [f"  {detail}" for detail in report.details[:_SHOWN_DETAILS]]
    return lines


def main(argv: list[str]) -> None:
    """Make the index that the arguments describe."""
    parser = CommandParser(
        prog="mvsplat index",
        description="Choose a data set's context and target views for evaluation.",
        epilog=EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_function_arguments(index, as_group=False, as_positional=True, skip={"overwrite"})
    parser.add_argument("--overwrite", action="store_true", help="Replace an index that is there.")
    parser.set_defaults(
        {"choice": {"class_path": f"{OverlapTiers.__module__}.{OverlapTiers.__qualname__}"}}
    )
    arguments = parser.instantiate_classes(parser.parse_args(argv))
    report = index(**arguments.as_dict())
    print("\n".join(summary(report)))
    print(f"index: {arguments.output}")
    if arguments.rows:
        print(f"contact sheet: {Path(arguments.output).with_suffix('.png')}")


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _left_out(report: IndexReport) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in report.left_out.most_common())


def _write_sheet(
    path: Path,
    source: SceneSource,
    split: Split,
    settings: OverlapSettings,
    report: IndexReport,
    rows: int,
) -> None:
    used = [(name, entry) for name, entry in report.entries.items() if entry is not None]
    step = max(1, -(-len(used) // rows))
    known = dict.fromkeys(source.keys(split))
    strips: list[tuple] = []
    for name, entry in used[::step]:
        scene = source.scene(split, scene_of(name, entry, known) or name)
        strips.append((name, entry, scene, measure_overlap(scene, settings)))
    save_png(contact_sheet(strips, settings.image_shape), path)
