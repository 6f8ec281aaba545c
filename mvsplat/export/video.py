"""Films: frames as H.264 in MP4, and the frames of a camera path through Gaussians.

Everything goes frame by frame, so that a film's length costs time but no memory.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from mvsplat.decoder import SplattingDecoder
from mvsplat.export.images import to_pil
from mvsplat.files import replacing
from mvsplat.geometry.trajectories import CameraPath
from mvsplat.types import Gaussians, Rendering

PIXELS_AT_A_TIME = 4 << 20
"""Pixels rendered in one call by default: two frames of 1080p."""

# ITU-T H.273: BT.709 colours in the limited range, which players expect of a file.
_BT709, _LIMITED_RANGE = 1, 1


class RenderedFrame(NamedTuple):
    """A rendered view.

    Args:
        color: Colours, not clamped above.
        depth: Depth of the kind the decoder was asked for.
        alpha: Accumulated opacity in [0, 1].
    """

    color: Float[Tensor, "3 h w"]
    depth: Float[Tensor, "h w"]
    alpha: Float[Tensor, "h w"]


def render_path(
    decoder: SplattingDecoder,
    gaussians: Gaussians,
    path: CameraPath,
    size: tuple[int, int],
    near: float = 1.0,
    far: float = 100.0,
    scene: int = 0,
    chunk: int | None = None,
) -> Iterator[RenderedFrame]:
    """Render the frames of a camera path one after another, without gradients.

    Args:
        decoder: Renders the Gaussians.
        gaussians: A batch of scenes.
        path: The cameras.
        size: Height and width of the frames.
        near: Near bound of the scene's views; the decoder's unit of distance.
        far: Far bound.
        scene: Which scene of the batch.
        chunk: Frames rendered in one call; by default as many as have four million pixels.

    Raises:
        ValueError: There is no such scene, or the chunk is not positive.

    >>> import mvsplat, torch
    >>> from mvsplat.geometry.trajectories import wobble
    >>> speck = mvsplat.Gaussians(
    ...     means=torch.tensor([[[0.0, 0.0, 2.0]]]),
    ...     scales=torch.full((1, 1, 3), 0.2),
    ...     rotations=torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]),
    ...     harmonics=torch.ones(1, 1, 3, 1),
    ...     opacities=torch.ones(1, 1),
    ... )
    >>> lens = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    >>> path = wobble(torch.eye(4), lens, frames=5, radius=0.1, focus=2.0)
    >>> frames = mvsplat.export.render_path(mvsplat.SplattingDecoder(), speck, path, (32, 48))
    >>> [tuple(frame.color.shape) for frame in frames]
    [(3, 32, 48), (3, 32, 48), (3, 32, 48), (3, 32, 48), (3, 32, 48)]
    """
    if not 0 <= scene < len(gaussians.means):
        raise ValueError(f"there is no scene {scene} among {len(gaussians.means)}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}; it must be at least 1")
    chunk = max(1, PIXELS_AT_A_TIME // (size[0] * size[1])) if chunk is None else chunk
    one = Gaussians(
        *(
            getattr(gaussians, name)[scene : scene + 1].detach()
            for name in ("means", "scales", "rotations", "harmonics", "opacities")
        )
    )
    parts = (path[start : start + chunk] for start in range(0, len(path), chunk))
    return (
        RenderedFrame(*frame)
        for part in parts
        for frame in _frames(_render(decoder, one, part, size, near, far))
    )


def _frames(rendering: Rendering) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    return zip(rendering.color[0], rendering.depth[0], rendering.alpha[0], strict=True)


@torch.no_grad()
def _render(
    decoder: SplattingDecoder,
    gaussians: Gaussians,
    path: CameraPath,
    size: tuple[int, int],
    near: float,
    far: float,
) -> Rendering:
    device = gaussians.means.device
    cameras = (path.extrinsics[None].to(device), path.intrinsics[None].to(device))
    bounds = (torch.full((1, len(path)), bound, device=device) for bound in (near, far))
    return decoder(gaussians, *cameras, *bounds, size)


def save_video(
    frames: Iterable[Float[Tensor, "3 h w"] | Image.Image],
    path: str | Path,
    fps: float | int = 30,
    quality: int = 18,
) -> int:
    """Write frames as H.264 in an MP4 file that every browser plays; returns how many there were.

    An existing file is replaced once all is written. Sizes in H.264 are even: an odd last row or
    column is shown twice. No ffmpeg needs to be installed, PyAV's wheels bring it.

    Args:
        frames: Pictures, all of one size, with colours in [0, 1]; drawn one at a time.
        path: The file, which ends in ``.mp4``.
        fps: Frames a second.
        quality: H.264's constant rate factor: 18 looks like the original, 28 is half the size.

    Raises:
        ValueError: There are no frames, their sizes differ, or the name or a number is unusable.
        OSError: The file cannot be written.

    >>> import tempfile, torch, mvsplat
    >>> folder = tempfile.TemporaryDirectory()
    >>> frames = (torch.full((3, 48, 64), step / 9) for step in range(10))
    >>> mvsplat.export.save_video(frames, folder.name + "/dawn.mp4", fps=10)
    10
    """
    import av

    if Path(path).suffix.lower() != ".mp4":
        raise ValueError(f"a video's name must end in .mp4, not {Path(path).name!r}")
    if not fps > 0 or not 0 <= quality <= 51:
        raise ValueError(f"fps is {fps} and quality {quality}; expected over 0, and 0 to 51")
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"there are no frames for the video {path}")
    pictures = map(_even, chain([first], frames))
    with replacing(path) as temporary:
        try:
            return _encode(pictures, temporary, fps, quality)
        except av.error.FFmpegError as error:
            raise OSError(f"the video {path} could not be written: {error}") from error


def _encode(
    pictures: Iterator[UInt8[np.ndarray, "rows columns 3"]],
    path: Path,
    fps: float | int,
    quality: int,
) -> int:
    import av

    first = next(pictures)
    height, width = first.shape[:2]
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as file:
        stream = file.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(quality), "preset": "medium"}
        codec = stream.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = _LIMITED_RANGE
        count = 0
        for count, picture in enumerate(chain([first], pictures), start=1):
            if picture.shape != first.shape:
                raise ValueError(
                    f"frame {count} is {picture.shape[1]} x {picture.shape[0]}, "
                    f"the first one {width} x {height}: the frames of a video have one size"
                )
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            file.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        file.mux(stream.encode(None))
    return count


def _even(frame: Float[Tensor, "3 h w"] | Image.Image) -> UInt8[np.ndarray, "rows columns 3"]:
    """The frame's pixels, its last row and column repeated where their number is odd."""
    picture = to_pil(frame) if isinstance(frame, Tensor) else frame.convert("RGB")
    pixels = np.asarray(picture)
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
