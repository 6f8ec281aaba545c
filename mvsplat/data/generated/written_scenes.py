"""Scenes that are generated once and written as chunks; what is complete is used again."""

import hashlib
import json
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mvsplat.data.chunks.chunk_scenes import ChunkScenes, write_chunks
from mvsplat.data.scene import Split
from mvsplat.data.storage.addresses import Location
from mvsplat.progress import track

if TYPE_CHECKING:
    import numpy as np

    from mvsplat.data.generated.shot import Shot

_CHUNK_BYTES = 25_000_000


class WrittenScenes(ChunkScenes):
    """Generated scenes with exact depth, written by prepare_data and read like any chunks.

    Args:
        folder: Where they are written; its name tells settings apart.
        counts: Number of scenes of each split.
        seed: Other seeds give other scenes.
        about: What the manifest says of them, besides the number of scenes and the files.
        open_chunks: How many chunks each loader worker keeps open.

    Attributes:
        made_beforehand: What makes the scenes without training on them.
    """

    made_beforehand: ClassVar[str]

    def __init__(
        self,
        folder: Path,
        counts: Mapping[Split, int],
        seed: int,
        about: Mapping[str, Any],
        open_chunks: int,
    ) -> None:
        super().__init__(str(folder), open_chunks)
        self.folder, self.counts = folder, counts
        self._seed, self._about = seed, about

    @abstractmethod
    def drawing(self) -> "Callable[[np.random.Generator], Shot]":
        """What draws a scene; imported only when scenes are made, as it brings numba."""

    def prepare(self) -> None:
        """Generate the scenes unless they are there.

        Several processes may call this at once: one works, the others wait for it.
        """
        if self._is_complete():
            return
        from filelock import FileLock

        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_name(f".{self.folder.name}.lock")):
            if not self._is_complete():
                self._generate()

    def _index(self, split: Split) -> dict[str, Location]:
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"{self.folder}: these generated scenes are not there; `fit` makes them by "
                f"itself, {self.made_beforehand} with the same settings does it beforehand"
            )
        return super()._index(split)

    def _is_complete(self) -> bool:
        """Whether everything that was written is still there."""
        try:
            files = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))["files"]
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
        try:
            partial.chmod(0o755)
            self._write(partial)
            if self.folder.exists():
                shutil.rmtree(self.folder)
            partial.rename(self.folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _write(self, folder: Path) -> None:
        from mvsplat.data.generated import filming

        draw = self.drawing()
        for split, count in self.counts.items():
            scenes = filming.film_scenes(draw, self._seed, split, count)
            if count:
                scenes = track(scenes, count, f"Generating {count} {split} scenes")
            write_chunks(folder / split, scenes, _CHUNK_BYTES)
        files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        manifest = {
            **self._about,
            "scenes": self.counts,
            "files": sorted(path.as_posix() for path in files),
        }
        text = json.dumps(manifest, indent=2) + "\n"
        (folder / "manifest.json").write_text(text, encoding="utf-8")


def digest(*settings: Any) -> str:
    """Eight characters that differ between settings."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def check(name: str, value: int | float, low: int | float, high: int | float) -> None:
    """Raise ValueError, naming the setting, unless ``value`` is from ``low`` to ``high``."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; it must be between {low} and {high}")
