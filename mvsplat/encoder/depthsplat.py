"""DepthSplat (Xu et al., CVPR 2025): a Gaussian for each pixel at the depth that was found."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvsplat.encoder.base import Encoder, output_zeroed
from mvsplat.encoder.compiler import check_compiler
from mvsplat.encoder.cpu.recomputation import recompute_if
from mvsplat.encoder.depthsplat_depth import DepthSplatDepth, Prediction, disparity_bounds
from mvsplat.encoder.networks.adapter import GaussianAdapter
from mvsplat.encoder.networks.dpt import DPTHead
from mvsplat.encoder.networks.layers import Head
from mvsplat.encoder.validation import check_views
from mvsplat.types import Gaussians, Views

USUAL_SCALES, PUBLISHED_SCALES = (0.5, 15.0), (1e-10, 3.0)
"""Bounds of the Gaussians' scale: our own, and those of released models in their scenes' unit."""


class DepthSplatEncoder(Encoder):
    """Depth by matching beside a ViT's single-view features, and a Gaussian for each pixel.

    The defaults are the sizes of the released ``small`` model (``small_re10k``). The
    ``published_*`` options, also those of :class:`DepthSplatDepth`, repeat behaviours of the
    published code that its released weights were trained with, and that are not right: loading a
    released checkpoint sets them; leave them off for new training.

    Args:
        feature_width: Channels of the DPT head whose features the Gaussians are made of.
        regressor_width: Channels of the convolutions between these features and the Gaussians.
        sh_degree: Degree of the spherical harmonics, 0 (no view dependence) to 3.
        scale_range: Bounds of the Gaussians' scale, in units of about a fifth of a pixel; null: 0.5
            and 15. With ``published_world_scales`` in the scene's unit; null: 1e-10 and 3, as in
            the released models, whose videos from 6 and 12 views were made with 0.1 in place of 3.
        published_harmonics_rotation: Turn view-dependent colour by S R S with S = diag(-1, 1, -1)
            instead of the camera's rotation R.
        published_world_scales: Let the scale be in the scene's unit, whatever a Gaussian's depth.
        depth: Arguments of :class:`DepthSplatDepth`.
    """

    behaviours: ClassVar[tuple[str, ...]] = (
        *DepthSplatDepth.behaviours,
        "published_harmonics_rotation",
        "published_world_scales",
    )
    of_training: ClassVar[tuple[str, ...]] = ("checkpointing",)

    def __init__(
        self,
        feature_width: int = 64,
        regressor_width: int = 64,
        sh_degree: int = 2,
        scale_range: Sequence[float] | None = None,
        published_harmonics_rotation: bool = False,
        published_world_scales: bool = False,
        **depth: Any,
    ):
        super().__init__()
        if scale_range is None:
            scale_range = PUBLISHED_SCALES if published_world_scales else USUAL_SCALES
        lowest, highest = scale_range
        self.depth = DepthSplatDepth(**depth)
        self.divisor = self.depth.divisor
        joined = tuple(map(sum, self.depth.by_stride(self.depth.joined_channels)))
        self.features = DPTHead(*self.depth.dpt_sizes, joined, feature_width)
        self.adapter = GaussianAdapter(
            sh_degree,
            (lowest, highest),
            ray_depth=False,
            mirrored_harmonics=published_harmonics_rotation,
            world_scales=published_world_scales,
        )
        # A pixel's opacity, then what the adapter takes.
        outputs = 1 + self.adapter.channels
        self.regressor = Head(3 + 2 + feature_width, regressor_width, regressor_width)
        self.gaussian_head = Head(
            regressor_width + 3 + feature_width + 1, outputs, outputs, padding="replicate"
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, views: Views) -> Gaussians:
        """Gaussians view by view, in each row by row.

        In training with two scales, ``coarse`` of the result is what would be at the depth of the
        first.

        Raises:
            ValueError: The views are unusable; the message names the field and the element.
        """
        check_views(views, self.divisor, self.maximum_views)
        predicted = self.depth.predict(views)
        raw, image = self._raw_parameters(predicted, views)
        gaussians = self._gaussians(raw, image, predicted, predicted.disparity, views)
        if predicted.coarse_disparity is not None:
            coarse = predicted.coarse_disparity
            gaussians.coarse = self._gaussians(raw, image, predicted, coarse, views)
        return gaussians

    def _raw_parameters(
        self, predicted: Prediction, views: Views
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n 3 h w"]]:
        """A pixel's numbers that describe its Gaussian, and the images."""
        recompute = self.depth.checkpointing
        image = views.image.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features = recompute_if(recompute, self.features, predicted.layers, predicted.others)
        confidence = F.interpolate(
            predicted.confidence, scale_factor=self.depth.upsampling, mode="nearest"
        )
        place = self._place(predicted.disparity, views)
        regressed = recompute_if(recompute, self.regressor, image, place, confidence, features)
        raw = recompute_if(recompute, self.gaussian_head, regressed, image, features, confidence)
        return raw, image

    def _place(self, disparity: Tensor, views: Views) -> Float[Tensor, "n 1 h w"]:
        """Where the pixels are, as the networks are told."""
        if self.depth.metric:
            return 1 / disparity
        low, high = disparity_bounds(views)
        return (disparity - low) / (high - low)

    def _gaussians(
        self, raw: Tensor, image: Tensor, predicted: Prediction, disparity: Tensor, views: Views
    ) -> Gaussians:
        opacity = raw[:, :1].float().sigmoid()
        gaussians, _ = self.adapter(raw[:, 1:], 1 / disparity, opacity, views, image)
        gaussians.estimate = predicted.estimate(views, disparity)
        return gaussians

    def ablations(self) -> Mapping[str, AbstractContextManager[Any]]:
        """What the model says if it cannot match: its cost volumes are zeros."""
        return {"zeroed_cost_volume": self._without_matching()}

    @contextmanager
    def _without_matching(self) -> Iterator[None]:
        with ExitStack() as stack:
            for volume in self.depth.cost_volumes:
                stack.enter_context(output_zeroed(volume))
            yield

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the networks in place; takes the arguments of ``nn.Module.compile``.

        The checks of what users hand in, and the geometry, stay as they are.

        Raises:
            ValueError: There is no C++ compiler, which ``torch.compile`` needs.
        """
        check_compiler(kwargs.get("backend", "inductor"))
        depth = self.depth
        heads = (depth.offset_features, depth.offset_head, self.features)
        # Not the transformer around its blocks, which looks up windows in caches.
        for part in (
            depth.cnn,
            *depth.transformer.blocks,
            depth.vit,
            *depth.matched_pyramid,
            *depth.vit_pyramid,
            *depth.cost_volumes,
            *depth.scales,
            *heads,
            self.regressor,
            self.gaussian_head,
        ):
            part.compile(*args, **kwargs)
