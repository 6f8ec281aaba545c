"""Rotation of functions on the sphere, given by coefficients in the standard 3DGS basis."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

MAX_DEGREE = 3


def harmonics_rotation(
    rotation: Float[Tensor, "*batch 3 3"], degree: int
) -> Float[Tensor, "*batch k k"]:
    """Matrix that turns the coefficients of f into those of d -> f(R^T d).

    The rotated function is read off at fixed directions and expressed in the basis again, which
    is exact because each degree's functions are rotated into each other.

    Raises:
        ValueError: The degree is above 3.
    """
    directions, to_coefficients = _samples(degree, rotation.device)
    count = (degree + 1) ** 2
    return to_coefficients.to(rotation) @ _basis(directions.to(rotation) @ rotation)[..., :count]


@lru_cache(maxsize=32)
def _samples(degree: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Directions spread over the sphere, and the pseudo-inverse of the basis at them."""
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"spherical harmonics of degree {degree}: expected 0 to {MAX_DEGREE}")
    index = torch.arange(64, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / 64
    angle = torch.pi * (1 + 5**0.5) * index
    radius = (1 - z * z).sqrt()
    directions = torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=-1)
    inverse = torch.linalg.pinv(_basis(directions)[:, : (degree + 1) ** 2])
    return directions.to(device), inverse.to(device)


def _basis(directions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 16"]:
    """The real spherical harmonics of degrees 0 to 3 with 3DGS' order and signs."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    functions = (
        torch.full_like(x, 0.28209479177387814),
        -0.4886025119029199 * y,
        0.4886025119029199 * z,
        -0.4886025119029199 * x,
        1.0925484305920792 * x * y,
        -1.0925484305920792 * y * z,
        0.31539156525252005 * (2 * zz - xx - yy),
        -1.0925484305920792 * x * z,
        0.5462742152960396 * (xx - yy),
        -0.5900435899266435 * y * (3 * xx - yy),
        2.890611442640554 * x * y * z,
        -0.4570457994644658 * y * (4 * zz - xx - yy),
        0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
        -0.4570457994644658 * x * (4 * zz - xx - yy),
        1.445305721320277 * z * (xx - yy),
        -0.5900435899266435 * x * (xx - 3 * yy),
    )
    return torch.stack(functions, dim=-1)
