"""A scene to reconstruct: its frames with cameras, and what cannot be used of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mvsplat.data.left_out import LeftOut, describe_left_out
from mvsplat.data.scene import Scene
from mvsplat.reconstruction.cameras.structure_from_motion import CameraEstimate
from mvsplat.reconstruction.frames import UsedPhoto
from mvsplat.reconstruction.part_of_scene import PartOfScene
from mvsplat.reconstruction.pictures import any_size
from mvsplat.reconstruction.quality import blur_of
from mvsplat.refinement.photographs import read_photographs


@dataclass
class SceneInput:
    """A scene to reconstruct, and where it came from.

    Args:
        scene: Its frames with cameras.
        names: What to call the frames.
        kind: What was handed in, in words.
        dropped: Why photographs cannot be used, by name.
        notes: What else a user should know.
        estimate: How the cameras were estimated, if they were.
        unreadable: Frames whose photographs were found to be unreadable.
    """

    scene: Scene
    names: list[str]
    kind: str
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    estimate: CameraEstimate | None = None
    unreadable: set[int] = field(default_factory=set)

    def readable(
        self,
        indices: Sequence[int],
        size: int,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[UsedPhoto]:
        """Those of some photographs that can be read; the others join ``dropped``.

        Args:
            indices: Their numbers.
            size: The longer side in pixels to which they are reduced.
            progress: Is told how many have been read.
        """
        photos = []
        for done, index in enumerate(indices, start=1):
            with any_size():
                found = read_photographs(self.scene, [index], self.names, size)
            photos += [UsedPhoto(index, photo, blur_of(photo)) for photo in found.photographs]
            for reason in found.unreadable.values():
                self._drop(index, reason)
            progress(done)
        return photos

    def _drop(self, index: int, reason: str) -> None:
        """Note a photograph that cannot be read, and why, without its path."""
        name = self.names[index]
        folder, _, problem = reason.partition(f"{name} ")
        is_named = problem and (not folder or folder[-1] in "/\\")
        self.dropped[name] = problem if is_named else reason
        self.unreadable.add(index)

    def without_unreadable(self) -> "SceneInput":
        """The input without the photographs that were found to be unreadable.

        Raises:
            ValueError: Fewer than two are left; lists the others.
        """
        kept = [index for index in range(len(self.names)) if index not in self.unreadable]
        check_enough(self.kind, len(kept), self.dropped)
        names = [self.names[index] for index in kept]
        return replace(self, scene=PartOfScene(self.scene, kept), names=names, unreadable=set())


def check_enough(kind: str, usable: int, dropped: dict[str, str]) -> None:
    """Raise a ValueError that lists what was dropped if fewer than two photographs are usable."""
    if usable >= 2:
        return
    left_out = LeftOut()
    for name, reason in dropped.items():
        left_out.add(reason, name)
    reasons = f"; left out: {describe_left_out(left_out)}" if left_out else ""
    raise ValueError(
        f"{kind}: of {usable + len(dropped)} photos {usable or 'none'} can be used, at least two "
        f"are needed{reasons}"
    )
