"""Pictures: colours of depths and errors, PNG files, labelled sheets.

Pictures are tensors [3, h, w] with values in [0, 1] until they are written.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mvsplat.files import replacing
from mvsplat.geometry.projection import known_depth

# Thirteen colours of "turbo" (Mikhailov 2019; its dark ends cut off) and of matplotlib's "magma".
_TURBO = (
    "3d358b 466be3 3e9bfe 1fc9dd 20eaac 5dfc6f a1fd3d d4e735 f6c33a fe932a f05b12 d02f05 a11201"
)
_MAGMA = (
    "000004 100b2d 2c115f 51127c 721f81 932b80 b73779 d8456c f1605d fc8961 feb078 fed799 fcfdbf"
)

_MARGIN, _LABEL_HEIGHT = 4, 16
MIN_WIDTH = 160
"""Pictures on a sheet are enlarged to about this width."""


def color_depth(
    depth: Float[Tensor, "*batch h w"], bounds: tuple[float, float] | None = None
) -> Float[Tensor, "*batch 3 h w"]:
    """Depth as colours, near red and far blue, even steps in disparity; unknown (0) is black.

    Args:
        depth: Depths; pixels that are not positive and finite are unknown.
        bounds: Depths that get the ends of the colour map; see :func:`depth_bounds`.
    """
    near, far = depth_bounds(depth) if bounds is None else bounds
    known = known_depth(depth)
    disparity = 1 / torch.where(known, depth, 1).float()
    value = (disparity - 1 / far) / max(1 / near - 1 / far, 1e-12)
    return _color(value, _TURBO) * known.unsqueeze(-3)


def depth_bounds(depth: Float[Tensor, "*shape"]) -> tuple[float, float]:
    """Near and far of the depths that are known, without the 1 % at either end."""
    known = depth[known_depth(depth)].float()
    if known.numel() == 0:
        return 1.0, 2.0
    ordered = known.sort().values
    last = len(ordered) - 1
    return float(ordered[round(0.01 * last)]), float(ordered[round(0.99 * last)])


def color_error(
    prediction: Float[Tensor, "*batch 3 h w"],
    truth: Float[Tensor, "*batch 3 h w"],
    highest: float = 0.5,
) -> Float[Tensor, "*batch 3 h w"]:
    """Absolute error, the mean over channels: black where it is 0, bright from ``highest`` on."""
    error = (prediction.clamp(0, 1) - truth).abs().mean(dim=-3)
    return _color(error / highest, _MAGMA)


def color_confidence(confidence: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch 3 h w"]:
    """Values in [0, 1] as colours, black for 0 and bright for 1."""
    return _color(confidence, _MAGMA)


def _color(value: Float[Tensor, "*batch h w"], palette: str) -> Float[Tensor, "*batch 3 h w"]:
    """Colours of values in [0, 1]: the palette's, evenly spaced and linear in between."""
    codes = [bytes.fromhex(code) for code in palette.split()]
    colors = torch.tensor([list(code) for code in codes], device=value.device) / 255
    position = value.float().nan_to_num().clamp(0, 1) * (len(colors) - 1)
    below = position.long().clamp(max=len(colors) - 2)
    share = (position - below).unsqueeze(-1)
    return torch.lerp(colors[below], colors[below + 1], share).movedim(-1, -3)


def to_pil(image: Float[Tensor, "3 h w"]) -> Image.Image:
    """8-bit RGB, rounded to the nearest; colours beyond [0, 1] are clipped."""
    pixels = (image.detach().float().nan_to_num().clamp(0, 1) * 255).round().byte()
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()))


def save_png(image: Float[Tensor, "3 h w"] | Image.Image, path: str | Path) -> None:
    """Write a picture; an existing file is replaced once all is written."""
    picture = to_pil(image) if isinstance(image, Tensor) else image
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def sheet(rows: list[list[tuple[str, Tensor]]], min_width: int = MIN_WIDTH) -> Image.Image:
    """Pictures side by side, each under its label.

    Args:
        rows: Rows of (label, picture [3, h, w]); they may differ in length and size.
        min_width: Smaller pictures are enlarged by a whole number, pixel by pixel, to about this.
    """
    cells = [[(label, _enlarge(to_pil(image), min_width)) for label, image in row] for row in rows]
    widths = [sum(image.width + _MARGIN for _, image in row) for row in cells]
    heights = [max(image.height for _, image in row) + _LABEL_HEIGHT + _MARGIN for row in cells]
    page = Image.new("RGB", (max(widths) + _MARGIN, sum(heights) + _MARGIN), "white")
    draw, font, top = ImageDraw.Draw(page), ImageFont.load_default(), _MARGIN
    for row, height in zip(cells, heights, strict=True):
        left = _MARGIN
        for label, image in row:
            draw.text((left, top), _fit(label, image.width, font), fill="black", font=font)
            page.paste(image, (left, top + _LABEL_HEIGHT))
            left += image.width + _MARGIN
        top += height
    return page


def _enlarge(image: Image.Image, width: int) -> Image.Image:
    factor = max(1, round(width / image.width))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _fit(label: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    while font.getlength(label) > width:
        label = label[:-1]
    return label
