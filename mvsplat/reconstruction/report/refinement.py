"""The report's part on refinement: what it started from, how it went, what it changed."""

from statistics import median

import torch

from mvsplat.reconstruction.reconstructed import ReconstructedScene
from mvsplat.reconstruction.refinement import CameraChange, Refinement
from mvsplat.reconstruction.report.charts import psnr_curve
from mvsplat.reconstruction.report.tables import table

_NOTHING = 1e-6


def refinement_section(scene: ReconstructedScene) -> str:
    """How the scene was refined; that it was not, if so."""
    refinement = scene.refinement
    if refinement is None:
        return "<h2>Refinement</h2><p>Off: this is the scene before refinement.</p>"
    result = refinement.result
    height, width = scene.context[0].photograph.shape
    rows = {
        "Started from": refinement.start,
        "Photos": f"{len(scene.context)}, whole frames of {width} x {height} pixels",
        "Steps": _steps(refinement),
        "Result": "kept" if refinement.kept else "not better than before, and not kept",
        "Cameras": cameras_in_words(refinement.cameras, scene.bounds.near),
        "Exposures": exposures_in_words(refinement),
    }
    curve = psnr_curve(result.curve, result.best_step)
    legend = (
        "<p>PSNR in dB over steps: <span class='training'>photos it is optimised on</span>, "
        "<span class='validation'>photos split off from them to judge it</span> (where there are "
        "enough, and until they join the others); dashed: the step that is kept. Photos held out "
        "were not looked at.</p>"
    )
    return "<h2>Refinement</h2>" + table(rows) + (legend + curve if curve else "")


def _steps(refinement: Refinement) -> str:
    result = refinement.result
    text = f"{result.steps} in {refinement.seconds:.0f} s, best after {result.best_step}"
    return text + ("; ended by Ctrl-C" if result.interrupted else "")


def cameras_in_words(changes: list[CameraChange], near: float) -> str:
    """How far cameras were corrected, in degrees and in shares of the nearest depth."""
    if not changes:
        return "left as they were"
    if max(max(change.turn, change.shift / near) for change in changes) < _NOTHING:
        return "not changed"
    farthest = max(changes, key=lambda change: change.shift)
    return (
        f"corrected by {median(c.turn for c in changes):.2g} degrees and "
        f"{median(c.shift for c in changes) / near:.2%} of the near depth in the median, "
        f"{max(c.turn for c in changes):.2g} degrees and {farthest.shift / near:.2%} at most "
        f"({farthest.name})"
    )


def exposures_in_words(refinement: Refinement) -> str:
    """The range of gains and offsets."""
    gains, offsets = refinement.result.exposures.unbind(-1)
    if not (torch.any((gains - 1).abs() > _NOTHING) or torch.any(offsets.abs() > _NOTHING)):
        return "left as they were"
    return (
        f"gains from {float(gains.min()):.2f} to {float(gains.max()):.2f}, offsets from "
        f"{float(offsets.min()):+.3f} to {float(offsets.max()):+.3f}"
    )
