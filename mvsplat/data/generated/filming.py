"""Films scene after scene on all cores, into the dicts that chunks hold.

Frames are rendered in threads: the kernels run without Python's lock. A scene is a function of
the seed, its split and its number, whatever the number of threads.
"""

import io
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mvsplat.data.chunks.chunk_scenes import encode_depth, pack_cameras
from mvsplat.data.generated.rendering import take_picture
from mvsplat.data.generated.shot import Shot
from mvsplat.data.scene import Split
from mvsplat.machine import usable_cores

_SPLIT_SEEDS = {"train": 0, "test": 1}
_FRAME_TIME = 33_333  # microseconds
_JPEG = {"quality": 95, "subsampling": 0}


@dataclass
class _FilmedFrame:
    image: UInt8[Tensor, " image_bytes"]
    depth: UInt8[Tensor, " depth_bytes"]
    nearest: float


def film_scenes(
    draw: Callable[[np.random.Generator], Shot], seed: int, split: Split, count: int
) -> Iterator[dict[str, Any]]:
    """The first ``count`` scenes of a split, in order, as the chunks' module describes.

    Stopping early leaves at most the frames behind that are being rendered.

    Args:
        draw: Draws a scene with a generator.
        seed: With the split and the scene's number, seeds that generator.
        split: Which split.
        count: How many scenes.
    """
    cores = usable_cores()
    pool = ThreadPoolExecutor(cores)
    waiting: deque[_Take] = deque()
    try:
        for number in range(count):
            waiting.append(_Take(draw, (seed, split, number), pool))
            frames = waiting[-1].count
            # Enough to keep the cores busy; few enough to keep in memory.
            while len(waiting) * frames > 4 * cores + frames:
                yield waiting.popleft().finish()
        while waiting:
            yield waiting.popleft().finish()
    finally:
        pool.shutdown(cancel_futures=True)


class _Take:
    """A scene whose frames are being rendered."""

    def __init__(
        self,
        draw: Callable[[np.random.Generator], Shot],
        name: tuple[int, Split, int],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._draw, self._pool = draw, pool
        self._seed, self._split, self._number = name
        self._attempt = -1
        self._start()

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self._frames)

    def finish(self) -> dict[str, Any]:
        """Wait for the frames; the scene as chunks hold it."""
        frames = [frame.result() for frame in self._frames]
        # Scenes are chosen by coarse previews, which can miss the tip of something thin.
        while min(frame.nearest for frame in frames) < self._shot.near:
            self._start()
            frames = [frame.result() for frame in self._frames]
        intrinsics = torch.eye(3).repeat(len(frames), 1, 1)
        intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]] = torch.from_numpy(self._shot.focal).float()
        return {
            "key": f"{self._split}-{self._number:06d}",
            "url": "",
            "timestamps": torch.arange(len(frames)) * _FRAME_TIME,
            "cameras": pack_cameras(torch.from_numpy(self._shot.poses), intrinsics),
            "images": [frame.image for frame in frames],
            "depths": [frame.depth for frame in frames],
            "near": self._shot.near,
            "far": self._shot.far,
        }

    def _start(self) -> None:
        self._attempt += 1
        seeds = [self._seed, _SPLIT_SEEDS[self._split], self._number, self._attempt]
        self._shot = self._draw(np.random.default_rng(seeds))
        self._frames: list[Future[_FilmedFrame]] = [
            self._pool.submit(_render, self._shot, pose) for pose in self._shot.poses
        ]


def _render(shot: Shot, pose: np.ndarray) -> _FilmedFrame:
    picture, depth = take_picture(shot.world, pose, shot.focal, shot.shape)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", **_JPEG)
    image = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
    coded = encode_depth(np.maximum(depth, shot.near), shot.near)
    return _FilmedFrame(image, coded, float(depth.min()))
