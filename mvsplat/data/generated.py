"""Generated scenes, the embedded default: rooms that are drawn, filmed and written as chunks."""

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mvsplat.data.chunks import ChunkScenes, encode_depth, pack_cameras, write_chunks
from mvsplat.data.scenes import Split

# Part of the folder's name: raise it whenever the same settings would give other pictures.
_VERSION = 1
_SPLITS = get_args(Split)
_CHUNK_BYTES = 25_000_000
_SMALLEST, _LARGEST = 16, 4096
_JPEG = {"quality": 95, "subsampling": 0}


class GeneratedScenes(ChunkScenes):
    """Procedural rooms with exact depth, written once by prepare_data and read like any chunks.

    Every set of settings has a folder of its own under root, named after its frame size, counts
    and a digest of all settings; what is complete there is used again. A scene depends on the seed
    and its number alone, so more scenes are the same ones and some more.

    Args:
        root: Folder under which the data sets are written.
        train_scenes: Number of scenes to train on.
        test_scenes: Number of held-out scenes.
        frames: Number of frames a scene.
        image_shape: Height and width of the frames in pixels.
        travel: Length of the camera's way through a scene in metres; rooms are 7 to 9 metres long.
        field_of_view: Smallest and largest angle across a frame's longer side, in degrees.
        pitch: How far cameras look up or down at most, in degrees.
        roll: How far cameras are tilted sideways at most, in degrees.
        seed: Other seeds give other scenes.
        open_chunks: How many chunks each loader worker keeps open.

    Raises:
        ValueError: A setting makes no sense; names it.
    """

    def __init__(
        self,
        root: str = "datasets/generated",
        train_scenes: int = 2000,
        test_scenes: int = 30,
        frames: int = 7,
        image_shape: tuple[int, int] = (64, 64),
        travel: float = 1.0,
        field_of_view: tuple[float, float] = (50.0, 65.0),
        pitch: float = 18.0,
        roll: float = 14.0,
        seed: int = 0,
        open_chunks: int = 8,
    ) -> None:
        height, width = image_shape
        _check("train_scenes", train_scenes, 0, 10_000_000)
        _check("test_scenes", test_scenes, 0, 10_000_000)
        _check("frames", frames, 2, 100_000)
        _check("image_shape's height", height, _SMALLEST, _LARGEST)
        _check("image_shape's width", width, _SMALLEST, _LARGEST)
        _check("travel", travel, 0.0, 4.0)
        _check("field_of_view's smallest", field_of_view[0], 10.0, 100.0)
        _check("field_of_view's largest", field_of_view[1], field_of_view[0], 100.0)
        _check("pitch", pitch, 0.0, 45.0)
        _check("roll", roll, 0.0, 180.0)
        _check("seed", seed, 0, 2**63 - 1)
        self.counts = dict(zip(_SPLITS, (train_scenes, test_scenes)))
        self.settings = {
            "frames": frames,
            "height": height,
            "width": width,
            "travel": float(travel),
            "field_of_view": [float(angle) for angle in field_of_view],
            "pitch": float(pitch),
            "roll": float(roll),
            "seed": seed,
        }
        name = f"{width}x{height}-{frames}frames-{train_scenes}train-{test_scenes}test"
        self.folder = Path(root) / f"{name}-{self._digest()}"
        super().__init__(str(self.folder), open_chunks)

    def prepare(self) -> None:
        """Generate the scenes unless they are there; two cores take a minute or two for 2,000 small ones.

        Several processes may call this at once: one works, the others wait for it.
        """
        if self._is_complete():
            return
        from filelock import FileLock

        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_name(f".{self.folder.name}.lock")):
            if not self._is_complete():
                self._generate()

    def _index(self, split: Split) -> dict[str, Path]:
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"the generated scenes {self.folder} are not there yet: fit makes them by itself; "
                f"otherwise run `mvsplat scenes` with these settings, or call prepare_data()"
            )
        return super()._index(split)

    def _digest(self) -> str:
        text = json.dumps([_VERSION, self.settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def _is_complete(self) -> bool:
        """Whether everything that was written is still there."""
        try:
            files = json.loads((self.folder / "manifest.json").read_text())["files"]
        except (OSError, ValueError, KeyError):
            return False
        return all((self.folder / name).is_file() for name in files)

    def _generate(self) -> None:
        """Write into a temporary folder, which takes the final name when it is complete."""
        prefix = f".{self.folder.name}.partial-"
        # Left by processes that were killed: whoever writes now holds the lock.
        for stale in self.folder.parent.glob(f"{prefix}*"):
            shutil.rmtree(stale, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=prefix, dir=self.folder.parent))
        partial.chmod(0o755)
        try:
            self._write(partial)
            if self.folder.exists():
                shutil.rmtree(self.folder)
            partial.rename(self.folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _write(self, folder: Path) -> None:
        from rich.progress import track

        for split, count in self.counts.items():
            scenes = track(
                _film_all(self.settings, split, count),
                total=count,
                description=f"Generating {count} {split} scenes",
                disable=count == 0,
            )
            write_chunks(folder / split, scenes, _CHUNK_BYTES)
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        manifest = {
            "about": "procedural rooms by mvsplat.data.GeneratedScenes, RealEstate10K chunk layout",
            "generator": _VERSION,
            "scenes": self.counts,
            "settings": self.settings,
            "files": files,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; it must be between {low} and {high}")


@dataclass
class _Frame:
    image: Tensor
    depth: Tensor
    nearest: float


def _film_all(settings: dict[str, Any], split: Split, count: int) -> Iterator[dict[str, Any]]:
    """The scenes of a split in order; frames are rendered in threads, whose kernels run freely."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pool = ThreadPoolExecutor(cores)
    waiting: deque[_Take] = deque()
    try:
        for number in range(count):
            waiting.append(_Take(settings, split, number, pool))
            while sum(len(take.frames) for take in waiting) > 4 * cores + settings["frames"]:
                yield waiting.popleft().finish()
        while waiting:
            yield waiting.popleft().finish()
    finally:
        pool.shutdown(cancel_futures=True)


class _Take:
    """A scene whose frames are being rendered."""

    def __init__(
        self, settings: dict[str, Any], split: Split, number: int, pool: ThreadPoolExecutor
    ) -> None:
        self.settings, self.split, self.number, self.pool = settings, split, number, pool
        self._start(attempt=0)

    def finish(self) -> dict[str, Any]:
        """The scene as chunks hold it."""
        from mvsplat.data.synthesis.scenes import FAR, NEAR

        attempt = 0
        frames = [frame.result() for frame in self.frames]
        # Rooms are chosen by coarse previews, which can miss the tip of something thin.
        while min(frame.nearest for frame in frames) < NEAR:
            attempt += 1
            self._start(attempt)
            frames = [frame.result() for frame in self.frames]
        intrinsics = torch.eye(3).repeat(len(frames), 1, 1)
        intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]] = torch.from_numpy(self.shot.focal).float()
        return {
            "key": f"{self.split}-{self.number:06d}",
            "url": "",
            "timestamps": torch.arange(len(frames)) * 33_333,
            "cameras": pack_cameras(torch.from_numpy(self.shot.poses), intrinsics),
            "images": [frame.image for frame in frames],
            "depths": [frame.depth for frame in frames],
            "near": NEAR,
            "far": FAR,
        }

    def _start(self, attempt: int) -> None:
        from mvsplat.data.synthesis.scenes import Recipe, draw_shot

        values = dict(self.settings)
        entropy = [values.pop("seed"), _SPLITS.index(self.split), self.number, attempt]
        recipe = Recipe(**values)
        self.shot = draw_shot(np.random.default_rng(entropy), recipe)
        self.frames: list[Future[_Frame]] = [
            self.pool.submit(_render, self.shot, index, (recipe.height, recipe.width))
            for index in range(recipe.frames)
        ]


def _render(shot: Any, index: int, shape: tuple[int, int]) -> _Frame:
    from mvsplat.data.synthesis.camera import take_picture
    from mvsplat.data.synthesis.scenes import NEAR

    picture, depth = take_picture(shot.world, shot.poses[index], shot.focal, shape)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", **_JPEG)
    image = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
    return _Frame(image, encode_depth(np.maximum(depth, NEAR), NEAR), float(depth.min()))
