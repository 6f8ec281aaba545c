"""Scenes whose frames are read lazily, and sources that list them.

A source is all a new kind of data needs: it says which scenes there are and hands out each as a
:class:`Scene`; crops, flips, view choice, shuffling and loading are the same for every source.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mvsplat.configurable import Configurable
from mvsplat.data.storage.cache import FileCache

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")


class Scene(ABC):
    """Frames with cameras; pictures are decoded only when asked for.

    Attributes:
        key: The scene's name, unique in its split.
        extrinsics: Camera-to-world matrices of all frames (OpenCV axes).
        intrinsics: Normalised intrinsics of all frames.
        near, far: Depth bounds, where the data has them.
        frame_names: The frames' file names or time stamps, where the data has them.
        points: Sparse scene points in world space (structure from motion's, say), where the data
            has them.
        left_out: Frames of the data that cannot be used (their pictures are missing, say): from
            the reason to the frames' names.
        notes: What else a user should know about how the data was read, in sentences.
    """

    key: str
    extrinsics: Float[Tensor, "n 4 4"]
    intrinsics: Float[Tensor, "n 3 3"]
    near: float | None = None
    far: float | None = None
    frame_names: Sequence[str] | None = None
    points: Float[Tensor, "p 3"] | None = None
    left_out: Mapping[str, Sequence[str]] = MappingProxyType({})
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.extrinsics)

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """Frame ``index`` as an 8-bit RGB picture.

        Raises:
            ValueError: The picture cannot be decoded; names the scene and the frame.
        """

    def depth(self, index: int) -> np.ndarray | None:
        """Exact depth of frame ``index`` along the optical axis [h, w], or None if not known."""
        return None

    def mask(self, index: int) -> np.ndarray | None:
        """Which pixels [h, w] of frame ``index`` show the scene, or None if all do."""
        return None

    def encoded(self, index: int) -> bytes | None:
        """The JPEG, PNG or WebP file whose pixels are exactly those of ``image(index)``, if any."""
        return None


class SceneSource(Configurable, ABC):
    """Lists scenes and reads them; derive from it to bring in another kind of data.

    Attributes:
        cache: Where a source keeps what it fetches from object storage; the data module sets it.
    """

    cache: FileCache = FileCache()

    def prepare(self) -> None:
        """Download or generate what is missing; called on one process only, so it sets nothing."""

    @abstractmethod
    def keys(self, split: Split) -> Sequence[str]:
        """The scenes of a split, in a fixed order; cheap.

        Raises:
            FileNotFoundError: The data is not where it should be.
        """

    @abstractmethod
    def scene(self, split: Split, key: str) -> Scene:
        """One scene, its pictures still undecoded. Called in loader workers.

        Raises:
            ValueError: The scene's file is damaged; names the file and the scene.
        """

    def expect(self, split: Split, keys: Iterable[str]) -> None:
        """Told in each process which scenes it will read next; a source may fetch them ahead.

        Args:
            split: Their split.
            keys: In order, the scene that is read now first; without end, in training.
        """

    def groups(self, split: Split) -> Sequence[Sequence[str]]:
        """Keys that lie together on disk (a chunk's, say) and are best read one after the other."""
        return [self.keys(split)]
