"""The report's first table: the photos, the cameras, the scene, and its scores."""

from html import escape
from pathlib import Path
from statistics import fmean

from mvsplat.reconstruction.reconstructed import ReconstructedScene
from mvsplat.reconstruction.report.tables import table
from mvsplat.reconstruction.scores import Score, average, in_words
from mvsplat.reconstruction.unrefined import Unrefined

_MOSTLY_SEEN = 0.6


def overview(scene: ReconstructedScene, splat: Path) -> str:
    """The table; the splat is written."""
    source, bounds, before = scene.source, scene.bounds, scene.before
    total = len(source.names)
    cameras = "as given"
    if (estimate := source.estimate) is not None:
        cameras = (
            f"estimated: {total} of {total + len(source.dropped)} photos registered, "
            f"{estimate.points:,} points, {estimate.reprojection_error:.2f} pixels of error"
        )
    size = splat.stat().st_size / 1e6
    rows = {
        "Photos used": f"{len(scene.context)} of {total} with cameras",
        **_ignored(scene),
        "Cameras": cameras,
        "Depth bounds": f"{bounds.near:.4g} to {bounds.far:.4g} (from {bounds.origin})",
        **({"Model": before.model} if before.model else {}),
        "Before refinement": before.origin + _seen(before),
        "Gaussians": f"{scene.gaussians.means.shape[1]:,} ({size:.1f} MB)",
        **_scores(scene),
    }
    notes = "".join(f"<p>{escape(note)}</p>" for note in source.notes)
    return table(rows) + notes


def _ignored(scene: ReconstructedScene) -> dict[str, str]:
    """How much of the photographs does not count, as a row."""
    masks = [photo.photograph.mask for photo in [*scene.context, *scene.left_out]]
    shares = [1 - float(mask.float().mean()) for mask in masks if mask is not None]
    if not shares:
        return {}
    photos = "one photo" if len(shares) == 1 else f"{len(shares)} photos"
    return {"Ignored": f"{fmean(shares):.0%} of {photos}, transparent or masked (pale grey below)"}


def _seen(before: Unrefined) -> str:
    """How a model saw the photographs, in words."""
    if before.shape is None or before.groups is None:
        return ""
    height, width = before.shape
    groups, at_once = before.groups
    often = "once" if groups == 1 else f"{groups} times"
    return f": {at_once} photos at once, {often}, {width} x {height} pixels each"


def _scores(scene: ReconstructedScene) -> dict[str, str]:
    """Mean scores of the photographs held out, as rows."""
    scores = scene.scores
    if not scores.before:
        return {}
    height, width = scores.before[0].frame.photograph.shape
    rows = {"Photos held out": f"{len(scores.before)}, compared at {width} x {height} pixels"}
    if scores.after is None:
        return rows | {"Scores": _average(scores.before)}
    after = _average(scores.after) if scores.kept else "not better, so it is as before"
    return rows | {"Scores before": _average(scores.before), "Scores after": after}


def _average(scores: list[Score]) -> str:
    text = f"{in_words(average(scores))} on average"
    seen = [score for score in scores if score.covered >= _MOSTLY_SEEN]
    if 0 < len(seen) < len(scores):
        text += f"; {in_words(average(seen))} of the {len(seen)} mostly in view of those used"
    return text
