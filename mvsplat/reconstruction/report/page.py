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
from mvsplat.reconstruction.frames import spread
from mvsplat.reconstruction.reconstructed import ReconstructedScene
from mvsplat.reconstruction.report.overview import overview
from mvsplat.reconstruction.report.pictures import camera_map, embedded, embedded_video
from mvsplat.reconstruction.report.refinement import refinement_section
from mvsplat.reconstruction.report.tables import figure, table
from mvsplat.reconstruction.scores import in_words

_MOST_PHOTOS = 12
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
svg text { font-size: 11px; fill: #555; } .grid { stroke: #ddd; } .best { stroke: #999;
  stroke-dasharray: 4 3; } polyline { fill: none; stroke-width: 2; }
polyline.training { stroke: #c0392b; } polyline.validation { stroke: #2471a3; }
span.training { color: #c0392b; } span.validation { color: #2471a3; }
footer { margin-top: 3em; color: #777; font-size: .85em; }
"""


def report(scene: ReconstructedScene, splat: Path) -> str:
    """The page; the other results are beside the splat."""
    folder = splat.parent
    sections = [
        overview(scene, splat),
        _warnings(scene),
        _film(folder),
        refinement_section(scene),
        _comparison(scene),
        _photographs(scene),
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


def _warnings(scene: ReconstructedScene) -> str:
    if not scene.warnings:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in scene.warnings)
    return f"<h2>Warnings</h2><ul class='warnings'>{items}</ul>"


def _film(folder: Path) -> str:
    content = (folder / names.VIDEO).read_bytes()
    return f"<h2>Along the cameras</h2>{embedded_video(content, 480)}"


def _comparison(scene: ReconstructedScene) -> str:
    if not scene.scores.before:
        return "<h2>Photos held out</h2><p>None: every photo was used, so nothing was measured.</p>"
    figures = []
    shows_both = scene.scores.after is not None and scene.scores.kept
    for before, score in zip(scene.scores.before, scene.scores.final, strict=True):
        photo = score.frame
        pictures = [embedded(photo.to_show().float() / 255, f"photo {photo.name}")]
        if shows_both:
            pictures.append(embedded(before.picture, "before refinement"))
        truth, mask = photo.pixels.float() / 255, photo.photograph.mask
        error = color_error(
            score.picture, truth if mask is None else truth.where(mask, score.picture)
        )
        pictures += [embedded(score.picture, "the scene"), embedded(error, "error")]
        caption = (
            f"{photo.name}: {in_words(score.values)}"
            + (f", before {in_words(before.values)}" if shows_both else "")
            + f"; {score.covered:.0%} of it is in view of one of the photos used"
        )
        figures.append(figure(" ".join(pictures), caption))
    shown = "the scene before and after refinement" if shows_both else "the scene"
    return f"<h2>Photos held out, {shown} from the same camera, and the error</h2>" + "".join(
        figures
    )


def _photographs(scene: ReconstructedScene) -> str:
    figures = []
    shown = spread(scene.context, _MOST_PHOTOS)
    for photo in shown:
        picture = embedded(photo.to_show().float() / 255, photo.name)
        depth = scene.depth_of(photo, photo.shown_shape)
        colored = color_depth(depth, (scene.bounds.near, scene.bounds.far))
        pictures = f"{picture} {embedded(colored, f'depth of {photo.name}')}"
        figures.append(figure(pictures, photo.name))
    some = "" if len(shown) == len(scene.context) else f"{len(shown)} of the {len(scene.context)} "
    return (
        f"<h2>{some}photos the scene is made from, and its depth</h2>".replace("<h2>p", "<h2>P")
        + f"<p>Red is near ({scene.bounds.near:.3g}), blue is far ({scene.bounds.far:.3g}).</p>"
        + "".join(figures)
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
        "<h2>Cameras from above</h2><p>Red: used. Blue: held out, to compare. Grey: other photos "
        f"with cameras, and points of the scene.</p>{picture}"
    )


def _dropped(scene: ReconstructedScene) -> str:
    if not scene.source.dropped:
        return ""
    return "<h2>Photos that could not be used</h2>" + table(scene.source.dropped)


def _times(scene: ReconstructedScene) -> str:
    rows = {title: f"{seconds:.1f} s" for title, seconds in scene.seconds.items()}
    device = scene.gaussians.means.device
    rows["Computed on"] = f"{_device_name(device)}, {usable_cores()} cores, {platform.system()}"
    rows["Memory"] = f"{peak_memory() / 2**30:.2f} GiB at most"
    return "<h2>Time and memory</h2>" + table(rows)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
