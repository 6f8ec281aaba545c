"""What a reader is: how one kind of data is recognised at a path, and how its scenes are read."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mvsplat.data.camera_checks import check_cameras
from mvsplat.data.scene import Scene, SceneSource, Split


class Reader(ABC):
    """A kind of data that every command can read, recognised by what is at a path.

    Derive from it, and override ``recognises``, and ``read`` where a path is one scene, or ``open``
    where it holds several. Another package's reader joins through an entry point of the group
    ``mvsplat.readers``, whose name is the reader's. Readers have no state and take no arguments.

    Attributes:
        expected: What is looked for, for the error that lists what is known: "a lab capture
            (cameras.csv beside its pictures)", say.
    """

    expected: str

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether a file or folder is of this kind; from names and a few bytes, never pictures."""

    def nearly(self, path: Path) -> str | None:
        """Of what is not recognised: what was nearly found, what is missing, and the way out."""
        return None

    def read(self, path: Path) -> Scene:
        """The one scene at a path.

        Raises:
            ValueError: Its files are damaged; names the file, what was found and expected.
        """
        raise NotImplementedError(f"{type(self).__name__} overrides neither read nor open")

    def open(self, path: Path, split: Split) -> SceneSource:
        """The scenes at a path, which are in the given split where the data has no splits."""
        return OneScene(self, path, split)


class OneScene(SceneSource):
    """The scene that a reader reads from a path, named after its folder.

    Args:
        reader: Reads it.
        path: The scene's folder or file.
        split: The split that has it; the other one is empty.
    """

    def __init__(self, reader: Reader, path: Path, split: Split = "test") -> None:
        self.reader = reader
        self.path = path
        self.split = split
        folder = path if path.is_dir() else path.parent
        self.key = folder.resolve().name or "scene"
        self._scene: Scene | None = None

    def keys(self, split: Split) -> Sequence[str]:
        if not self.path.exists():
            raise FileNotFoundError(f"there is no file or folder {self.path}")
        return [self.key] if split == self.split else []

    def scene(self, split: Split, key: str) -> Scene:
        if key not in self.keys(split):
            raise ValueError(f"{self.path} has no {split} scene {key!r}, only {self.key!r}")
        if self._scene is None:
            self._scene = self._read()
        return self._scene

    def _read(self) -> Scene:
        kind = type(self.reader).__name__
        try:
            scene = self.reader.read(self.path)
        except (ValueError, OSError):
            raise
        except Exception as error:  # a reader of a user's can stumble over anything
            raise ValueError(
                f"{self.path}: {kind} failed: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(scene, Scene):
            raise ValueError(f"{self.path}: {kind}.read returned {scene!r:.80}, expected a Scene")
        try:
            check_cameras(scene.extrinsics, scene.intrinsics)
        except ValueError as error:
            raise ValueError(f"{self.path}, read by {kind}: {error}") from error
        scene.key = self.key
        return scene

    def __getstate__(self) -> dict[str, Any]:
        # Workers read the cameras themselves, once each.
        return {**self.__dict__, "_scene": None}
