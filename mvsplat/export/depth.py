"""Depth maps as files: 16-bit PNG in a stated unit, and exact float32 arrays.

Depth is along the optical axis, in the scene's unit; 0 is unknown, in files as in tensors. A PNG
says in a text field, ``depth_unit``, how much depth one step of its 16-bit values is.
"""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from mvsplat.files import replacing
from mvsplat.geometry.projection import known_depth

_HIGHEST = 2**16 - 1
_FIELD = "depth_unit"


def depth_unit(farthest: float) -> float:
    """The finest unit of 1, 2 or 5 times a power of ten in which 16 bits reach so far.

    >>> depth_unit(10.0), depth_unit(65.0), depth_unit(100.0)
    (0.0002, 0.001, 0.002)
    """
    if not 0 < farthest < math.inf:
        raise ValueError(f"the farthest depth is {farthest}; expected a positive number")
    power = math.floor(math.log10(farthest / _HIGHEST))
    steps = (float(f"{digit}e{exponent}") for exponent in (power, power + 1) for digit in (1, 2, 5))
    return next(unit for unit in steps if unit * _HIGHEST >= farthest)


def save_depth_png(depth: Float[Tensor, "h w"], path: str | Path, unit: float) -> None:
    """Write depth as a 16-bit grey PNG; an existing file is replaced once all is written.

    Args:
        depth: Depths; what is not positive and finite is written as 0, unknown.
        path: The file.
        unit: Depth of one step; see :func:`depth_unit`. What is farther than 65,535 steps is
            written as that.
    """
    if not 0 < unit < math.inf:
        raise ValueError(f"the unit is {unit}; expected a positive number")
    known = known_depth(depth)
    # What is known never becomes 0, however near it is.
    steps = (torch.where(known, depth, 1).double() / unit).round().clamp(1, _HIGHEST) * known
    pixels = steps.detach().cpu().numpy().astype(np.uint16)
    text = PngInfo()
    text.add_text(_FIELD, repr(float(unit)))
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", pnginfo=text)


def load_depth_png(path: str | Path) -> Float[Tensor, "h w"]:
    """Read what :func:`save_depth_png` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no picture, or does not say its unit.
    """
    try:
        with Image.open(path) as image:
            unit, pixels = getattr(image, "text", {}).get(_FIELD), np.asarray(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"no depth map at {path}") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} is damaged, or no PNG file: {error}") from error
    if unit is None or pixels.ndim != 2:
        raise ValueError(f"{path} is no depth map of this package: it has no {_FIELD}")
    return torch.from_numpy(pixels.astype(np.float64) * float(unit)).float()


def save_depth_npy(depth: Float[Tensor, "h w"], path: str | Path) -> None:
    """Write depth as a float32 array of NumPy's own format, exactly as it is."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, depth.detach().float().cpu().numpy())
