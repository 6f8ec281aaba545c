"""What the formats that round values share: quaternions of three numbers, colours, order, axes."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from mvsplat.geometry.harmonics_rotation import harmonics_rotation
from mvsplat.geometry.spherical_harmonics import normalization
from mvsplat.types import Gaussians

AT_A_TIME = 1 << 17
"""Gaussians rounded at a time, so that no second copy of a large scene is needed."""
IDENTITY = (1.0, 0.0, 0.0, 0.0)
_OTHERS = torch.tensor([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])


def smallest_three(
    rotations: Float[Tensor, "g 4"],
) -> tuple[Int[Tensor, " g"], Float[Tensor, "g 3"]]:
    """Which component of unit quaternions is the largest, and the others where it is positive.

    The others are in the quaternion's own order and in [-sqrt(1/2), sqrt(1/2)].
    """
    largest = rotations.abs().argmax(dim=-1)
    positive = torch.where(rotations.gather(1, largest[:, None]) < 0, -rotations, rotations)
    return largest, positive.gather(1, _OTHERS[largest])


def from_smallest_three(
    largest: Int[Tensor, " g"], others: Float[Tensor, "g 3"]
) -> Float[Tensor, "g 4"]:
    """The unit quaternions of :func:`smallest_three`."""
    rest = (1 - others.square().sum(-1, keepdim=True)).clamp(min=0).sqrt()
    rotations = torch.empty(len(others), 4)
    rotations.scatter_(1, _OTHERS[largest], others).scatter_(1, largest[:, None], rest)
    return unit(rotations)


def unit(rotations: Float[Tensor, "g 4"]) -> Float[Tensor, "g 4"]:
    """Quaternions of length 1; the identity where there is no length."""
    length = rotations.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, rotations / length, rotations.new_tensor(IDENTITY))


def to_colors(constant: Float[Tensor, "*g"]) -> Float[Tensor, "*g"]:
    """Colours, in [0, 1] where they can be shown, of constant harmonics."""
    return constant * normalization(0, 0) + 0.5


def to_constant(colors: Float[Tensor, "*g"]) -> Float[Tensor, "*g"]:
    """Constant harmonics of colours."""
    return (colors - 0.5) / normalization(0, 0)


def to_bytes(values: Float[Tensor, "*g"]) -> UInt8[Tensor, "*g"]:
    """Values, rounded to whole numbers from 0 to 255."""
    return values.round().clamp(0, 255).to(torch.uint8)


def batch_of_one(
    means: Float[Tensor, "g 3"],
    scales: Float[Tensor, "g 3"],
    rotations: Float[Tensor, "g 4"],
    harmonics: Float[Tensor, "g 3 k"],
    opacities: Float[Tensor, " g"],
) -> Gaussians:
    """One scene's fields as a batch."""
    return Gaussians(means[None], scales[None], rotations[None], harmonics[None], opacities[None])


class HalfTurn:
    """A turn by 180 degrees about a coordinate axis: how formats with y up differ from ours.

    It is its own inverse, and changes nothing but signs. About x it leads from OpenCV's axes
    (right, down, forward) to OpenGL's (right, up, back), about z to glTF's (left, up, forward).

    Args:
        axis: 0, 1 or 2.
        degree: Of the harmonics.

    Attributes:
        means: Signs of positions [3].
        rotations: Signs of quaternions (w, x, y, z) [4]; principal axes are turned, too, which
            leaves Gaussians as they are.
        harmonics: Signs of coefficients [k].
    """

    def __init__(self, axis: int, degree: int):
        self.means = -torch.ones(3)
        self.means[axis] = 1
        self.rotations = torch.cat([torch.ones(1), self.means])
        matrix = harmonics_rotation(torch.diag(self.means).double(), degree)
        self.harmonics = matrix.diagonal().round().float()


def morton_order(means: Float[Tensor, "g 3"]) -> Int[Tensor, " g"]:
    """Numbers of the points along a Z-order curve, on which neighbours are near each other."""
    low, high = means.amin(0), means.amax(0)
    cells = ((means - low) / (high - low).clamp(min=1e-30) * (2**21 - 1)).long().clamp(min=0)
    code = torch.zeros(len(means), dtype=torch.long)
    for axis in range(3):
        code |= _spread(cells[:, axis]) << axis
    return code.argsort(stable=True)


def _spread(bits: Int[Tensor, " g"]) -> Int[Tensor, " g"]:
    """21 bits, two zeros put after each."""
    for shift, mask in (
        (32, 0x001F00000000FFFF),
        (16, 0x001F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        bits = (bits | bits << shift) & mask
    return bits
