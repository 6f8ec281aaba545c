"""Real spherical harmonics in the basis of 3-D Gaussian splatting (3DGS).

Coefficient ``l * l + l + m`` belongs to degree l and order m, -l <= m <= l:

    Y(l, m) = (-1)^m N(l, |m|) D(l, |m|; z) Re or Im of (x + i y)^|m|    (Re for m >= 0)

for a unit direction (x, y, z), with D(l, m) the m-th derivative of the Legendre polynomial P_l and
N(l, m) = sqrt((2 - [m = 0]) (2 l + 1) / (4 pi) (l - m)! / (l + m)!).  The recurrences are those of
Sloan, "Efficient Spherical Harmonic Evaluation", JCGT 2013.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

MAX_DEGREE = 4


def degree_of(coefficients: int) -> int:
    """Degree l of a set of (l + 1)^2 coefficients; raises ValueError for any other number."""
    degree = math.isqrt(coefficients) - 1
    if degree < 0 or (degree + 1) ** 2 != coefficients:
        raise ValueError(
            f"{coefficients} spherical-harmonics coefficients a channel: expected (degree + 1)^2, "
            f"that is 1, 4, 9, 16 or 25"
        )
    return degree


def normalization(degree: int, order: int) -> float:
    """Signed factor (-1)^m N(l, m) of the basis function of degree l and order m >= 0."""
    ratio = math.factorial(degree - order) / math.factorial(degree + order)
    factor = (1 if order == 0 else 2) * (2 * degree + 1) / (4 * math.pi) * ratio
    return (-1) ** order * math.sqrt(factor)


def basis(directions: Float[Tensor, "*batch 3"], degree: int) -> Float[Tensor, "*batch k"]:
    """All (degree + 1)^2 basis functions at unit directions, differentiable."""
    x, y, z = directions.unbind(-1)
    values: list[Tensor] = [torch.empty(0)] * (degree + 1) ** 2
    cosine, sine = torch.ones_like(x), torch.zeros_like(x)
    for order in range(degree + 1):
        # D(order, order) = (2 order - 1)!!, then upwards in l.
        below = torch.zeros_like(z)
        legendre = torch.full_like(z, math.prod(range(1, 2 * order, 2)))
        for level in range(order, degree + 1):
            scaled = normalization(level, order) * legendre
            values[level * level + level + order] = scaled * cosine
            if order:
                values[level * level + level - order] = scaled * sine
            above = (2 * level + 1) * z * legendre - (level + order) * below
            below, legendre = legendre, above / (level + 1 - order)
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
    return torch.stack(values, dim=-1)


def evaluate(
    harmonics: Float[Tensor, "*batch c k"], directions: Float[Tensor, "*batch 3"], degree: int
) -> Float[Tensor, "*batch c"]:
    """Sum of the basis functions up to ``degree``, weighted by each channel's coefficients.

    Args:
        harmonics: At least (degree + 1)^2 coefficients a channel; further ones are ignored.
        directions: From the camera to the Gaussian; need not be normalised.
        degree: Highest degree to evaluate.

    Raises:
        ValueError: There are not enough coefficients.
    """
    if harmonics.shape[-1] < (degree + 1) ** 2:
        raise ValueError(
            f"degree {degree} needs {(degree + 1) ** 2} coefficients a channel, "
            f"{harmonics.shape[-1]} found"
        )
    unit = torch.nn.functional.normalize(directions, dim=-1)
    weights = basis(unit, degree)
    return (harmonics[..., : weights.shape[-1]] * weights.unsqueeze(-2)).sum(-1)
