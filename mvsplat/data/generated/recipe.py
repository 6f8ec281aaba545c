"""What all scenes of a data set have in common."""

from collections.abc import Mapping
from dataclasses import dataclass

NEAR, FAR = 1.0, 10.0  # depth bounds in metres that every room states
KINDS = ("outdoors", "facade", "tabletop", "corridor", "heap", "room")
"""The kinds of varied scenes."""


@dataclass(frozen=True)
class Recipe:
    """Settings of a scene's frames and of the camera's way.

    Args:
        frames: Number of frames a scene.
        height: Height of the frames in pixels.
        width: Width of the frames in pixels.
        travel: Length of the camera's way in metres.
        field_of_view: Least and largest angle across the longer side, degrees.
        pitch: Largest pitch up or down, degrees.
        roll: Largest roll, degrees.
        seed: Other seeds give other scenes.
    """

    frames: int
    height: int
    width: int
    travel: float
    field_of_view: tuple[float, float]
    pitch: float
    roll: float
    seed: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.height, self.width


@dataclass(frozen=True)
class Variety:
    """Settings that varied scenes have in common.

    Args:
        kinds: How often each kind of scene is drawn, relative to the others.
        frames: Number of frames a scene.
        shapes: Heights and widths of the frames; each scene has one of them.
        field_of_view: Least and largest angle across a frame's longer side, degrees.
        seed: Other seeds give other scenes.
    """

    kinds: Mapping[str, float]
    frames: int
    shapes: tuple[tuple[int, int], ...]
    field_of_view: tuple[float, float]
    seed: int
