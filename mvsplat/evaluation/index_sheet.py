"""A picture to look at an evaluation index: context and target views, and how much they overlap."""

import math

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mvsplat.data.evaluation_index.index_file import IndexEntry
from mvsplat.data.evaluation_index.scene_overlap import SceneOverlap
from mvsplat.data.scene import Scene
from mvsplat.data.transforms import Shape, crop_image
from mvsplat.export.images import sheet
from mvsplat.geometry.view_choice import context_problems

_HEIGHT = 144
_MOST_VIEWS, _MOST_TARGETS = 6, 4
_LINE_HEIGHT = 16
_LONGEST_NAME = 60
_DIMMED = 0.3  # brightness of what no other context view shows


def contact_sheet(
    rows: list[tuple[str, IndexEntry, Scene, SceneOverlap]], shape: Shape | None
) -> Image.Image:
    """A row an entry, under a line of words: its context views, then some of its target views.

    What no other context view shows is dark in a context view; what no context view shows is dark
    in a target view.

    Args:
        rows: Name, entry, scene and overlap of its views.
        shape: Height and width that views are cropped to; None: whole frames.
    """
    strips = [_row(*row, shape) for row in rows]
    width = max(strip.width for strip in strips)
    page = Image.new("RGB", (width, sum(strip.height for strip in strips)), "white")
    top = 0
    for strip in strips:
        page.paste(strip, (0, top))
        top += strip.height
    return page


def describe(name: str, entry: IndexEntry, seen: SceneOverlap) -> list[str]:
    """An entry in words: overlap, distances and coverage in one line, what is wrong in others."""
    words, context = [], torch.tensor(entry.context)
    pairs = seen.subset(context).pairs
    if entry.overlap is not None:
        tier = "" if entry.tier is None else f" ({entry.tier})"
        words.append(f"context views overlap by {100 * entry.overlap:.0f} %{tier}")
    if len(context) > 1:
        angle = float(pairs.angle[0, -1])
        if math.isfinite(angle):
            words.append(f"first and last {angle:.1f} degrees apart")
        words.append(f"{entry.context[-1] - entry.context[0]} frames apart")
    covered = seen.coverage(torch.tensor(entry.target), by=context)
    views = "1 target view" if len(entry.target) == 1 else f"{len(entry.target)} target views"
    words.append(f"{views}, {100 * float(covered.mean()):.0f} % covered")
    return [f"{_printable(name)}: {', '.join(words)}", *context_problems(pairs, entry.context)]


def _row(
    name: str, entry: IndexEntry, scene: Scene, seen: SceneOverlap, shape: Shape | None
) -> Image.Image:
    context = torch.tensor(entry.context)
    cells = []
    for place in _spread(len(context), _MOST_VIEWS):
        frame, others = entry.context[place], torch.cat([context[:place], context[place + 1 :]])
        cells.append((f"context {frame}", _view(scene, seen, frame, others, shape)))
    for place in _spread(len(entry.target), _MOST_TARGETS):
        frame = entry.target[place]
        cells.append((f"target {frame}", _view(scene, seen, frame, context, shape)))
    strip, lines = sheet([cells], min_width=1), describe(name, entry, seen)
    font = ImageFont.load_default()
    width = max(strip.width, *(int(font.getlength(line)) + 8 for line in lines))
    top = _LINE_HEIGHT * len(lines) + 6
    page = Image.new("RGB", (width, strip.height + top), "white")
    for number, line in enumerate(lines):
        color = "black" if number == 0 else "firebrick"
        ImageDraw.Draw(page).text((4, 5 + number * _LINE_HEIGHT), line, fill=color, font=font)
    page.paste(strip, (0, top))
    return page


def _printable(name: str) -> str:
    """A scene's name as the built-in font can draw it, and not too long."""
    name = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in name)


def _view(
    scene: Scene, seen: SceneOverlap, frame: int, others: Tensor, shape: Shape | None
) -> Float[Tensor, "3 h w"]:
    """A view, cropped and small, dark where the others do not see what it shows."""
    picture = scene.image(frame)
    height, width = (picture.height, picture.width) if shape is None else shape
    size = (_HEIGHT, min(max(1, round(_HEIGHT * width / height)), 4 * _HEIGHT))
    pixels = crop_image(picture, size) / 255
    if not len(others):
        return pixels
    share = seen.seen_map(frame, others).nan_to_num(1.0)
    light = torch.nn.functional.interpolate(share[None, None].float(), size=size, mode="bilinear")
    return pixels * (_DIMMED + (1 - _DIMMED) * light[0])


def _spread(count: int, most: int) -> list[int]:
    return torch.linspace(0, count - 1, min(count, most)).round().long().tolist()
