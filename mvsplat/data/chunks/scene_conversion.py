"""From scenes of any source to the dicts that chunks are made of."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mvsplat.data.bounds import Bounds, find_bounds
from mvsplat.data.chunks.fields import encode_depth, pack_cameras
from mvsplat.data.chunks.jpeg import first_picture
from mvsplat.data.left_out import MISSING, LeftOut, describe_left_out
from mvsplat.data.scene import Scene
from mvsplat.data.transforms import Shape, crop_depth, crop_image, crop_intrinsics

_FEWEST_FRAMES = 2
_MOST_POINTS = 20_000  # they tell depth bounds and overlap, for which more are of no use


@dataclass(frozen=True)
class ConversionSettings:
    """What converting does to a scene.

    Args:
        image_shape: Height and width of the pictures: they are resized to cover it and cropped
            around the centre; null leaves their shape.
        max_side: Shrink pictures whose longer side has more pixels; null leaves their size.
        quality: JPEG quality of pictures that are changed (cropped, resized, undistorted); JPEG
            files that are not changed are copied bit by bit, of several pictures in one file the
            first.
        near: Nearest depth to write for every scene; auto writes each scene's own or an estimate,
            null leaves bounds out.
        far: Farthest depth; as for near.
    """

    image_shape: tuple[int, int] | None = None
    max_side: int | None = None
    quality: int = 95
    near: float | Literal["auto"] | None = "auto"
    far: float | Literal["auto"] | None = "auto"

    def __post_init__(self) -> None:
        if self.image_shape is not None and min(self.image_shape) < 1:
            raise ValueError(f"image_shape is {list(self.image_shape)}; expected height and width")
        if self.image_shape is not None and self.max_side is not None:
            raise ValueError("image_shape and max_side exclude each other; give one of them")
        if self.max_side is not None and self.max_side < 1:
            raise ValueError(f"max_side is {self.max_side}; it must be at least 1")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality}; expected 1 to 100")
        if (self.near is None) != (self.far is None):
            raise ValueError("near and far are left out together: give both as null, or none")
        numbers = [bound for bound in (self.near, self.far) if isinstance(bound, (int, float))]
        if any(not 0 < bound < float("inf") for bound in numbers):
            raise ValueError(
                f"near is {self.near} and far is {self.far}; expected positive numbers"
            )
        if len(numbers) == 2 and numbers[0] >= numbers[1]:
            raise ValueError(f"near is {self.near} and far is {self.far}; expected near < far")


@dataclass
class ConvertedScene:
    """A scene as chunks store it, and what to report about it.

    Args:
        entry: The dict, as :mod:`mvsplat.data.chunks.chunk_scenes` describes it.
        bounds: Its depth bounds and what they rest on; None if they are left out.
        left_out: Frames that cannot be used: reason to names.
    """

    entry: dict[str, Any]
    bounds: Bounds | None
    left_out: dict[str, list[str]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of its pictures and depths."""
        return sum(len(frame) for frame in [*self.entry["images"], *self.entry.get("depths", [])])


