"""Bringing a scene to the scale that a model knows, and its Gaussians back."""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from mvsplat.types import Gaussians


@dataclass(frozen=True)
class Scaling:
    """A point x of the scene is at (x - center) * factor for the model.

    Args:
        center: The scene's point that becomes the origin.
        factor: Units of the model in one unit of the scene.
    """

    center: Float[Tensor, "3"]
    factor: float

    def cameras(self, extrinsics: Float[Tensor, "*n 4 4"]) -> Float[Tensor, "*n 4 4"]:
        """The scene's camera-to-world matrices for the model."""
        moved = extrinsics.double().clone()
        moved[..., :3, 3] = (moved[..., :3, 3] - self.center.double()) * self.factor
        return moved.float()

    def undo(self, gaussians: Gaussians) -> Gaussians:
        """The model's Gaussians, and their estimated depth, in the scene's frame and unit."""
        center = self.center.double().to(gaussians.means.device)
        estimate = gaussians.estimate
        if estimate is not None:
            estimate = replace(
                estimate,
                depth=estimate.depth / self.factor,
                disparities=estimate.disparities * self.factor,
            )
        return replace(
            gaussians,
            means=(gaussians.means.double() / self.factor + center).float(),
            scales=gaussians.scales / self.factor,
            estimate=estimate,
        )


def scaling_to(near: float, trained_near: float, extrinsics: Float[Tensor, "n 4 4"]) -> Scaling:
    """The scaling that brings the near bound to the one the model was trained with.

    RealEstate10K's scenes, and so the models trained on them, have their nearest content at about
    1; predicted depths and the candidates are in that unit. The origin becomes the cameras' centre,
    where single precision is finest.
    """
    return Scaling(extrinsics[:, :3, 3].double().mean(0), trained_near / near)
