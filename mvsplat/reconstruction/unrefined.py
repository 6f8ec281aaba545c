"""A scene before refinement: what a model predicts of photographs, or a splat as it was read."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mvsplat.data.bounds import Bounds
from mvsplat.data.transforms import Shape
from mvsplat.decoder import SplattingDecoder
from mvsplat.decoder.widening import widened_by_pixels
from mvsplat.refinement.merging import DepthView
from mvsplat.refinement.photographs import Photograph
from mvsplat.types import Gaussians


@dataclass
class Unrefined:
    """Gaussians that refinement starts from, or is measured by.

    Args:
        gaussians: A batch of one scene; of a model, as it predicts them for pictures of its own
            size.
        decoder: Renders them.
        origin: Where they are from, in words.
        model: The model that predicted them and what it was trained on, in words.
        shape: Height and width at which the model saw the photographs; None of what no model
            predicted.
        pixel: How large a pixel of that size is at each Gaussian, in the scene's unit.
        photograph: Of each Gaussian of a model, which of the photographs it was predicted for.
        confidence: How far each can be trusted, in [0, 1].
        views: The photographs as the model saw them, and the depth that it estimated, if it did.
        groups: How many groups of photographs the model saw, and how many photographs at once.
    """

    gaussians: Gaussians
    decoder: SplattingDecoder
    origin: str
    model: str = ""
    shape: Shape | None = None
    pixel: Float[Tensor, " g"] | None = None
    photograph: Int[Tensor, " g"] | None = None
    confidence: Float[Tensor, " g"] | None = None
    views: list[DepthView] | None = None
    groups: tuple[int, int] | None = None

    @property
    def depth(self) -> Float[Tensor, "v h w"] | None:
        """What the model estimated of the photographs, along the optical axis, if it did."""
        return None if self.views is None else torch.stack([view.depth for view in self.views])

    @property
    def is_dilated(self) -> bool:
        """Whether the Gaussians for any size carry the dilation of a model's pixels."""
        return self.pixel is not None

    def gaussians_for(self, size: Shape | None = None) -> Gaussians:
        """The Gaussians for pictures of a size, or of any.

        A model's are widened so that larger pictures show the scene as the model's own size does,
        without gaps; see :mod:`mvsplat.decoder.widening`.

        Args:
            size: Height and width of the pictures; None for any.
        """
        if self.pixel is None or self.shape is None:
            return self.gaussians
        if size is None:
            return widened_by_pixels(self.gaussians, self.pixel)
        enlargement = min(a / b for a, b in zip(size, self.shape, strict=True))
        if enlargement <= 1:
            return self.gaussians
        return widened_by_pixels(self.gaussians, self.pixel, enlargement)

    @torch.no_grad()
    def render(self, photograph: Photograph, bounds: Bounds) -> Float[Tensor, "3 h w"]:
        """The scene from a photograph's camera, at its size, not clipped, on the CPU."""
        gaussians = self.gaussians_for(photograph.shape)
        device = gaussians.means.device
        camera = [
            matrix.float().to(device)[None, None]
            for matrix in (photograph.extrinsics, photograph.intrinsics)
        ]
        near, far = (torch.full((1, 1), bound, device=device) for bound in bounds[:2])
        seen = self.decoder(gaussians, *camera, near, far, photograph.shape)
        return seen.color[0, 0].cpu()
