"""Generated scenes, the embedded default: rooms that are drawn, filmed and written as chunks."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from mvsplat.data.chunks.chunk_scenes import ChunkScenes, write_chunks
from mvsplat.data.generated.recipe import FAR, NEAR, Recipe
from mvsplat.data.scene import Split
from mvsplat.progress import track

# Part of the folder's name: raise it whenever the same settings would give other pictures.
_VERSION = 4
_CHUNK_BYTES = 25_000_000


class GeneratedScenes(ChunkScenes):
    """Procedural rooms with exact depth, written once by prepare_data and read like any chunks.

    Every set of settings has a folder of its own under root, named after its frame size, counts
    and a digest of all settings; what is complete there is used again. A scene depends on the
    settings and its number alone, so more scenes are the same ones and some more. Depths are
    between 1 and 10 metres, which are also the scenes' depth bounds.

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
        travel: float = 0.9,
        field_of_view: tuple[float, float] = (50.0, 65.0),
        pitch: float = 18.0,
        roll: float = 14.0,
        seed: int = 0,
        open_chunks: int = 8,
    ) -> None:
        height, width = image_shape
        narrow, wide = field_of_view
        _check("train_scenes", train_scenes, 0, 10_000_000)
        _check("test_scenes", test_scenes, 0, 10_000_000)
        _check("frames", frames, 2, 100_000)
        _check("image_shape's height", height, 16, 4096)
        _check("image_shape's width", width, 16, 4096)
        _check("travel", travel, 0.0, 3.0)
        _check("field_of_view's smallest", narrow, 20.0, 90.0)
        _check("field_of_view's largest", wide, narrow, 90.0)
        _check("pitch", pitch, 0.0, 40.0)
        _check("roll", roll, 0.0, 180.0)
        _check("seed", seed, 0, 2**63 - 1)
        self.counts: dict[Split, int] = {"train": train_scenes, "test": test_scenes}
        self.recipe = Recipe(
            frames, height, width, float(travel), (float(narrow), float(wide)),
            float(pitch), float(roll), seed,
        )  # fmt: skip
        text = json.dumps([_VERSION, asdict(self.recipe)], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        name = f"{width}x{height}-{frames}frames-{train_scenes}train-{test_scenes}test-{digest}"
        self.folder = Path(root) / name
        super().__init__(str(self.folder), open_chunks)

    def prepare(self) -> None:
        """Generate the scenes unless they are there; 2,000 of 64 x 64 take a minute or two.

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
                f"{self.folder}: these generated scenes are not there; `fit` makes them by "
                "itself, `mvsplat scenes` with the same settings does it beforehand"
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
        # Here, because they bring numba, which reading scenes does not need.
        from mvsplat.data.generated.filming import film_scenes

        for split, count in self.counts.items():
            scenes: Iterable[dict] = film_scenes(self.recipe, split, count)
            if count:
                scenes = track(scenes, count, f"Generating {count} {split} scenes")
            write_chunks(folder / split, scenes, _CHUNK_BYTES)
        files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        manifest = {
            "about": "procedural rooms of mvsplat's GeneratedScenes, RealEstate10K chunk layout",
            "generator": _VERSION,
            "scenes": self.counts,
            "near": NEAR,
            "far": FAR,
            "settings": asdict(self.recipe),
            "files": sorted(path.as_posix() for path in files),
        }
        text = json.dumps(manifest, indent=2) + "\n"
        (folder / "manifest.json").write_text(text, encoding="utf-8")


def _check(name: str, value: int | float, low: int | float, high: int | float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; it must be between {low} and {high}")
