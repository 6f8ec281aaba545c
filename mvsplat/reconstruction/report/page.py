"""The report of a reconstruction: one HTML page that holds all its pictures."""

import platform
from html import escape
from pathlib import Path

import torch

from mvsplat import __version__
from mvsplat.evaluation.benchmark import peak_memory
from mvsplat.export.images import color_depth, color_error
from mvsplat.machine import usable_cores
from mvsplat.reconstruction import output as names
from mvsplat.reconstruction.checkpoint import TrainedModel
from mvsplat.reconstruction.reconstructed import ReconstructedScene, Score, average, in_words
from mvsplat.reconstruction.report.pictures import camera_map, embedded, embedded_video

_MOSTLY_SEEN = 0.6
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1060px; margin: 2em auto; padding: 0 1em;
  color: #222; background: #fff; }
h1 { font-size: 1.6em; } h2 { font-size: 1.15em; margin: 2em 0 .6em; }
table { border-collapse: collapse; } td, th { padding: .25em .9em .25em 0; text-align: left;
  vertical-align: top; } th { font-weight: 600; } td.number { text-align: right; }
ul.warnings { background: #fff6e0; border-left: 4px solid #e0a000; padding: .7em 1em .7em 2em; }
figure { display: inline-block; margin: 0 .8em .8em 0; vertical-align: top; }
figcaption { font-size: .85em; color: #555; }
svg { background: #f7f7f7; } .point { fill: #bbb; }
.context { fill: #c0392b; stroke: #c0392b; } .left { fill: #2471a3; stroke: #2471a3; }
.unused { fill: #999; stroke: #999; }
footer { margin-top: 3em; color: #777; font-size: .85em; }
"""


def report(scene: ReconstructedScene, folder: Path) -> str:
    """The page; ``folder`` holds the other results."""
    sections = [
        _overview(scene, folder),
        _warnings(scene),
        _film(folder),
        _photographs(scene),
        _comparison(scene),
        _cameras(scene),
        _dropped(scene),
        _times(scene),
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f"<title>Reconstruction of {escape(scene.source.kind)}</title>",
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>Reconstruction of {escape(scene.source.kind)}</h1>",
            *(section for section in sections if section),
            f"<footer>mvsplat {__version__}. This page holds its pictures and needs no network."
            "</footer></body></html>",
            "",
        ]
    )


def _overview(scene: ReconstructedScene, folder: Path) -> str:
    source, bounds = scene.source, scene.bounds
    total = len(source.names)
    height, width = scene.shape
    cameras = "as given"
    if (estimate := source.estimate) is not None:
        cameras = (
            f"estimated: {total} of {total + len(source.dropped)} photos registered, "
            f"{estimate.points:,} points, {estimate.reprojection_error:.2f} pixels of error"
        )
    rows = {
        "Photos used": f"{len(scene.context)} of {total} with cameras",
        "Cameras": cameras,
        "Depth bounds": f"{bounds.near:.4g} to {bounds.far:.4g} (from {bounds.origin})",
        "Seen by the model": f"{width} x {height} pixels",
        "Model": _of_model(scene.model),
        "Gaussians": f"{scene.gaussians.means.shape[1]:,} ({_megabytes(folder / names.SPLAT)})",
    }
    if scene.scores:
        rows["Photos left out"] = _average("compared", scene.scores)
        seen = [score for score in scene.scores if score.covered >= _MOSTLY_SEEN]
        if 0 < len(seen) < len(scene.scores):
            rows["Photos left out"] += "; " + _average("of them mostly in view of those used", seen)
    notes = "".join(f"<p>{escape(note)}</p>" for note in source.notes)
    return _table(rows) + notes


def _of_model(model: TrainedModel) -> str:
    return f"{model.name}: {model.good_for}" if model.good_for else model.name


def _average(which: str, scores: list[Score]) -> str:
    return f"{len(scores)} {which}: {in_words(average(scores))} on average"


def _warnings(scene: ReconstructedScene) -> str:
    if not scene.warnings:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in scene.warnings)
    return f"<h2>Warnings</h2><ul class='warnings'>{items}</ul>"


def _film(folder: Path) -> str:
    content = (folder / names.VIDEO).read_bytes()
    return f"<h2>Along the cameras</h2>{embedded_video(content, 480)}"


def _photographs(scene: ReconstructedScene) -> str:
    figures = []
    for number, frame in enumerate(scene.context):
        pictures = embedded(frame.shown.float() / 255, frame.name)
        if scene.depth is not None:
            colored = color_depth(scene.depth[number], (scene.bounds.near, scene.bounds.far))
            pictures += " " + embedded(colored, f"depth of {frame.name}")
        figures.append(_figure(pictures, frame.name))
    return (
        "<h2>Photos the scene is made from, and their depth</h2>"
        f"<p>Red is near ({scene.bounds.near:.3g}), blue is far ({scene.bounds.far:.3g}).</p>"
        + "".join(figures)
    )


def _comparison(scene: ReconstructedScene) -> str:
    if not scene.scores:
        return "<h2>Photos left out</h2><p>None: every photo was used, so nothing was measured.</p>"
    figures = []
    for score in scene.scores:
        truth = score.frame.pixels.float() / 255
        pictures = [
            embedded(score.frame.shown.float() / 255, f"photo {score.frame.name}"),
            embedded(score.picture, "rendering"),
            embedded(color_error(score.picture, truth), "error"),
        ]
        caption = (
            f"{score.frame.name}: {in_words(score.values)}; "
            f"{score.covered:.0%} of it is in view of one of the photos used"
        )
        figures.append(_figure(" ".join(pictures), caption))
    return "<h2>Photos left out, the scene from the same camera, and the error</h2>" + "".join(
        figures
    )


def _cameras(scene: ReconstructedScene) -> str:
    used = {frame.index for frame in scene.context}
    compared = {frame.index for frame in scene.left_out}
    kinds = [
        "context" if i in used else "left" if i in compared else "unused"
        for i in range(len(scene.source.names))
    ]
    points = scene.source.scene.points
    if points is None:
        means = scene.gaussians.means[0].detach().cpu()
        points = means[:: max(1, len(means) // 1500)]
    picture = camera_map(scene.source.scene.extrinsics, kinds, scene.source.names, points)
    return (
        "<h2>Cameras from above</h2><p>Red: used. Blue: left out, to compare. Grey: other photos "
        f"with cameras, and points of the scene.</p>{picture}"
    )


def _dropped(scene: ReconstructedScene) -> str:
    if not scene.source.dropped:
        return ""
    return "<h2>Photos that could not be used</h2>" + _table(scene.source.dropped)


def _times(scene: ReconstructedScene) -> str:
    rows = {title: f"{seconds:.1f} s" for title, seconds in scene.seconds.items()}
    device = next(scene.model.encoder.parameters()).device
    rows["Computed on"] = f"{_device_name(device)}, {usable_cores()} cores, {platform.system()}"
    rows["Memory"] = f"{peak_memory() / 2**30:.2f} GiB at most"
    return "<h2>Time and memory</h2>" + _table(rows)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _table(rows: dict[str, str]) -> str:
    cells = "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rows.items()
    )
    return f"<table>{cells}</table>"


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def _megabytes(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"
