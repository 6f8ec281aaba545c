"""What training minimises: a weighted sum of small modules, each named in YAML."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.configurable import Configurable
from mvsplat.geometry.projection import known_depth
from mvsplat.types import Batch, DepthEstimate, Gaussians, Rendering


class Loss(Configurable, nn.Module, ABC):
    """One term of the objective; derive from it to add another.

    Args:
        weight: Factor of this term in the sum.
    """

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def prepare(self) -> None:
        """Load what the loss needs; called once, when ``fit`` starts, and by nothing else."""

    def networks(self) -> Sequence[nn.Module]:
        """Networks that the loss uses and nobody trains, once it is prepared."""
        return ()

    @abstractmethod
    def forward(
        self, rendering: Rendering, batch: Batch, gaussians: Gaussians
    ) -> Float[Tensor, ""]:
        """The unweighted value; ``rendering`` shows ``batch.target``."""


class MSE(Loss):
    """Mean squared error of the rendered colours.

    Args:
        weight: Factor of this term in the sum.
    """

    def forward(
        self, rendering: Rendering, batch: Batch, gaussians: Gaussians
    ) -> Float[Tensor, ""]:
        """Over all target views, pixels and channels."""
        return (rendering.color - batch.target.image).square().mean()


class LPIPS(Loss):
    """Perceptual distance of the rendered pictures (LPIPS, Zhang et al. 2018).

    The network is frozen and no part of checkpoints. Its weights load when fit starts, and
    not at all while the weight is 0.

    Args:
        weight: Factor of this term in the sum.
        net: Feature network; papers report "vgg".
        backbone_weights: File with the feature network's weights under torchvision's names; by
            default PyTorch's hub cache, and a download into it.
    """

    def __init__(
        self,
        weight: float = 0.05,
        net: Literal["vgg", "alex"] = "vgg",
        backbone_weights: str | None = None,
    ):
        super().__init__(weight)
        self.net = net
        self.backbone_weights = backbone_weights
        # A tuple hides the network from state_dict() and parameters(): it is not ours to store.
        self._distance: tuple[nn.Module, ...] = ()

    def prepare(self) -> None:
        """Load the network.

        Raises:
            FileNotFoundError: The weights are neither here nor can be downloaded.
            ValueError: The file holds something else.
        """
        from mvsplat.evaluation.lpips import PerceptualDistance

        if self.weight and not self._distance:
            self._distance = (PerceptualDistance.pretrained(self.net, self.backbone_weights),)

    def networks(self) -> Sequence[nn.Module]:
        """VGG or AlexNet."""
        return self._distance

    def forward(
        self, rendering: Rendering, batch: Batch, gaussians: Gaussians
    ) -> Float[Tensor, ""]:
        """Over all target views; needs :meth:`prepare`, unless the weight is 0."""
        if not self.weight:
            return rendering.color.new_zeros(())
        if not self._distance:
            raise RuntimeError("LPIPS: call prepare() first, which loads the network's weights")
        distance = self._distance[0].to(rendering.color.device)
        return distance(rendering.color, batch.target.image).mean()


class CoarseDepth(Loss):
    """Cross-entropy of the encoder's coarse depth distribution against the exact context depth.

    Needs data with exact depth. The target of a coarse cell is the distribution of its pixels'
    disparities over the candidates, each pixel shared linearly by the two candidates it lies
    between; so the target's mean is the cell's mean disparity, and a cell on an edge of
    an object has both of its depths. Pixels of unknown depth (0) are left out.

    Args:
        weight: Factor of this term in the sum.
    """

    def __init__(self, weight: float = 0.02):
        super().__init__(weight)

    def forward(
        self, rendering: Rendering, batch: Batch, gaussians: Gaussians
    ) -> Float[Tensor, ""]:
        """In nats a pixel, over the context pixels whose depth is known (0 if there is none).

        Raises:
            ValueError: The data has no depth, or the encoder estimates no coarse distribution,
                or the sizes of the two do not fit.
        """
        depth, estimate = batch.context.depth, gaussians.estimate
        if depth is None:
            raise ValueError(
                "CoarseDepth needs the exact depth of the context views and this data has none; "
                "leave the loss out to train on such data"
            )
        if estimate is None:
            raise ValueError(
                "CoarseDepth needs the coarse depth distribution (Gaussians.estimate), which this "
                "encoder does not give; leave the loss out"
            )
        return coarse_cross_entropy(estimate, depth)


def coarse_cross_entropy(
    estimate: DepthEstimate, depth: Float[Tensor, "b v h w"]
) -> Float[Tensor, ""]:
    """The value of :class:`CoarseDepth`; ``depth`` is a whole multiple of the coarse map's size."""
    (height, width), (rows, columns) = depth.shape[-2:], estimate.logits.shape[-2:]
    if height % rows or width % columns:
        raise ValueError(
            f"CoarseDepth: exact depth of {height} x {width} pixels cannot be divided into the "
            f"{rows} x {columns} cells of the coarse depth; crop the data to multiples of them"
        )
    cells = rearrange(depth, "b v (r y) (c x) -> b v (r c) (y x)", r=rows, c=columns)
    log_probability = estimate.logits.float().log_softmax(dim=2).flatten(-2)  # b v d (r c)
    known = known_depth(cells)
    lower, share = _candidates_around(estimate.disparities, 1 / torch.where(known, cells, 1))

    # lower: b v (r c) (y x) -> gather along the candidates
    index = rearrange(lower, "b v cell pixel -> b v pixel cell")
    share = rearrange(share, "b v cell pixel -> b v pixel cell")
    known = rearrange(known, "b v cell pixel -> b v pixel cell")
    log_likelihood = torch.lerp(
        log_probability.gather(2, index), log_probability.gather(2, index + 1), share
    )
    return -torch.where(known, log_likelihood, 0).sum() / known.sum().clamp(min=1)


def _candidates_around(
    candidates: Float[Tensor, "b v d"], disparity: Float[Tensor, "b v *rest"]
) -> tuple[Tensor, Tensor]:
    """Index of the candidate below each disparity, and the share of the one above it."""
    candidates = candidates.float().contiguous()
    flat = disparity.flatten(2).float()
    upper = torch.searchsorted(candidates, flat.contiguous()).clamp(1, candidates.shape[-1] - 1)
    below, above = candidates.gather(-1, upper - 1), candidates.gather(-1, upper)
    share = ((flat - below) / (above - below)).clamp(0, 1)
    return (upper - 1).view(disparity.shape), share.view(disparity.shape)
