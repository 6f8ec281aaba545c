"""Sources of one scene, in a folder of its own."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mvsplat.data.readers.photos import PhotoScene
from mvsplat.data.scene import SceneSource, Split
from mvsplat.data.untrusted import is_folder


class SingleScene(SceneSource):
    """A source of one scene, which is in one split; the other one is empty.

    Args:
        root: The scene's folder.
        split: The split that has it.
        key: What to call it; the folder's name by default.
        follow_links: Also take pictures that symbolic links out of the folder lead to.
    """

    def __init__(
        self,
        root: str,
        split: Split = "test",
        key: str | None = None,
        follow_links: bool = True,
    ) -> None:
        self.root = Path(root)
        self.split = split
        self.follow_links = follow_links
        self.key = key or self.root.resolve().name or "scene"
        self._scene: PhotoScene | None = None

    def keys(self, split: Split) -> Sequence[str]:
        if not is_folder(self.root):
            raise FileNotFoundError(f"{self.root} is no folder")
        return [self.key] if split == self.split else []

    def scene(self, split: Split, key: str) -> PhotoScene:
        if key not in self.keys(split):
            raise ValueError(f"{self.root} has no {split} scene {key!r}, only {self.key!r}")
        if self._scene is None:
            self._scene = self._read()
            self._scene.tell()
        return self._scene

    @abstractmethod
    def _read(self) -> PhotoScene:
        """Read the cameras; the scene is kept."""

    def __getstate__(self) -> dict[str, Any]:
        # Workers read the cameras themselves, once each.
        return {**self.__dict__, "_scene": None}