def convert_scene(scene: Scene, key: str, settings: ConversionSettings) -> ConvertedScene:
    """Every frame of a scene that can be decoded, as chunks store scenes.

    Raises:
        ValueError: Fewer than two frames can be used, or the scene has no depth bounds.
    """
    left_out = LeftOut.of(scene.left_out)
    frames: list[_ConvertedFrame] = []
    for index in range(len(scene)):
        try:
            frames.append(_convert_frame(scene, index, settings))
        except (ValueError, OSError) as error:
            left_out.add(_reason(error), _name(scene, index))
    if len(frames) < _FEWEST_FRAMES:
        reasons = describe_left_out(left_out) or "it has no more"
        raise ValueError(f"fewer than {_FEWEST_FRAMES} usable frames ({reasons})")
    bounds = _bounds(scene, settings)
    numbers = [frame.number for frame in frames]
    names = [_name(scene, number) for number in numbers]
    entry: dict[str, Any] = {
        "key": key,
        "url": "",
        "timestamps": _timestamps(names, numbers),
        "names": names,
        "cameras": pack_cameras(
            scene.extrinsics[numbers], torch.stack([frame.intrinsics for frame in frames])
        ),
        "images": [frame.picture for frame in frames],
    }
    if bounds is not None:
        entry |= {"near": bounds.near, "far": bounds.far}
    entry |= _depths(frames, bounds)
    if scene.points is not None and len(scene.points):
        count = min(len(scene.points), _MOST_POINTS)
        # In float64, because float32 counts to 16 million only.
        chosen = torch.linspace(0, len(scene.points) - 1, count, dtype=torch.float64).long()
        entry["points"] = scene.points[chosen].float()
    return ConvertedScene(entry, bounds, left_out)


@dataclass
class _ConvertedFrame:
    """A converted frame; ``picture`` are the bytes of its file."""

    number: int
    picture: UInt8[Tensor, " bytes"]
    intrinsics: Tensor
    depth: np.ndarray | None


def _convert_frame(scene: Scene, index: int, settings: ConversionSettings) -> _ConvertedFrame:
    picture = scene.image(index)  # also where its file is copied: what is written can be decoded
    depth = scene.depth(index)
    size = (picture.height, picture.width)
    shape = _shape(size, settings)
    data = scene.encoded(index) if shape == size else None
    if data is not None:
        data = first_picture(data)
    else:
        if shape != size:
            picture = Image.fromarray(crop_image(picture, shape).permute(1, 2, 0).numpy())
        buffer = io.BytesIO()
        # Without subsampling: it would halve the colours' resolution.
        picture.save(buffer, "JPEG", quality=settings.quality, subsampling=0)
        data = buffer.getvalue()
    if depth is not None and shape != size:
        depth = crop_depth(depth, shape).numpy()
    return _ConvertedFrame(
        index,
        torch.frombuffer(bytearray(data), dtype=torch.uint8),
        crop_intrinsics(scene.intrinsics[index], size, shape),
        depth,
    )


def _shape(size: Shape, settings: ConversionSettings) -> Shape:
    """Height and width of a converted picture."""
    if settings.image_shape is not None:
        return settings.image_shape[0], settings.image_shape[1]
    longer = max(size)
    if settings.max_side is None or longer <= settings.max_side:
        return size
    scale = settings.max_side / longer
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _bounds(scene: Scene, settings: ConversionSettings) -> Bounds | None:
    if settings.near is None or settings.far is None:
        return None
    near, far = (None if b == "auto" else float(b) for b in (settings.near, settings.far))
    return find_bounds(scene, near, far)


def _depths(frames: Sequence[_ConvertedFrame], bounds: Bounds | None) -> Mapping[str, Any]:
    """Depth as chunks store it, where every frame has it and there is a bound to scale it by."""
    depths = [frame.depth for frame in frames]
    if bounds is None or any(depth is None for depth in depths):
        return {}
    return {"depths": [encode_depth(depth, bounds.near) for depth in depths if depth is not None]}


def _name(scene: Scene, index: int) -> str:
    return str(index) if scene.frame_names is None else scene.frame_names[index]


def _timestamps(names: Sequence[str], numbers: Sequence[int]) -> Tensor:
    """The frames' names where they are whole numbers, as RealEstate10K's are; else their places."""
    whole = all(name.isdecimal() and name.isascii() and len(name) <= 18 for name in names)
    return torch.tensor([int(name) for name in names] if whole else list(numbers))


def _reason(error: Exception) -> str:
    """What a frame is counted under: missing or damaged, or what else is wrong with it."""
    if isinstance(error, FileNotFoundError):
        return MISSING
    text = str(error)
    return "pictures are damaged" if "cannot be decoded" in text else text[:300]
