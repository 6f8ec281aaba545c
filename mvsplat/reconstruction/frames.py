"""Frames of a scene as the model and the eye get them: cropped, with the crop's cameras."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mvsplat.data.scene import Scene
from mvsplat.data.transforms import Shape, crop_image, crop_intrinsics, stack_images
from mvsplat.reconstruction.pictures import any_size
from mvsplat.reconstruction.quality import blur
from mvsplat.types import Views

# Pictures for people have about so many pixels a side, if the photograph has them.
_SHOWN_SIDE = 512


@dataclass
class CroppedFrame:
    """A photograph that is used.

    Args:
        index: Its number in the scene.
        name: What to call it.
        pixels: Its crop, at the model's size.
        shown: The same crop, at a size to look at.
        extrinsics: Camera-to-world matrix.
        intrinsics: Normalised intrinsics of the crop.
        blur: How blurred the photograph is, 0 to 1.
    """

    index: int
    name: str
    pixels: UInt8[Tensor, "3 h w"]
    shown: UInt8[Tensor, "3 h2 w2"]
    extrinsics: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]
    blur: float


class UnreadablePhoto(ValueError):
    """A photograph is missing or damaged, or not of its camera's shape.

    Args:
        index: Its number in the scene.
        reason: What is wrong with it.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason


def read_frame(scene: Scene, index: int, name: str, shape: Shape) -> CroppedFrame:
    """Read and crop a photograph.

    Raises:
        UnreadablePhoto: It cannot be read.
    """
    try:
        with any_size():
            image = scene.image(index)
    except (ValueError, OSError) as error:
        folder, _, problem = str(error).partition(f"{name} ")
        named = problem and (not folder or folder[-1] in "/\\")
        raise UnreadablePhoto(index, problem if named else str(error)) from error
    size = (image.height, image.width)
    return CroppedFrame(
        index,
        name,
        crop_image(image, shape),
        crop_image(image, shown_shape(shape, size)),
        scene.extrinsics[index],
        crop_intrinsics(scene.intrinsics[index], size, shape),
        blur(image),
    )


def shown_shape(shape: Shape, photo: Shape | None = None) -> Shape:
    """The model's shape, enlarged by a whole number, no more than the photograph allows."""
    factor = max(1, _SHOWN_SIDE // max(shape))
    if photo is not None:
        factor = max(1, min(factor, photo[0] // shape[0], photo[1] // shape[1]))
    return shape[0] * factor, shape[1] * factor


def as_views(frames: list[CroppedFrame], near: float, far: float) -> Views:
    """The frames as one scene's views."""
    return Views(
        image=stack_images([frame.pixels for frame in frames])[None],
        extrinsics=torch.stack([frame.extrinsics for frame in frames])[None],
        intrinsics=torch.stack([frame.intrinsics for frame in frames])[None],
        near=torch.full((1, len(frames)), near),
        far=torch.full((1, len(frames)), far),
        index=torch.tensor([[frame.index for frame in frames]]),
    )
