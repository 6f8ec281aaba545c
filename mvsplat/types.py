"""The values that flow between data, encoder, decoder and losses.

Conventions, here once for the whole package:

* Cameras are OpenCV cameras (x right, y down, z forward); ``extrinsics`` are camera-to-world.
* ``intrinsics`` are [[fx, skew, cx], [0, fy, cy], [0, 0, 1]], normalised: the first row is divided
  by the image width, the second by its height, so that they do not change when an image is
  resized. The image spans [0, 1] x [0, 1] and the centre of pixel (column i, row j) is at
  ((i + 0.5) / width, (j + 0.5) / height).
* Depth is measured along the optical axis (camera z), in the scene's own unit.
* Quaternions are (w, x, y, z). Spherical harmonics are in the standard 3DGS basis, world frame.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Optional

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvsplat.geometry.rotations import quaternion_to_matrix


@dataclass
class _Movable:
    """Moves every tensor of a dataclass at once."""

    def to(self, *args: Any, **kwargs: Any):
        """A copy with ``Tensor.to(*args, **kwargs)`` applied to every tensor field."""
        return self._with_each(lambda value: value.to(*args, **kwargs))

    def pin_memory(self):
        """A copy in page-locked memory; torch's DataLoader calls this."""
        return self._with_each(lambda value: value.pin_memory())

    def part(self, number: int):
        """One scene of the batch, as a batch of one."""
        return self._with_each(
            lambda value: (
                value.part(number) if isinstance(value, _Movable) else value[number : number + 1]
            )
        )

    def _with_each(self, move: Callable[[Any], Any]):
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        movable = {k: v for k, v in values.items() if isinstance(v, (Tensor, _Movable))}
        return replace(self, **{name: move(value) for name, value in movable.items()})


@dataclass
class Views(_Movable):
    """Photographs with cameras and depth bounds.

    Args:
        image: Colours in [0, 1].
        extrinsics: Camera-to-world matrices.
        intrinsics: Normalised intrinsics.
        near: Nearest depth to consider, in the scene's unit.
        far: Farthest depth to consider.
        index: The frames' numbers in their scene, where they come from one.
        depth: Exact depth along the optical axis, where it is known (0 where a pixel has none).
    """

    image: Float[Tensor, "b v 3 h w"]
    extrinsics: Float[Tensor, "b v 4 4"]
    intrinsics: Float[Tensor, "b v 3 3"]
    near: Float[Tensor, "b v"]
    far: Float[Tensor, "b v"]
    index: Int[Tensor, "b v"] | None = None
    depth: Float[Tensor, "b v h w"] | None = None


@dataclass
class Batch(_Movable):
    """What a loader yields: context views to encode, target views to render, scene keys [b]."""

    context: Views
    target: Views
    scene: list[str]

    def to(self, device: torch.device | str | int, **kwargs: Any) -> "Batch":
        """A copy on ``device``; copies to an accelerator are not waited for.

        From page-locked memory they overlap with computing. Lightning itself asks for that with
        bare tensors only.
        """
        # Who reads on the CPU waits for no copy; on MPS, copies that are not waited for go wrong.
        waits = torch.device(device).type in ("cpu", "mps")
        return super().to(device, **{"non_blocking": not waits} | kwargs)


@dataclass
class DepthEstimate(_Movable):
    """What an encoder estimated on the way to its Gaussians, for losses and pictures.

    Args:
        depth: Depth of the context pixels along the optical axis; with several Gaussians a
            pixel, their mean weighted by opacity.
        confidence: Largest probability of the depth distribution; of its finest scale, where a
            model has several.
        logits: Coarse depth distribution over the candidates, before the softmax.
        disparities: The candidates' disparities (1 / depth along the optical axis), ascending.
    """

    depth: Float[Tensor, "b v h w"]
    confidence: Float[Tensor, "b v hd wd"]
    logits: Float[Tensor, "b v d hc wc"]
    disparities: Float[Tensor, "b v d"]


@dataclass
class Gaussians(_Movable):
    """A batch of scenes, each a set of 3-D Gaussians in world space.

    Args:
        means: Centres.
        scales: Standard deviations along the principal axes.
        rotations: Unit quaternions (w, x, y, z) that turn the principal axes into the world frame.
        harmonics: Spherical-harmonics coefficients of each colour channel, standard 3DGS basis,
            world frame; colour = max(0, SH(direction) + 0.5).
        opacities: In [0, 1].
        estimate: What the encoder estimated on the way, where there is such a thing.
        coarse: In training, what an encoder with several scales says at the depth of the coarsest:
            as many Gaussians, to be supervised like these, or that scale learns nothing.
    """

    means: Float[Tensor, "b g 3"]
    scales: Float[Tensor, "b g 3"]
    rotations: Float[Tensor, "b g 4"]
    harmonics: Float[Tensor, "b g 3 k"]
    opacities: Float[Tensor, "b g"]
    estimate: DepthEstimate | None = None
    coarse: Optional["Gaussians"] = None

    @property
    def covariances(self) -> Float[Tensor, "b g 3 3"]:
        """World-space covariances R diag(s^2) R^T, computed from scales and rotations."""
        axes = quaternion_to_matrix(self.rotations) * self.scales.unsqueeze(-2)
        return axes @ axes.mT


@dataclass
class Rendering(_Movable):
    """Pictures of Gaussians.

    Args:
        color: Colours, not clamped above.
        depth: Depth (or disparity) of the kind the decoder was asked for.
        alpha: Accumulated opacity in [0, 1].
    """

    color: Float[Tensor, "b v 3 h w"]
    depth: Float[Tensor, "b v h w"]
    alpha: Float[Tensor, "b v h w"]
