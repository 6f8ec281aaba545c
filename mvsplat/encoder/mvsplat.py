"""MVSplat's encoder (Chen et al., ECCV 2024): views to one or more Gaussians a pixel."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvsplat.encoder.base import Encoder, output_zeroed
from mvsplat.encoder.compiler import check_compiler
from mvsplat.encoder.cpu.convolution import concatenate
from mvsplat.encoder.cpu.recomputation import recompute_if
from mvsplat.encoder.initialization import initialize
from mvsplat.encoder.networks.adapter import GaussianAdapter
from mvsplat.encoder.networks.backbone import ConvolutionalEncoder
from mvsplat.encoder.networks.cost_volume import CostVolume
from mvsplat.encoder.networks.depth import (
    FEATURE_STRIDE,
    CoarseDepthLogits,
    DepthRefinement,
    FullResolutionFeatures,
    disparity_candidates,
    enlarge,
    expected_disparity,
)
from mvsplat.encoder.networks.epipolar import EpipolarTransformer
from mvsplat.encoder.networks.layers import Head, upsample
from mvsplat.encoder.networks.transformer import MultiViewTransformer
from mvsplat.encoder.validation import check_views
from mvsplat.types import DepthEstimate, Gaussians, Views


class CostVolumeEncoder(Encoder):
    """Depth by matching features over a plane sweep, and a Gaussian for each pixel at that depth.

    The defaults are the published sizes. The three ``published_*`` options repeat behaviours of
    the published code that its released weights were trained with, and that are not right:
    loading a released checkpoint sets them; leave them off for new training.

    A derived class adds a branch of its own, whose features join the matching ones before the
    coarse depth, by :meth:`build_branch` and :meth:`branch_features`.

    Args:
        d_feature: Channels of the features that are matched.
        cnn_widths: Channels of the CNN's three stages.
        transformer_blocks: Blocks of the multi-view transformer.
        transformer_expansion: Hidden width of its feed-forward, in multiples of its input's.
        attention_splits: The feature map is cut into this many windows along each axis.
        cross_view_attention: How features of the views meet before matching: in windows, along
            epipolar lines (two views only), or not at all.
        nearest_views: With four views or more, a view attends to and is matched with so many
            others, those with the nearest camera centres, which takes time that grows with the
            views, not with their square (but for the U-Nets' attention); null for all.
        depth_candidates: Planes swept, uniform in disparity from far to near.
        cost_volume: Match features between views; without it depth is guessed from one view's.
        cost_volume_unet: Refine the cost volume by a U-Net; without it, by one convolution.
        cost_volume_widths: Channels of that U-Net's levels, each half the size of the one before.
        cost_volume_attention: Down-sampling factors at which it attends across views.
        depth_refinement: Refine depth and predict opacity at full resolution by a second U-Net;
            without it depth is the upsampled coarse one and opacity its confidence.
        refinement_widths: Channels of that U-Net's levels.
        refinement_attention: Down-sampling factors at which it attends across views.
        gaussians_per_pixel: Gaussians of a pixel, which differ in depth and opacity.
        gaussian_head_width: Hidden channels of the head that predicts the Gaussians' parameters.
        sh_degree: Degree of the spherical harmonics, 0 (no view dependence) to 3.
        scale_range: Bounds of the Gaussians' scale, in units of about a fifth of a pixel.
        relative_disparity: Refine disparity relative to the views' bounds (0 at far, 1 at near),
            so that scenes need no certain unit: with cameras and bounds in another unit, Gaussians
            are the same in that unit. Without it the refinement sees disparity in the scene's
            unit, as the published one does, and its weights suit scenes whose bounds are those of
            training.
        initialization: ``published`` draws weights as the published code does; ``matching`` starts
            as a working matcher for small training budgets: colours are the pixels', coarse depth
            follows the raw correlation, offsets are zero.
        checkpointing: Recompute activations in the backward pass: less memory, a third more time.
        published_harmonics_rotation: Turn view-dependent colour by S R S with S = diag(-1, 1, -1)
            instead of the camera's rotation R.
        published_ray_depth: Place Gaussians at the predicted depth along the unit-length ray,
            although it was matched along the optical axis.
        published_shifted_mask: With more than two views, tile the mask of shifted cross-attention
            view by view although keys run token by token.
    """

    behaviours: ClassVar[tuple[str, ...]] = (
        "published_harmonics_rotation",
        "published_ray_depth",
        "published_shifted_mask",
        "relative_disparity",
    )
    of_training: ClassVar[tuple[str, ...]] = ("initialization", "checkpointing")

    def __init__(
        self,
        d_feature: int = 128,
        cnn_widths: Sequence[int] = (64, 96, 128),
        transformer_blocks: int = 6,
        transformer_expansion: int = 4,
        attention_splits: int = 2,
        cross_view_attention: Literal["windows", "epipolar", "none"] = "windows",
        nearest_views: int | None = None,
        depth_candidates: int = 128,
        cost_volume: bool = True,
        cost_volume_unet: bool = True,
        cost_volume_widths: Sequence[int] = (128, 128, 128),
        cost_volume_attention: Sequence[int] = (4,),
        depth_refinement: bool = True,
        refinement_widths: Sequence[int] = (32, 32, 32, 32, 32),
        refinement_attention: Sequence[int] = (16,),
        gaussians_per_pixel: int = 1,
        gaussian_head_width: int = 168,
        sh_degree: int = 3,
        scale_range: Sequence[float] = (0.5, 15.0),
        relative_disparity: bool = False,
        initialization: Literal["published", "matching"] = "published",
        checkpointing: bool = False,
        published_harmonics_rotation: bool = False,
        published_ray_depth: bool = False,
        published_shifted_mask: bool = False,
    ):
        super().__init__()
        if gaussians_per_pixel > 1 and not depth_refinement:
            raise ValueError(
                f"gaussians_per_pixel is {gaussians_per_pixel} without depth refinement, which is "
                "what tells a pixel's Gaussians apart: set it to 1, or depth_refinement to true"
            )
        if len(cnn_widths) != 3:
            raise ValueError(f"cnn_widths has {len(cnn_widths)} numbers: expected 3, one a stage")
        stem, middle, last = cnn_widths
        lowest, highest = scale_range
        cost_volume_widths, refinement_widths = tuple(cost_volume_widths), tuple(refinement_widths)
        self.depth_candidates = depth_candidates
        self.relative_disparity = relative_disparity
        self.checkpointing = checkpointing
        self.maximum_views = 2 if cross_view_attention == "epipolar" else None
        self.divisor = math.lcm(
            FEATURE_STRIDE * (1 if cross_view_attention == "epipolar" else attention_splits),
            FEATURE_STRIDE * 2 ** (len(cost_volume_widths) - 1) if cost_volume_unet else 1,
            2 ** (len(refinement_widths) - 1) if depth_refinement else 1,
        )
        self.branch_channels = self.build_branch()
        self.cnn = ConvolutionalEncoder((stem, middle, last), d_feature)
        self.transformer: EpipolarTransformer | MultiViewTransformer
        if cross_view_attention == "epipolar":
            self.transformer = EpipolarTransformer(
                d_feature, transformer_blocks, transformer_expansion, checkpointing
            )
        else:
            self.transformer = MultiViewTransformer(
                d_feature,
                transformer_blocks,
                attention_splits,
                transformer_expansion,
                cross_view=cross_view_attention == "windows",
                tiled_mask=published_shifted_mask,
                checkpointing=checkpointing,
                nearest_views=nearest_views,
            )
        self.cost_volume = CostVolume(nearest_views) if cost_volume else None
        self.coarse_depth = CoarseDepthLogits(
            d_feature + self.branch_channels,
            depth_candidates,
            cost_volume_widths,
            tuple(cost_volume_attention),
            cost_volume,
            cost_volume_unet,
            checkpointing,
        )
        self.full_resolution = FullResolutionFeatures(2 * d_feature, d_feature)
        self.refinement = DepthRefinement(
            d_feature,
            refinement_widths,
            tuple(refinement_attention),
            gaussians_per_pixel,
            depth_refinement,
            checkpointing,
        )
        self.adapter = GaussianAdapter(
            sh_degree, (lowest, highest), published_ray_depth, published_harmonics_rotation
        )
        self.gaussian_head = Head(
            refinement_widths[0] + 3 + d_feature,
            gaussian_head_width,
            self.adapter.channels,
            join=_with_image_and_features,
        )
        # One format throughout: a layer in another would have every map copied there and back.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        initialize(self, initialization)

    def forward(self, views: Views) -> Gaussians:
        """Gaussians view by view, in each row by row, in a pixel one after another.

        Raises:
            ValueError: The views are unusable; the message names the field and the element.
        """
        check_views(views, self.divisor, self.maximum_views)
        count = views.image.shape[1]
        image = views.image.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        cnn_features = self.cnn(image)
        features = self.transformer(cnn_features.unflatten(0, (-1, count)), views).flatten(0, 1)
        candidates = disparity_candidates(
            views.near.flatten(), views.far.flatten(), self.depth_candidates
        )
        logits = self._coarse_logits(image, features, views, candidates)
        coarse, confidence = expected_disparity(logits, candidates)
        zero, unit = self._disparity_scale(candidates)
        for_pixels = self.full_resolution(concatenate(features, cnn_features))
        pixel = self.refinement(
            image,
            for_pixels,
            upsample((coarse - zero) / unit, FEATURE_STRIDE),
            F.interpolate(confidence, scale_factor=FEATURE_STRIDE, mode="nearest"),
            count,
        )
        raw = recompute_if(
            self.checkpointing, self.gaussian_head, pixel.features, image, for_pixels
        )
        # A refined disparity may leave the bounds, even change its sign.
        disparity = (zero + unit * pixel.disparity).clamp(
            candidates[:, :1, None, None], candidates[:, -1:, None, None]
        )
        gaussians, depth = self.adapter(raw, 1 / disparity, pixel.opacity, views)
        weights = pixel.opacity / pixel.opacity.sum(dim=1, keepdim=True).clamp_min(1e-12)
        gaussians.estimate = DepthEstimate(
            depth=(depth * weights).sum(dim=1).unflatten(0, (-1, count)),
            confidence=confidence.squeeze(1).unflatten(0, (-1, count)),
            logits=logits.unflatten(0, (-1, count)),
            disparities=candidates.unflatten(0, (-1, count)),
        )
        return gaussians

    def build_branch(self) -> int:
        """Build a derived class's own layers, before all others are built.

        What it needs of the derived class's arguments is set before ``super().__init__()``.

        Returns:
            How many channels :meth:`branch_features` will have; 0 for no branch.
        """
        return 0

    def branch_features(
        self,
        image: Float[Tensor, "n 3 h w"],
        features: Float[Tensor, "n c h4 w4"],
        views: Views,
    ) -> Float[Tensor, "n e h4 w4"]:
        """What a derived class's branch says, at a quarter of the resolution.

        Args:
            image: All views of all scenes, n = b * v.
            features: The features that are matched.
            views: What ``forward`` was given.
        """
        raise NotImplementedError(f"{type(self).__name__} has a build_branch without this")

    def ablations(self) -> Mapping[str, AbstractContextManager[Any]]:
        """What the model says if it cannot match: its cost volume is zeros."""
        if self.cost_volume is None:
            return {}
        return {"zeroed_cost_volume": output_zeroed(self.cost_volume)}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the networks in place; takes the arguments of ``nn.Module.compile``.

        The checks of what users hand in, and the geometry, stay as they are.

        Raises:
            ValueError: There is no C++ compiler, which ``torch.compile`` needs.
        """
        check_compiler(kwargs.get("backend", "inductor"))
        whole = [x for x in self.children() if x is not self.transformer and x is not self.adapter]
        # Not the transformer around its blocks, which looks up windows in caches.
        for part in (*self.transformer.blocks, *whole):
            part.compile(*args, **kwargs)

    def _disparity_scale(
        self, candidates: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "n 1 1 1"], Float[Tensor, "n 1 1 1"]]:
        """Zero and unit of the disparities that the refinement sees and corrects."""
        low, high = candidates[:, :1, None, None], candidates[:, -1:, None, None]
        if self.relative_disparity:
            return low, high - low
        return torch.zeros_like(low), torch.ones_like(low)

    def _coarse_logits(
        self,
        image: Float[Tensor, "n 3 h w"],
        features: Float[Tensor, "n c h4 w4"],
        views: Views,
        candidates: Float[Tensor, "n d"],
    ) -> Float[Tensor, "n d h4 w4"]:
        """Logits of the coarse depth distribution."""
        inputs = [features]
        if self.cost_volume is not None:
            inputs.insert(0, self.cost_volume(features, views, candidates))
        if self.branch_channels:
            inputs.append(self._checked_branch(image, features, views))
        joined = concatenate(*inputs) if len(inputs) > 1 else features
        return self.coarse_depth(joined, views.image.shape[1])

    def _checked_branch(self, image: Tensor, features: Tensor, views: Views) -> Tensor:
        branch = self.branch_features(image, features, views)
        expected = (len(image), self.branch_channels, *features.shape[2:])
        if branch.shape != expected:
            raise ValueError(
                f"{type(self).__name__}.branch_features gave shape {tuple(branch.shape)}: expected "
                f"{expected}, the channels that build_branch said at a quarter of the resolution"
            )
        return branch


def _with_image_and_features(
    refined: Float[Tensor, "n c h w"],
    image: Float[Tensor, "n 3 h w"],
    features: Float[Tensor, "n d h4 w4"],
) -> Float[Tensor, "n e h w"]:
    return concatenate(refined, image, enlarge(features))
