"""Few photographs: Gaussians stay close to where they started, as nothing else tells what is right.

What a few photographs do not show, between them and behind things, only the network knows.
Everything is pulled back to its starting value, the more the surer the network was, and centres
move along the rays of the photographs that they were predicted from.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mvsplat.refinement.parameters import Parameters
from mvsplat.types import Gaussians

# What is left of the way from the start after a step without gradient, where the network is sure
# and where it is not.
_LEFT_SURE, _LEFT_UNSURE = 0.995, 0.999


@dataclass(frozen=True)
class Anchor:
    """What is known of the Gaussians that a network predicted.

    Args:
        confidence: How sure the network was of each one's depth, 0 to 1.
        origins: The centre of the camera whose pixel it was predicted for.
    """

    confidence: Float[Tensor, " g"]
    origins: Float[Tensor, "g 3"]


def anchor_of(gaussians: Gaussians, centers: Float[Tensor, "v 3"]) -> Anchor | None:
    """The anchor of Gaussians as an encoder predicts them; None where they are others.

    Args:
        gaussians: Of one scene, in the encoder's order: by view, row, column.
        centers: The camera centres of the views that the encoder saw, in its order.
    """
    estimate, count = gaussians.estimate, gaussians.means.shape[1]
    if estimate is None or len(estimate.depth) != 1:
        return None
    _, views, height, width = estimate.depth.shape
    each, rest = divmod(count, views * height * width)
    if views != len(centers) or rest or each == 0:
        return None
    coarse = estimate.confidence[0][:, None].float()
    fine = F.interpolate(coarse, (height, width), mode="nearest").flatten()
    origins = centers.repeat_interleave(height * width, dim=0)
    return Anchor(fine.repeat_interleave(each), origins.repeat_interleave(each, dim=0).float())


class Closeness:
    """Pulls parameters back to where they are now.

    Args:
        parameters: As they start; none may be added or removed.
        anchor: What the network knew; None lets centres move freely, and pulls alike at all.
    """

    def __init__(self, parameters: Parameters, anchor: Anchor | None) -> None:
        self._start = {name: tensor.clone() for name, tensor in parameters.tensors().items()}
        sure = torch.full((len(parameters),), 0.5) if anchor is None else anchor.confidence
        sure = sure.to(parameters.means)
        self._left = _LEFT_UNSURE + (_LEFT_SURE - _LEFT_UNSURE) * sure
        self._rays = None
        if anchor is not None:
            rays = parameters.means - anchor.origins.to(parameters.means)
            self._rays = F.normalize(rays, dim=-1)

    def pull(self, parameters: Parameters, seen: Bool[Tensor, " g"]) -> None:
        """Pull what was just updated back a little, and centres onto their rays."""
        left = torch.where(seen, self._left, 1)
        for name, tensor in parameters.tensors().items():
            moved = tensor - self._start[name]
            if name == "means" and self._rays is not None:
                moved = (moved * self._rays).sum(dim=-1, keepdim=True) * self._rays
            tensor.copy_(self._start[name] + left.view(-1, *[1] * (tensor.ndim - 1)) * moved)
