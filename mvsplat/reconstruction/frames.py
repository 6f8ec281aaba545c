"""Photographs that are used: whole frames with cameras, and the crops of them that a model sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from mvsplat.data.bounds import Bounds
from mvsplat.data.transforms import Shape, crop_image, crop_intrinsics, crop_mask, stack_images
from mvsplat.export.cameras import Cameras, Frame
from mvsplat.geometry.trajectories import visiting_order
from mvsplat.refinement.photographs import Photograph, fitted_shape
from mvsplat.types import Views

Item = TypeVar("Item")
# Pictures for people have at most so many pixels along their longer side.
_SHOWN_SIDE = 512
_PALE = 224


@dataclass
class CroppedFrame:
    """A photograph as a model sees it.

    Args:
        index: Its number in the scene.
        name: What to call it.
        pixels: Its crop, at the model's size.
        extrinsics: Camera-to-world matrix.
        intrinsics: Normalised intrinsics of the crop.
        mask: Which pixels count; None where all do.
    """

    index: int
    name: str
    pixels: UInt8[Tensor, "3 h w"]
    extrinsics: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]
    mask: Bool[Tensor, "h w"] | None = None


@dataclass
class UsedPhoto:
    """A photograph that the scene is made from, or compared with.

    Args:
        index: Its number in the scene.
        photograph: The whole frame and its camera, at the size at which it is compared.
        blur: How blurred it is, 0 to 1.
    """

    index: int
    photograph: Photograph
    blur: float

    @property
    def name(self) -> str:
        """What to call it."""
        return self.photograph.name

    @property
    def pixels(self) -> UInt8[Tensor, "3 h w"]:
        """The whole frame."""
        return self.photograph.pixels

    @property
    def extrinsics(self) -> Float[Tensor, "4 4"]:
        """Camera-to-world matrix; after refinement the corrected one."""
        return self.photograph.extrinsics.float()

    @property
    def intrinsics(self) -> Float[Tensor, "3 3"]:
        """Normalised intrinsics of the whole frame."""
        return self.photograph.intrinsics.float()

    def moved_to(self, extrinsics: Float[Tensor, "4 4"]) -> "UsedPhoto":
        """The same photograph with another camera-to-world matrix."""
        return replace(self, photograph=replace(self.photograph, extrinsics=extrinsics.double()))

    @property
    def shown_shape(self) -> Shape:
        """Height and width of :meth:`to_show`."""
        return fitted_shape(self.photograph.shape, _SHOWN_SIDE)

    def to_show(self) -> UInt8[Tensor, "3 h w"]:
        """The whole frame at a size to look at, pale grey where pixels do not count."""
        shown = self.photograph.fitted(_SHOWN_SIDE)
        return shown.pixels if shown.mask is None else shown.pixels.where(shown.mask, _PALE)

    def crop(self, shape: Shape) -> CroppedFrame:
        """The middle of the frame, resized to cover ``shape``, with the crop's camera."""
        height, width = self.photograph.shape
        picture = Image.fromarray(self.pixels.permute(1, 2, 0).contiguous().numpy())
        intrinsics = crop_intrinsics(self.photograph.intrinsics, (height, width), shape).float()
        mask = self.photograph.mask
        return CroppedFrame(
            self.index,
            self.name,
            crop_image(picture, shape),
            self.extrinsics,
            intrinsics,
            None if mask is None else crop_mask(mask, shape),
        )


def as_views(frames: Sequence[CroppedFrame], near: float, far: float) -> Views:
    """The frames as one scene's views."""
    return Views(
        image=stack_images([frame.pixels for frame in frames])[None],
        extrinsics=torch.stack([frame.extrinsics for frame in frames])[None],
        intrinsics=torch.stack([frame.intrinsics for frame in frames])[None],
        near=torch.full((1, len(frames)), near),
        far=torch.full((1, len(frames)), far),
        index=torch.tensor([[frame.index for frame in frames]]),
    )


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of some photographs, say, evenly spread over their order."""
    places = torch.linspace(0, len(items) - 1, min(most, len(items))).round().long()
    return [items[place] for place in places.tolist()]


def cameras_of_photos(
    photos: Sequence[UsedPhoto],
    bounds: Bounds,
    left_out: Sequence[UsedPhoto] = (),
    files: Mapping[int, Path] = MappingProxyType({}),
) -> Cameras:
    """Cameras of the photographs used, then of those left out, each along a short way.

    Args:
        photos: Those used.
        bounds: Nearest and farthest depth.
        left_out: Those left out.
        files: Of photographs, by frame number, as far as there are any.
    """
    frames = [
        Frame(
            name=photo.name,
            extrinsics=photo.extrinsics,
            intrinsics=photo.intrinsics,
            width=photo.photograph.shape[1],
            height=photo.photograph.shape[0],
            image=files.get(photo.index),
        )
        for photo in [*_on_the_way(photos), *_on_the_way(left_out)]
    ]
    return Cameras(frames, bounds.near, bounds.far)


def _on_the_way(photos: Sequence[UsedPhoto]) -> list[UsedPhoto]:
    """Photographs in the order of a short way past their cameras."""
    if not photos:
        return []
    return [photos[i] for i in visiting_order(torch.stack([photo.extrinsics for photo in photos]))]
