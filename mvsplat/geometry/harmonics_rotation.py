"""Rotation of functions on the sphere, given by coefficients in the standard 3DGS basis."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.geometry.spherical_harmonics import basis


def harmonics_rotation(
    rotation: Float[Tensor, "*batch 3 3"], degree: int
) -> Float[Tensor, "*batch k k"]:
    """Matrix that turns the coefficients of f into those of d -> f(R^T d).

    The rotated function is read off at fixed directions and expressed in the basis again, which
    is exact because each degree's functions are rotated into each other.
    """
    directions, to_coefficients = _samples(degree, rotation.device)
    return to_coefficients.to(rotation) @ basis(directions.to(rotation) @ rotation, degree)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _samples(degree: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Directions on a Fibonacci spiral, and the pseudo-inverse of the basis at them."""
    index = torch.arange(64, dtype=torch.float64) + 0.5
    z = 1 - index / 32
    angle = torch.pi * (1 + 5**0.5) * index
    radius = (1 - z * z).sqrt()
    directions = torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=-1)
    return directions.to(device), torch.linalg.pinv(basis(directions, degree)).to(device)
