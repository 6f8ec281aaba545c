"""Sources of many scenes, each read from its own small files."""

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mvsplat.data.readers.photos import PhotoScene
from mvsplat.data.scene import SceneSource, Split

_KEPT = 8
# Of so many scenes the log says what was left out; after them, it is no news.
_TOLD = 5


class ManyScenes(SceneSource):
    """Lists scenes once and keeps the cameras of the last few."""

    def __init__(self) -> None:
        self._listed: dict[Split, Mapping[str, Path]] = {}
        self._scenes: OrderedDict[tuple[Split, str], PhotoScene] = OrderedDict()
        self._told = 0

    def keys(self, split: Split) -> Sequence[str]:
        return list(self._list(split))

    def scene(self, split: Split, key: str) -> PhotoScene:
        if (split, key) not in self._scenes:
            paths = self._list(split)
            if key not in paths:
                raise ValueError(f"there is no {split} scene {key!r} in {self._where()}")
            self._scenes[split, key] = scene = self._read(split, key, paths[key])
            if (scene.notes or scene.left_out) and self._told < _TOLD:
                self._told += 1
                scene.tell()
            if len(self._scenes) > _KEPT:
                self._scenes.popitem(last=False)
        return self._scenes[split, key]

    def _list(self, split: Split) -> Mapping[str, Path]:
        if split not in self._listed:
            self._listed[split] = self._find(split)
        return self._listed[split]

    @abstractmethod
    def _find(self, split: Split) -> Mapping[str, Path]:
        """The scenes of a split, each with the file or folder it is read from."""

    @abstractmethod
    def _read(self, split: Split, key: str, path: Path) -> PhotoScene:
        """Read a scene's cameras."""

    @abstractmethod
    def _where(self) -> str:
        """Where the data is, for messages."""

    def __getstate__(self) -> dict[str, Any]:
        # Scenes stay behind when a source travels to a worker process.
        return {**self.__dict__, "_scenes": OrderedDict()}
