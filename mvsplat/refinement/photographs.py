"""Photographs as refinement compares with them: whole frames with cameras, at any smaller size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from mvsplat.data.readers.masks import reduced_mask
from mvsplat.data.scene import Scene
from mvsplat.types import Views

DEFAULT_SIZE = 960
"""The longer side of photographs in pixels, if they have as many."""


@dataclass(frozen=True)
class Photograph:
    """A whole frame with its camera.

    Args:
        name: What to call it.
        pixels: 8-bit RGB.
        extrinsics: Camera-to-world matrix, float64.
        intrinsics: Normalised intrinsics, which no resizing changes, float64.
        mask: Which pixels count; None where all do.
    """

    name: str
    pixels: UInt8[Tensor, "3 h w"]
    extrinsics: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]
    mask: Bool[Tensor, "h w"] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def fitted(self, size: int) -> "Photograph":
        """The photograph with its longer side at most ``size`` pixels, by averaging areas.

        Pixels that do not count have no part in an average; one counts where at least half of its
        area does.
        """
        shape = fitted_shape(self.shape, size)
        if shape == self.shape:
            return self
        rows, columns = (_averaging(*lengths) for lengths in zip(self.shape, shape))
        pixels = self.pixels.float()
        if self.mask is None:
            small, mask = rows @ pixels @ columns.T, None
        else:
            counted = self.mask.float()
            share = rows @ counted @ columns.T
            small = rows @ (pixels * counted) @ columns.T / share.clamp(min=1e-6)
            mask = share >= 0.5
        return replace(self, pixels=small.round().clamp(0, 255).to(torch.uint8), mask=mask)


def fitted_shape(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Height and width of a picture whose longer side is made at most ``size``; never enlarged."""
    scale = min(1.0, size / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _averaging(length: int, fewer: int) -> Float[Tensor, "fewer length"]:
    """What part of each of ``length`` pixels in a row lies in each of ``fewer`` wider ones."""
    edges = torch.arange(fewer + 1) * (length / fewer)
    pixels = torch.arange(length)
    last = torch.minimum(edges[1:, None], pixels + 1)
    overlap = (last - torch.maximum(edges[:-1, None], pixels)).clamp(min=0)
    return overlap / overlap.sum(dim=1, keepdim=True)


class ReadPhotographs(NamedTuple):
    """Photographs of a scene, and those that cannot be read: from the name to the reason."""

    photographs: list[Photograph]
    unreadable: dict[str, str]


def read_photographs(
    scene: Scene,
    indices: Sequence[int],
    names: Sequence[str] | None = None,
    size: int = DEFAULT_SIZE,
) -> ReadPhotographs:
    """Read whole frames of a scene.

    Args:
        scene: Frames with cameras.
        indices: Which frames.
        names: What all frames of the scene are called; None takes the scene's names, or numbers.
        size: The longer side in pixels at most.
    """
    called = [str(name) for name in names or scene.frame_names or range(len(scene))]
    photographs: list[Photograph] = []
    unreadable: dict[str, str] = {}
    for index in indices:
        try:
            image, mask = scene.image(index).convert("RGB"), scene.mask(index)
        except (ValueError, OSError) as error:
            unreadable[called[index]] = str(error)
            continue
        if mask is not None and not mask.any():
            unreadable[called[index]] = "its mask leaves nothing of it"
            continue
        photographs.append(
            Photograph(
                called[index],
                _pixels(image, size),
                scene.extrinsics[index].double(),
                scene.intrinsics[index].double(),
                None if mask is None or mask.all() else _counted(mask, size),
            )
        )
    return ReadPhotographs(photographs, unreadable)


def _pixels(image: Image.Image, size: int) -> UInt8[Tensor, "3 h w"]:
    height, width = fitted_shape((image.height, image.width), size)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _counted(mask: np.ndarray, size: int) -> Bool[Tensor, "h w"]:
    return torch.from_numpy(reduced_mask(mask, fitted_shape(mask.shape, size)))


def photographs_of(views: Views, names: Sequence[str] | None = None) -> list[Photograph]:
    """The photographs of one scene's views.

    Raises:
        ValueError: There are several scenes.
    """
    if len(views.image) != 1:
        raise ValueError(f"views: {len(views.image)} scenes found, expected one")
    pixels = (views.image[0].detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    extrinsics, intrinsics = views.extrinsics[0].cpu().double(), views.intrinsics[0].cpu().double()
    if names is None:
        numbers = range(len(pixels)) if views.index is None else views.index[0].tolist()
        names = [str(number) for number in numbers]
    return [
        Photograph(*fields) for fields in zip(names, pixels, extrinsics, intrinsics, strict=True)
    ]
