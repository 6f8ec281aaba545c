"""Where a scene lies in an exported file: moved to the origin, turned to a program's up axis."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.geometry.harmonics_rotation import harmonics_rotation
from mvsplat.geometry.rotations import matrix_to_quaternion, quaternion_product

Axis = Literal["x", "y", "z", "-x", "-y", "-z"]


class Placement:
    """A rotation and a shift, applied to fields of Gaussians by :meth:`__call__`.

    Args:
        center: The point that gets to the origin; None leaves the origin where it is.
        up_axis: Axis that ``up`` is turned to; None does not turn.
        up: What is up in the scene; need not be normalised.

    Raises:
        ValueError: There is no such axis, or ``up`` is no direction.
    """

    def __init__(
        self,
        center: Float[Tensor, "3"] | None = None,
        up_axis: Axis | None = None,
        up: tuple[float, float, float] = (0.0, -1.0, 0.0),
    ):
        self.center = center
        self.rotation = None if up_axis is None else _turn(_direction(up), axis_direction(up_axis))

    def __call__(self, fields: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fields mean [n, 3], rotation [n, 4] and harmonics [n, 3, k] placed; others as they are.

        A point p gets to R (p - center), and what is seen of it from direction d is then seen from
        R d.
        """
        placed = dict(fields)
        if self.center is not None:
            placed["mean"] = placed["mean"] - self.center.to(placed["mean"])
        if self.rotation is not None:
            turn = self.rotation.to(placed["mean"].device)
            placed["mean"] = (placed["mean"].double() @ turn.T).to(placed["mean"])
            quaternion = matrix_to_quaternion(turn).to(placed["rotation"])
            placed["rotation"] = quaternion_product(quaternion, placed["rotation"])
            degree = round(placed["harmonics"].shape[-1] ** 0.5) - 1
            matrix = harmonics_rotation(turn, degree).to(placed["harmonics"])
            placed["harmonics"] = placed["harmonics"] @ matrix.T
        return placed

    def comments(self) -> list[str]:
        """What was done, in a line each, in the order in which it was done."""
        lines = []
        if self.center is not None:
            x, y, z = self.center.tolist()
            lines.append(f"moved by {-x:.9g} {-y:.9g} {-z:.9g}")
        if self.rotation is not None:
            numbers = " ".join(f"{value:.9g}" for value in self.rotation.flatten().tolist())
            lines.append(f"turned by rows {numbers}")
        return lines


def axis_direction(name: str) -> Float[Tensor, "3"]:
    letter = name.removeprefix("-")
    if letter not in ("x", "y", "z"):
        raise ValueError(f"up_axis: {name!r} found, expected x, y, z, -x, -y or -z")
    direction = torch.zeros(3, dtype=torch.float64)
    direction["xyz".index(letter)] = -1 if name[0] == "-" else 1
    return direction


def _direction(up: tuple[float, float, float]) -> Float[Tensor, "3"]:
    direction = torch.as_tensor(up, dtype=torch.float64)
    if direction.shape != (3,) or not 0 < float(direction.norm()) < torch.inf:
        raise ValueError(f"up: {up} found, expected a direction of three numbers")
    return direction / direction.norm()


def _turn(start: Float[Tensor, "3"], end: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """The smallest rotation from one unit vector to another; about x (or y) if they are opposite.

    Two reflections make a rotation: across ``start``, then across the direction half-way.
    """
    identity = torch.eye(3, dtype=torch.float64)
    half = start + end
    if float(half.norm()) < 1e-6:
        pivot = identity[0 if abs(float(start[0])) < 0.9 else 1]
        pivot = pivot - start * (pivot @ start)
        pivot = pivot / pivot.norm()
        return 2 * torch.outer(pivot, pivot) - identity
    half = half / half.norm()
    across_half = identity - 2 * torch.outer(half, half)
    return across_half @ (identity - 2 * torch.outer(start, start))
