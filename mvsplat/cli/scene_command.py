"""What commands that make a scene share: the folder they write, what they say at the end."""

import sys
from collections.abc import Callable
from pathlib import Path

from mvsplat.export.cameras import FILE_NAME
from mvsplat.export.splat_registry import is_named_like_a_splat, writing
from mvsplat.machine import keep_freed_memory
from mvsplat.reconstruction import output as names
from mvsplat.reconstruction.output import OutputFolder, check_writable
from mvsplat.reconstruction.previews import Previews
from mvsplat.reconstruction.result import Reconstruction
from mvsplat.reconstruction.saving import save, save_file
from mvsplat.reconstruction.scores import average, in_words
from mvsplat.reconstruction.stages import Preview, ShownStages, Stages

_MOST_LINES = 8


def names_a_splat(output: str) -> bool:
    """Whether an output is a splat's file rather than a folder."""
    return is_named_like_a_splat(output) and not Path(output).is_dir()


def output_folder(folder: str, overwrite: bool, *inputs: str, splat: str = ".ply") -> OutputFolder:
    """The folder to write, checked before anything takes time.

    Raises:
        ValueError: One of the inputs is in it and would be overwritten, or something else is, or
            the splat's suffix is not one to write.
        OSError: It cannot be written to.
    """
    target = Path(folder).resolve()
    for given in inputs:
        if overwrite and Path(given).resolve().is_relative_to(target):
            raise ValueError(f"--output {folder} holds the input, {given}: choose another folder")
    return OutputFolder(folder, overwrite, splat)


def make_folder(make: Callable[[Stages], Reconstruction], output: OutputFolder, show: bool) -> None:
    """Make a scene, write its folder, say what there is to say, and offer to show it.

    Args:
        make: Makes the scene, and tells the stages how far it is.
        output: The folder.
        show: Open it in the browser without asking.
    """
    scene = make_scene(
        make,
        lambda scene: save(scene, output),
        lambda: _left_behind(output.path),
        Previews.into(output),
    )
    summarize(scene)
    seconds = sum(scene.seconds.values())
    print(f"{output.path}: {output.splat}, {names.VIDEO}, {names.REPORT} ... ({seconds:.0f} s)")
    if show or _asked(f"Show it in the browser? (later: mvsplat view {output.path})"):
        from mvsplat.cli.commands.view import main as view

        view([str(output.path), "--open"])


def make_file(
    make: Callable[[Stages], Reconstruction],
    target: Path,
    overwrite: bool,
    source: str | None = None,
) -> None:
    """Make a scene and write nothing but its splat, and its cameras if these are not in it.

    Args:
        make: Makes the scene, and tells the stages how far it is.
        target: The splat.
        overwrite: Replace the file if it is there.
        source: The splat that the scene is made from, if it is made from one.
    """
    if target.exists() and not overwrite:
        raise ValueError(f"--output {target} is there already; --overwrite replaces it")
    check_writable(target.parent)
    cameras = target.with_name(FILE_NAME)
    if cameras.exists():  # of another splat, perhaps
        cameras = target.with_suffix(f".{FILE_NAME}")

    def left_behind() -> str:
        if not previews.written:
            return "nothing was written"
        return f"{target} is the scene as it was while it was refined"

    previews = Previews(target, cameras)
    # What is refined is replaced by something better only, and a page by a whole one.
    is_source = source is not None and target.resolve() == Path(source).resolve()
    is_whole = writing(target).format.takes("cameras")
    scene = make_scene(
        make,
        lambda scene: save_file(scene, target, cameras),
        left_behind,
        None if is_source or is_whole else previews,
    )
    summarize(scene)
    written = str(target) if is_whole else f"{target}, {cameras.name}"
    print(f"{written} ({sum(scene.seconds.values()):.0f} s)")


def make_scene(
    make: Callable[[Stages], Reconstruction],
    write: Callable[[Reconstruction], object],
    left_behind: Callable[[], str],
    preview: Preview | None,
) -> Reconstruction:
    """Make a scene and write it, with progress shown; ends the program if it is interrupted.

    Args:
        make: Makes the scene, and tells the stages how far it is.
        write: Writes it.
        left_behind: Says what there is of it after an interruption.
        preview: Shows it while it is refined.
    """
    keep_freed_memory()
    try:
        with ShownStages(preview) as stages:
            scene = make(stages)
            write(scene)
    except KeyboardInterrupt:
        print(f"interrupted: {left_behind()}", file=sys.stderr)
        sys.exit(130)
    return scene


def summarize(scene: Reconstruction) -> None:
    """Print what a user should know of a scene: what was left out, warnings, scores."""
    for note in scene.source.notes:
        print(note)
    for name, reason in list(scene.source.dropped.items())[:_MOST_LINES]:
        print(f"left out: {name}: {reason}")
    if len(scene.source.dropped) > _MOST_LINES:
        print(f"left out: {len(scene.source.dropped) - _MOST_LINES} more, see the report")
    for warning in scene.warnings:
        print(f"warning: {warning}")
    print(f"{scene.gaussians.means.shape[1]:,} Gaussians from {_named(scene)}")
    _print_refinement(scene)
    _print_scores(scene)


def _named(scene: Reconstruction) -> str:
    photos = [photo.name for photo in scene.context]
    more = f" and {len(photos) - _MOST_LINES} more" if len(photos) > _MOST_LINES else ""
    return ", ".join(photos[:_MOST_LINES]) + more


def _print_refinement(scene: Reconstruction) -> None:
    refinement = scene.refinement
    if refinement is None:
        return
    result = refinement.result
    ended = "interrupted after" if result.interrupted else "refined by"
    text = f"{ended} {result.steps} steps in {refinement.seconds:.0f} s"
    kept = "" if refinement.kept else ": not better than before, and not kept"
    print(f"{text}, best after {result.best_step}{kept}")


def _print_scores(scene: Reconstruction) -> None:
    scores = scene.scores
    if not scores.before:
        return
    height, width = scores.before[0].frame.photograph.shape
    text = in_words(average(scores.final))
    if scores.after is not None and scores.kept:
        text += f" (before refinement {in_words(average(scores.before))})"
    count = len(scores.final)
    print(f"{count} photo{'s' if count > 1 else ''} held out, at {width} x {height}: {text}")


def _left_behind(folder: Path) -> str:
    if not (folder / names.MARKER).is_file():
        return "nothing was written"
    return (
        f"{folder} is not complete ({names.MARKER} says so); what is in it is whole: "
        + ", ".join(sorted(path.name for path in folder.iterdir() if path.name != names.MARKER))
    )


def _asked(question: str) -> bool:
    """The answer of a person; where there is none, no."""
    if not _at_a_terminal():
        return False
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        print()
        return False


def _at_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
