"""How real lenses depart from a pinhole: from ideal to observed points of the image plane.

Points are (x, y) = (X / Z, Y / Z) of OpenCV cameras, x right and y down, in units of the focal
length. A distortion maps where a pinhole would see a point to where the lens shows it; that is
all that undistorting a picture needs. The formulas are those of COLMAP's camera models and of
OpenCV, which agree where both have one.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Points = Float[Tensor, "*n 2"]


class Distortion(ABC):
    """Maps ideal points to observed ones; equal coefficients compare equal."""

    @abstractmethod
    def __call__(self, points: Points) -> Points:
        """Where the lens shows what a pinhole would show at ``points``."""


@dataclass(frozen=True)
class Brown(Distortion):
    """Radial, rational, tangential and thin-prism distortion (Brown 1966; OpenCV's model).

    Args:
        radial: k1, k2, ... of 1 + k1 r^2 + k2 r^4 + ..., any number of them.
        rational: The same for the denominator (OpenCV's k4, k5, k6).
        tangential: p1 and p2.
        prism: Thin-prism coefficients of r^2, in x and in y.
    """

    radial: tuple[float, ...] = ()
    rational: tuple[float, ...] = ()
    tangential: tuple[float, float] = (0.0, 0.0)
    prism: tuple[float, float] = (0.0, 0.0)

    def __call__(self, points: Points) -> Points:
        x, y = points.unbind(-1)
        square = x * x + y * y
        scale = _polynomial(self.radial, square) / _polynomial(self.rational, square)
        p1, p2 = self.tangential
        across = 2 * p1 * x * y + p2 * (square + 2 * x * x) + self.prism[0] * square
        down = p1 * (square + 2 * y * y) + 2 * p2 * x * y + self.prism[1] * square
        return torch.stack([x * scale + across, y * scale + down], -1)


@dataclass(frozen=True)
class Fisheye(Distortion):
    """An equidistant lens (radius = angle to the axis), then another distortion of its picture."""

    then: Distortion = Brown()

    def __call__(self, points: Points) -> Points:
        radius = points.norm(dim=-1, keepdim=True)
        ratio = torch.where(radius > 1e-9, torch.atan(radius) / radius.clamp(min=1e-9), 1.0)
        return self.then(points * ratio)


@dataclass(frozen=True)
class RadialTangentialPrism(Distortion):
    """Distortion of the "Fisheye624" kind: tangential and prism terms act on the radial's result.

    Args:
        radial: k0 to k5.
        tangential: p0 and p1.
        prism: s0 and s1 (r^2 and r^4 in x), s2 and s3 (the same in y).
    """

    radial: tuple[float, ...]
    tangential: tuple[float, float]
    prism: tuple[float, float, float, float]

    def __call__(self, points: Points) -> Points:
        points = points * _polynomial(self.radial, points.square().sum(-1, keepdim=True))
        square = points.square().sum(-1)
        tangential = torch.tensor(self.tangential, dtype=points.dtype)
        inner = 2 * (points * tangential).sum(-1, keepdim=True)
        s0, s1, s2, s3 = self.prism
        thin = torch.stack([s0 * square + s1 * square**2, s2 * square + s3 * square**2], -1)
        return points + inner * points + square[..., None] * tangential + thin


@dataclass(frozen=True)
class FieldOfView(Distortion):
    """The FOV model (Devernay and Faugeras 2001)."""

    omega: float

    def __call__(self, points: Points) -> Points:
        if abs(self.omega) < 1e-6:
            return points
        radius = points.norm(dim=-1, keepdim=True).clamp(min=1e-9)
        slope = 2 * torch.tan(torch.tensor(self.omega / 2, dtype=points.dtype))
        return points * torch.atan(radius * slope) / (radius * self.omega)


@dataclass(frozen=True)
class Division(Distortion):
    """The division model (Fitzgibbon 2001): ideal = observed / (1 + k observed^2)."""

    k: float

    def __call__(self, points: Points) -> Points:
        square = points.square().sum(-1, keepdim=True)
        # NaN where no observed point belongs to the ideal one, which counts as outside.
        return 2 * points / (1 + torch.sqrt(1 - 4 * self.k * square))


@dataclass(frozen=True)
class Unified(Distortion):
    """The extended unified camera model (Khomutenko et al. 2016)."""

    alpha: float
    beta: float

    def __call__(self, points: Points) -> Points:
        square = points.square().sum(-1, keepdim=True)
        return points / (self.alpha * torch.sqrt(self.beta * square + 1) + 1 - self.alpha)


def _polynomial(coefficients: tuple[float, ...], variable: Tensor) -> Tensor:
    """1 + c1 v + c2 v^2 + ..."""
    total = torch.zeros_like(variable)
    for coefficient in reversed(coefficients):
        total = (total + coefficient) * variable
    return total + 1
