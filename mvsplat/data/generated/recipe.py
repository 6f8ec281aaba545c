"""What all scenes of a data set have in common."""

from dataclasses import dataclass

NEAR, FAR = 1.0, 10.0  # depth bounds in metres that every scene states


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
