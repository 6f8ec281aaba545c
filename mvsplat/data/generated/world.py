"""The parts a room is made of, as flat arrays that compiled kernels read, and their builder."""

from typing import NamedTuple

import numpy as np

Triple = tuple[int | float, int | float, int | float]

BOX, ELLIPSOID, CYLINDER = range(3)
CLOUDS, VEINS, GRAIN, CELLS, BRICKS, STRIPES, PAINT, LEAVES, WINDOWS = range(9)


class Walls(NamedTuple):
    """Half-spaces whose intersection is the inside of the room: normal . x >= offset.

    normal [w, 3] points inwards.
    """

    normal: np.ndarray
    offset: np.ndarray
    material: np.ndarray


class Solids(NamedTuple):
    """Convex bodies in frames of their own.

    kind [s]; centre [s, 3]; axes [s, 3, 3] whose rows are the body's axes in the world; half
    [s, 3] extents along them (a cylinder stands along its third axis); radius [s] of the sphere
    around the body; material [s].
    """

    kind: np.ndarray
    centre: np.ndarray
    axes: np.ndarray
    half: np.ndarray
    radius: np.ndarray
    material: np.ndarray


class Materials(NamedTuple):
    """Solid textures, so that a body needs no surface coordinates and shows no seams.

    pattern [m]; palette [m, 4, 3] linear colours; size [m] of the pattern in metres; axes
    [m, 3, 3] and origin [m, 3] of the pattern's own frame; glow [m], light sent out by itself;
    gain [m], the amplitude of a finer octave relative to the one above it; softness [m], how far
    from the pixels' size details end (1: far); contrast [m] of what is laid over the pattern; shine
    [m], the share of the surroundings that it mirrors.
    """

    pattern: np.ndarray
    palette: np.ndarray
    size: np.ndarray
    axes: np.ndarray
    origin: np.ndarray
    glow: np.ndarray
    gain: np.ndarray
    softness: np.ndarray
    contrast: np.ndarray
    shine: np.ndarray


class Lights(NamedTuple):
    """Lamps: position [l, 3]; radius [l] softens shadows, 0 casts none; linear colour [l, 3]."""

    position: np.ndarray
    radius: np.ndarray
    color: np.ndarray


class World(NamedTuple):
    """Everything a picture shows; ambient [2, 3] is the light from below and from above."""

    walls: Walls
    solids: Solids
    materials: Materials
    lights: Lights
    ambient: np.ndarray


def turn(yaw: float) -> np.ndarray:
    """Rows are the axes of a frame turned by ``yaw`` radians about the vertical."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


def random_axes(rng: np.random.Generator) -> np.ndarray:
    """A rotation drawn uniformly."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


class Builder:
    """Collects walls, bodies, materials and lamps; positions are in the frame of ``at``."""

    def __init__(self, rng: np.random.Generator, finest: float):
        """``finest``: size in metres under which a picture could not hold a pattern."""
        self.rng = rng
        self.finest = finest
        self._frame = (np.zeros(3), np.eye(3))
        self._walls: list[tuple] = []
        self._solids: list[tuple] = []
        self._materials: list[tuple] = []
        self._lights: list[tuple] = []

    def at(self, position: Triple, yaw: float) -> "Builder":
        """Place what follows in a frame at ``position``, turned about the vertical."""
        self._frame = (np.asarray(position, dtype=np.float64), turn(yaw))
        return self

    def wall(self, normal: np.ndarray, point: np.ndarray, material: int) -> None:
        """A wall through ``point`` (world), its normal pointing into the room."""
        normal = normal / np.linalg.norm(normal)
        self._walls.append((normal, float(normal @ point), material))

    def material(
        self,
        pattern: int,
        palette: np.ndarray,
        size: float,
        glow: float = 0.0,
        gain: float = 0.5,
        softness: float = 1.0,
        contrast: float = 1.0,
        shine: float = 0.0,
    ) -> int:
        """A solid texture; sizes are lifted to what a picture can hold."""
        # Bricks and stripes follow the body; the other patterns have no direction to keep.
        aligned = pattern in (BRICKS, STRIPES, GRAIN, WINDOWS)
        axes = self._frame[1] if aligned else random_axes(self.rng)
        origin = self._frame[0] + self.rng.uniform(-50.0, 50.0, 3)
        place = (max(size, self.finest), axes, origin)
        self._materials.append((pattern, palette, *place, glow, gain, softness, contrast, shine))
        return len(self._materials) - 1

    def solid(
        self,
        kind: int,
        centre: Triple,
        half: Triple,
        material: int,
        axes: np.ndarray | None = None,
    ) -> None:
        """A body in the current frame, turned by ``axes`` in it."""
        position, frame = self._frame
        world_centre = position + np.asarray(centre) @ frame
        world_axes = frame if axes is None else axes @ frame
        reach = {BOX: np.hypot(np.hypot(*half[:2]), half[2]), ELLIPSOID: max(half)}
        radius = reach.get(kind, np.hypot(half[0], half[2]))
        self._solids.append((kind, world_centre, world_axes, half, radius, material))

    def lamp(self, position: np.ndarray, radius: float, color: np.ndarray) -> None:
        """A lamp at a place in the world."""
        self._lights.append((position, radius, color))

    def world(self, ambient: np.ndarray) -> World:
        """Everything so far, as arrays."""
        columns = [
            [np.array(column) for column in zip(*rows, strict=True)]
            for rows in (self._walls, self._solids, self._materials, self._lights)
        ]
        as_float = [
            [c if c.dtype.kind == "i" else np.ascontiguousarray(c, dtype=np.float64) for c in group]
            for group in columns
        ]
        walls, solids, materials, lights = as_float
        return World(
            Walls(*walls), Solids(*solids), Materials(*materials), Lights(*lights), ambient
        )
