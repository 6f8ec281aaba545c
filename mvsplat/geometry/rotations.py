"""Rotations as unit quaternions (w, x, y, z) and as matrices that act on column vectors."""

import torch
from jaxtyping import Float
from torch import Tensor


def quaternion_to_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of a quaternion (w, x, y, z); its length is divided out."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_quaternion(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion (w, x, y, z) of a rotation matrix, stable for every rotation."""
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    # Row k is 4 q_k q (Bar-Itzhack, 2000): the one with the largest diagonal is far from zero.
    rows = (
        (1 + a + e + i, h - f, c - g, d - b),
        (h - f, 1 + a - e - i, d + b, c + g),
        (c - g, d + b, 1 - a + e - i, f + h),
        (d - b, c + g, f + h, 1 - a - e + i),
    )
    candidates = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    best = candidates.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)[..., None, None]
    chosen = torch.take_along_dim(candidates, best, dim=-2).squeeze(-2)
    return torch.nn.functional.normalize(chosen, dim=-1)


def quaternion_product(
    first: Float[Tensor, "*#batch 4"], second: Float[Tensor, "*#batch 4"]
) -> Float[Tensor, "*batch 4"]:
    """Hamilton product: the rotation ``second`` followed by ``first``."""
    w1, x1, y1, z1 = first.unbind(-1)
    w2, x2, y2, z2 = second.unbind(-1)
    product = (
        w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
        w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
        w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
    )
    return torch.stack(product, dim=-1)


def axis_angle_to_quaternion(turn: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion of a rotation given as its axis times its angle in radians."""
    angle = turn.norm(dim=-1, keepdim=True)
    # sin(x) / x without dividing by zero; torch.sinc(x) is sin(pi x) / (pi x).
    imaginary = 0.5 * torch.sinc(angle / (2 * torch.pi)) * turn
    return torch.cat([(angle / 2).cos(), imaginary], dim=-1)


def quaternion_to_axis_angle(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3"]:
    """Axis times angle, in [0, pi], of a unit quaternion's rotation."""
    shortest = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    length = shortest[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(length, shortest[..., :1])
    # A small rotation is 2 q; the angle over a length of 0 would be undefined.
    factor = torch.where(length > 1e-12, angle / length.clamp(min=1e-12), 2.0)
    return shortest[..., 1:] * factor


def relative_rotation(
    start: Float[Tensor, "*#batch 4"], end: Float[Tensor, "*#batch 4"]
) -> Float[Tensor, "*batch 4"]:
    """The unit quaternion that turns ``start`` into ``end``, in the world frame."""
    return quaternion_product(end, start * start.new_tensor([1.0, -1.0, -1.0, -1.0]))


def slerp(
    start: Float[Tensor, "*#batch 4"],
    end: Float[Tensor, "*#batch 4"],
    share: Float[Tensor, "*#batch 1"],
) -> Float[Tensor, "*batch 4"]:
    """Rotations on the shortest way from ``start`` (share 0) to ``end`` (share 1), at even speed.

    Spherical linear interpolation of unit quaternions (Shoemake, SIGGRAPH 1985).
    """
    turn = quaternion_to_axis_angle(relative_rotation(start, end))
    return quaternion_product(axis_angle_to_quaternion(share * turn), start)
