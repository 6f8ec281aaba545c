"""What is estimated of every photograph: a small motion of its camera, and its exposure.

Photographs that are not trained on have no corrections of their own. What all corrections have in
common must therefore not be in them but in the scene: a motion of all cameras is one of the world,
a change of all exposures one of its colours. Such means are taken out again.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.refinement.engine import StepResult
from mvsplat.refinement.photographs import Photograph

# Adam's, with a shorter memory than the Gaussians': each photograph has few steps.
_BETAS, _EPSILON = (0.9, 0.99), 1e-15
# Radians, and units of near, that a camera turns and shifts in a step at most; gain and offset.
_POSE_RATE, _EXPOSURE_RATE = 3e-4, 2e-3
# What is left of a correction after a step without gradient.
_POSE_LEFT, _EXPOSURE_LEFT = 0.99, 0.99
# Before, the scene is too vague to tell where it was seen from.
_BEGIN = 0.15


class Corrections:
    """Small motions of cameras, in their own frames, and gains and offsets of channels.

    Args:
        photographs: All photographs.
        near: The unit of shifts.
        poses: Whether to move cameras.
        exposures: Whether to estimate exposures.
    """

    def __init__(
        self, photographs: Sequence[Photograph], near: float, poses: bool, exposures: bool
    ) -> None:
        count = len(photographs)
        self._given = torch.stack([photograph.extrinsics for photograph in photographs])
        self._unit = torch.tensor([1.0] * 3 + [near] * 3, dtype=torch.float64)
        self._poses = _Adam(torch.zeros(count, 6, dtype=torch.float64)) if poses else None
        none = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(count, 3, 2)
        self._neutral = none[0]
        self._exposures = _Adam(none.clone()) if exposures else None

    def extrinsics(self) -> Float[Tensor, "n 4 4"]:
        """Camera-to-world matrices, corrected."""
        if self._poses is None:
            return self._given.clone()
        return self._given @ motion(self._poses.values * self._unit)

    def exposures(self) -> Float[Tensor, "n 3 2"]:
        """Gain and offset of every channel."""
        if self._exposures is None:
            return self._neutral.float().repeat(len(self._given), 1, 1)
        return self._exposures.values.float()

    def corrected(self, photograph: Photograph, index: int) -> Photograph:
        """The photograph with its corrected camera."""
        if self._poses is None:
            return photograph
        moved = self._given[index] @ motion(self._poses.values[index] * self._unit)
        return replace(photograph, extrinsics=moved)

    def exposure(self, index: int) -> Float[Tensor, "3 2"] | None:
        """A photograph's exposure; None where none is estimated."""
        return None if self._exposures is None else self._exposures.values[index].float()

    def update(self, index: int, found: StepResult, share: float) -> None:
        """Correct a photograph by what a step found when ``share`` of the work is done."""
        if share < _BEGIN:
            return
        fading = 0.05**share
        if self._poses is not None:
            gradient = found.pose.double() * self._unit
            self._poses.step(index, gradient, _POSE_RATE * fading)
            self._poses.values[index] *= _POSE_LEFT
        if self._exposures is not None and found.exposure is not None:
            self._exposures.step(index, found.exposure.double(), _EXPOSURE_RATE * fading)
            values = self._exposures.values
            values[index] = self._neutral + _EXPOSURE_LEFT * (values[index] - self._neutral)

    def center(self, trained: Sequence[int]) -> None:
        """Take out what the corrections of the photographs that are trained on have in common."""
        at = torch.tensor(trained)
        if self._poses is not None:
            to_world = adjoint(self._about_middle(self._given[at]))
            in_world = (to_world @ (self._poses.values[at] * self._unit)[..., None]).mean(dim=0)
            common = (torch.linalg.inv(to_world) @ in_world)[..., 0] / self._unit
            self._poses.values[at] -= common
        if self._exposures is not None:
            values = self._exposures.values
            gains = values[at, :, 0]
            values[at, :, 0] = gains / gains.clamp(min=1e-3).log().mean(dim=0).exp()
            values[at, :, 1] -= values[at, :, 1].mean(dim=0)

    @staticmethod
    def _about_middle(extrinsics: Float[Tensor, "n 4 4"]) -> Float[Tensor, "n 4 4"]:
        """Cameras in a world whose origin is in their middle."""
        moved = extrinsics.clone()
        moved[:, :3, 3] -= moved[:, :3, 3].mean(dim=0)
        return moved


class _Adam:
    """Values of every photograph, each with the moments of its own steps."""

    def __init__(self, values: Float[Tensor, "n *k"]) -> None:
        self.values = values
        self._first, self._second = torch.zeros_like(values), torch.zeros_like(values)
        self._count = [0] * len(values)

    def step(self, index: int, gradient: Tensor, rate: float) -> None:
        self._count[index] += 1
        first, second = self._first[index], self._second[index]
        first.lerp_(gradient, 1 - _BETAS[0])
        second.lerp_(gradient.square(), 1 - _BETAS[1])
        lift, spread = (1 - beta ** self._count[index] for beta in _BETAS)
        self.values[index] -= rate * (first / lift) / ((second / spread).sqrt() + _EPSILON)


def motion(twist: Float[Tensor, "*n 6"]) -> Float[Tensor, "*n 4 4"]:
    """The rigid motion exp(xi) of a twist xi = (turn, shift)."""
    generator = twist.new_zeros((*twist.shape[:-1], 4, 4))
    generator[..., :3, :3] = cross(twist[..., :3])
    generator[..., :3, 3] = twist[..., 3:]
    return torch.linalg.matrix_exp(generator)


def adjoint(pose: Float[Tensor, "*n 4 4"]) -> Float[Tensor, "*n 6 6"]:
    """What turns a twist in a camera's frame into the same motion's twist in the world."""
    rotation, center = pose[..., :3, :3], pose[..., :3, 3]
    result = pose.new_zeros((*pose.shape[:-2], 6, 6))
    result[..., :3, :3] = result[..., 3:, 3:] = rotation
    result[..., 3:, :3] = cross(center) @ rotation
    return result


def cross(vector: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """The matrix whose product with another vector is the cross product."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = (zero, -z, y), (z, zero, -x), (-y, x, zero)
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
