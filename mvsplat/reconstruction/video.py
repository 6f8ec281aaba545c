"""Frames of a video to reconstruct from: evenly spread over time, the sharpest ones around."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from mvsplat.reconstruction.pictures import LoadedPhoto
from mvsplat.reconstruction.quality import blur

if TYPE_CHECKING:
    import av

SUFFIXES = frozenset(
    (
        ".mp4 .mov .m4v .avi .mkv .webm .mpg .mpeg .3gp .3g2 .mts .m2ts .ts .vob .wmv .asf .flv "
        ".f4v .ogv"
    ).split()
)
_SPHERICAL = {".insv": "Insta360's", ".360": "GoPro's", ".osv": "DJI's"}
# Of each stretch of the video at most so many frames are looked at.
_CANDIDATES = 8


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its name; of a GIF, whether it moves.

    Raises:
        ValueError: It is a 360-degree camera's own file.
    """
    suffix = path.suffix.lower()
    if suffix in _SPHERICAL:
        raise ValueError(
            f"{path} is a 360-degree video ({_SPHERICAL[suffix]} own format), whose pictures no "
            "flat camera takes: reframe it in the camera's app, and export a flat .mp4"
        )
    return suffix in SUFFIXES or suffix == ".gif" and _moves(path)


def _moves(path: Path) -> bool:
    try:
        with Image.open(path, formats=("GIF",)) as image:
            return getattr(image, "n_frames", 1) > 1
    except (OSError, SyntaxError, ValueError, IndexError):
        return False


def sharp_frames(path: str | Path, count: int, longest: int) -> Iterator[LoadedPhoto]:
    """The sharpest frame of each of ``count`` equal stretches, upright, with square pixels.

    Frames are decoded one after the other; never more than two are held.

    Args:
        path: A video in any format that FFmpeg reads.
        count: How many frames at most.
        longest: Reduce them to at most so many pixels a side.

    Raises:
        ValueError: The file is no video, is damaged from the start, or has no frames.
    """
    import av

    path = Path(path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path}: it has no pictures, only sound")
            yield from _choose(container, path, count, longest)
    except av.FFmpegError as error:
        raise ValueError(f"{path}: not a video that can be read: {error}") from error


def _choose(
    container: "av.container.InputContainer", path: Path, count: int, longest: int
) -> Iterator[LoadedPhoto]:
    total = _count_frames(container)
    if total == 0:
        raise ValueError(f"{path}: the video has no frames")
    ratio = float(container.streams.video[0].sample_aspect_ratio or 1)
    stretch = total / min(count, total)
    step = max(1, int(stretch) // _CANDIDATES)
    best: tuple[float, int, Image.Image] | None = None
    current = 0
    for number, frame in _frames(container):
        if int(number / stretch) != current and best is not None:
            yield _photo(path, best)
            best = None
        current = int(number / stretch)
        if best is not None and number % step:
            continue
        picture = _picture(frame, ratio, longest)
        blurred = blur(picture)
        if best is None or blurred < best[0]:
            best = (blurred, number, picture)
    if best is not None:
        yield _photo(path, best)


def _count_frames(container: "av.container.InputContainer") -> int:
    """Counted by packets, where the file does not say."""
    stream = container.streams.video[0]
    if stream.frames:
        return stream.frames
    total = sum(1 for packet in container.demux(stream) if packet.size)
    container.seek(0)
    return total


def _frames(container: "av.container.InputContainer") -> Iterator[tuple[int, "av.VideoFrame"]]:
    """Numbered frames up to the first that cannot be decoded: what comes before it is good."""
    import av

    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    number = 0
    try:
        for frame in container.decode(stream):
            yield number, frame
            number += 1
    except av.FFmpegError:
        if number == 0:
            raise


def _picture(frame: "av.VideoFrame", ratio: float, longest: int) -> Image.Image:
    """A frame as it is meant to be seen: square pixels, upright, reduced."""
    width, height = frame.width * ratio, float(frame.height)
    scale = min(1.0, longest / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = frame.to_image(width=size[0], height=size[1], interpolation="LANCZOS")
    return picture.rotate(frame.rotation, expand=True) if frame.rotation % 360 else picture


def _photo(path: Path, chosen: tuple[float, int, Image.Image]) -> LoadedPhoto:
    _, number, picture = chosen
    return LoadedPhoto(f"frame_{number:06d}", picture, camera=f"{path.name} {picture.size}")
