"""What is optimised: one scene's Gaussians without bounds on their values, and Adam's memory."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mvsplat.geometry.spherical_harmonics import degree_of
from mvsplat.types import Gaussians

FIELDS = ("means", "log_scales", "quaternions", "harmonics", "opacity_logits")
"""The optimised tensors, in the order of Gaussians' fields."""

_OPACITIES = 1e-4, 1 - 1e-4
_SMALLEST_SCALE = 1e-12


@dataclass
class Rates:
    """Learning rates of one step.

    Args:
        means: In the scene's unit.
        log_scales: Of the scales' logarithms.
        quaternions: Of quaternions, whose length is free.
        harmonics_base: Of the first coefficient of every channel.
        harmonics_rest: Of the other coefficients.
        opacity_logits: Of log(opacity / (1 - opacity)).
    """

    means: float
    log_scales: float = 5e-3
    quaternions: float = 1e-3
    harmonics_base: float = 5e-3
    harmonics_rest: float = 5e-4
    opacity_logits: float = 3e-2


@dataclass
class Parameters:
    """Float32 tensors of one scene, contiguous, and the moments of Adam for each.

    Args:
        means: Centres.
        log_scales: Logarithms of the standard deviations along the principal axes.
        quaternions: (w, x, y, z) of any length but 0.
        harmonics: Spherical-harmonics coefficients.
        opacity_logits: log(opacity / (1 - opacity)).
        first: Adam's running mean of each field's gradient, by the field's name.
        second: Adam's running mean of its square.
        updates: How often each Gaussian was updated.
    """

    means: Float[Tensor, "g 3"]
    log_scales: Float[Tensor, "g 3"]
    quaternions: Float[Tensor, "g 4"]
    harmonics: Float[Tensor, "g 3 k"]
    opacity_logits: Float[Tensor, " g"]
    first: dict[str, Tensor]
    second: dict[str, Tensor]
    updates: Int[Tensor, " g"]

    def __len__(self) -> int:
        """Number of Gaussians."""
        return len(self.means)

    @property
    def degree(self) -> int:
        """Degree of the spherical harmonics."""
        return degree_of(self.harmonics.shape[-1])

    def tensors(self) -> dict[str, Tensor]:
        """The optimised tensors by name, no copies."""
        return {name: getattr(self, name) for name in FIELDS}

    @classmethod
    def fresh(cls, *tensors: Tensor) -> "Parameters":
        """Parameters from tensors in the order of ``FIELDS``, with nothing in Adam's memory."""
        fields = {
            name: tensor.detach().to(torch.float32, copy=True).contiguous()
            for name, tensor in zip(FIELDS, tensors, strict=True)
        }
        first, second = (
            {name: torch.zeros_like(tensor) for name, tensor in fields.items()} for _ in range(2)
        )
        updates = torch.zeros(len(tensors[0]), dtype=torch.int32, device=tensors[0].device)
        return cls(**fields, first=first, second=second, updates=updates)

    @classmethod
    def from_gaussians(cls, gaussians: Gaussians) -> "Parameters":
        """One scene's Gaussians; those with values that are not finite are left out.

        Raises:
            ValueError: There are several scenes, or no Gaussian is left.
        """
        if len(gaussians.means) != 1:
            raise ValueError(f"Gaussians of {len(gaussians.means)} scenes found, expected one")
        scene = [
            getattr(gaussians, name)[0].detach().float()
            for name in ("means", "scales", "rotations", "harmonics", "opacities")
        ]
        good = torch.stack([_finite_rows(tensor) for tensor in scene]).all(dim=0)
        if not good.any():
            raise ValueError(
                f"none of {len(good)} Gaussians has finite values only: nothing can be refined"
            )
        means, scales, rotations, harmonics, opacities = (tensor[good] for tensor in scene)
        log_scales = scales.clamp(min=_SMALLEST_SCALE).log()
        logits = torch.logit(opacities.clamp(*_OPACITIES))
        return cls.fresh(means, log_scales, rotations, harmonics, logits)

    def to_gaussians(self) -> Gaussians:
        """The Gaussians as a batch of one scene, copied."""
        return Gaussians(
            means=self.means[None].clone(),
            scales=self.log_scales[None].exp(),
            rotations=F.normalize(self.quaternions[None], dim=-1),
            harmonics=self.harmonics[None].clone(),
            opacities=self.opacity_logits[None].sigmoid(),
        )

    def raise_degree(self, degree: int) -> None:
        """Harmonics up to ``degree`` at least; the new coefficients are 0."""
        more = (degree + 1) ** 2 - self.harmonics.shape[-1]
        if more > 0:
            self.harmonics = F.pad(self.harmonics, (0, more))
            for moments in (self.first, self.second):
                moments["harmonics"] = F.pad(moments["harmonics"], (0, more))

    def keep(self, chosen: Bool[Tensor, " g"]) -> None:
        """Remove all other Gaussians."""
        self._map(lambda tensor: tensor[chosen])

    def append(self, others: "Parameters") -> None:
        """Add Gaussians, with their own memory, after the present ones."""
        for name in FIELDS:
            setattr(self, name, torch.cat([getattr(self, name), getattr(others, name)]))
            for mine, theirs in ((self.first, others.first), (self.second, others.second)):
                mine[name] = torch.cat([mine[name], theirs[name]])
        self.updates = torch.cat([self.updates, others.updates])

    def copy(self) -> "Parameters":
        """The same values and memory in tensors of their own."""
        result = Parameters(
            **self.tensors(), first=dict(self.first), second=dict(self.second), updates=self.updates
        )
        result._map(torch.clone)
        return result

    def _map(self, change) -> None:
        for name in FIELDS:
            setattr(self, name, change(getattr(self, name)))
            self.first[name], self.second[name] = (
                change(self.first[name]),
                change(self.second[name]),
            )
        self.updates = change(self.updates)


def _finite_rows(tensor: Tensor) -> Bool[Tensor, " g"]:
    return tensor.isfinite().flatten(1).all(dim=1) if tensor.ndim > 1 else tensor.isfinite()
