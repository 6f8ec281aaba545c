"""DepthSplat's depth (Xu et al., CVPR 2025): matching between views beside a ViT's single view."""

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.configurable import Configurable
from mvsplat.encoder.cpu.convolution import concatenate
from mvsplat.encoder.cpu.recomputation import recompute_if
from mvsplat.encoder.initialization import initialize_backbone
from mvsplat.encoder.networks.backbone import ConvolutionalPyramid
from mvsplat.encoder.networks.cost_volume import CostVolume
from mvsplat.encoder.networks.depth import (
    ScaleDepthLogits,
    disparity_candidates,
    expected_disparity,
    local_candidates,
)
from mvsplat.encoder.networks.dpt import DPTHead, OffsetHead
from mvsplat.encoder.networks.layers import Doubling, resize, upsample
from mvsplat.encoder.networks.transformer import MultiViewTransformer
from mvsplat.encoder.networks.vit import VisionTransformer
from mvsplat.encoder.validation import check_views
from mvsplat.types import DepthEstimate, Views

# The ViT's maps are brought to this fraction of the resolution.
VIT_STRIDE = 8
# What the DPT heads join them with has one of these strides.
JOINED_STRIDES = (2, 4, 8)
# Levels of the first scale's U-Net; it attends at the last.
UNET_LEVELS = 3

Item = TypeVar("Item")


class Prediction(NamedTuple):
    """What the depth is, and what it was made of.

    Args:
        layers: Maps of four of the ViT's layers, at 1/8.
        others: Other features at 1/2, at 1/4 and at 1/8 (without the disparity).
        disparity: Of all pixels, within the views' bounds.
        confidence: Largest probability at the last scale, at its resolution.
        coarse_disparity: The first scale's, enlarged, in training with two scales.
        logits: Of the first scale's depth distribution.
        candidates: Its disparities.
    """

    layers: list[Tensor]
    others: list[list[Tensor]]
    disparity: Float[Tensor, "n 1 h w"]
    confidence: Float[Tensor, "n 1 hl wl"]
    coarse_disparity: Float[Tensor, "n 1 h w"] | None
    logits: Float[Tensor, "n d hc wc"]
    candidates: Float[Tensor, "n d"]

    def estimate(self, views: Views, disparity: Float[Tensor, "n 1 h w"]) -> DepthEstimate:
        """As encoders say it, with the depth of these disparities."""
        leading = views.near.shape
        return DepthEstimate(
            depth=(1 / disparity).squeeze(1).unflatten(0, leading),
            confidence=self.confidence.squeeze(1).unflatten(0, leading),
            logits=self.logits.unflatten(0, leading),
            disparities=self.candidates.unflatten(0, leading),
        )


class DepthSplatDepth(Configurable, nn.Module):
    """Depth of each pixel of two or more views with cameras.

    The defaults are the sizes of the released ``small`` model. The ``published_*`` options
    repeat behaviours of the published code that its released weights were trained with: loading a
    released checkpoint sets them; leave them off for new training.

    Args:
        vit_width: Channels of the ViT: 384 (DINOv2's vits), 768 (vitb) or 1024 (vitl).
        vit_layers: The four blocks of the ViT, from 0, whose outputs are used; the last is the last
            block: 2, 5, 8, 11 for vits and vitb, 4, 11, 17, 23 for vitl.
        scales: Depth is matched once, or a second time at twice the resolution (2) with candidates
            around the first depth.
        lowest_feature_stride: Image pixels along an edge of the coarsest features' pixels, 4 or 8.
            Depth of the last scale is enlarged by this, or with two scales by half of it.
        d_feature: Channels of the features that are matched at the first scale.
        cnn_widths: Channels of the CNN's three stages.
        transformer_blocks: Blocks of the multi-view transformer.
        transformer_expansion: Hidden width of its feed-forward, in multiples of its input's.
        attention_splits: The feature map is cut into this many windows along each axis.
        nearest_views: With four views or more, a view is matched with so many others, those with
            the nearest camera centres; null for all.
        depth_candidates: Planes swept at the first scale, uniform in disparity from far to near.
        local_candidates: Candidates a pixel at the second scale, half as far from each other.
        cost_volume_width: Channels of the U-Net that refines the first scale's cost volume; the
            second scale's has half as many.
        dpt_widths: Channels that the four layers of the ViT are reduced to in the DPT heads.
        offset_width: Channels of the DPT head that refines the disparity at full resolution.
        checkpointing: Recompute activations in the backward pass: less memory, a third more time.
        published_shifted_mask: With more than two views, tile the mask of shifted cross-attention
            view by view although keys run token by token.
        published_position_resizing: Resize the ViT's position embedding by factors that belong to a
            grid a tenth of a patch larger than the image's.
        published_metric_depth: Let the networks at full resolution see and say depth in the scene's
            unit, instead of the disparity's place between its bounds: what they find depends on it.

    Raises:
        ValueError: An argument is not one of those named.
    """

    behaviours: ClassVar[tuple[str, ...]] = (
        "published_metric_depth",
        "published_position_resizing",
        "published_shifted_mask",
    )

    def __init__(
        self,
        vit_width: int = 384,
        vit_layers: Sequence[int] = (2, 5, 8, 11),
        scales: int = 1,
        lowest_feature_stride: int = 4,
        d_feature: int = 128,
        cnn_widths: Sequence[int] = (64, 96, 128),
        transformer_blocks: int = 6,
        transformer_expansion: int = 4,
        attention_splits: int = 2,
        nearest_views: int | None = 2,
        depth_candidates: int = 128,
        local_candidates: int = 32,
        cost_volume_width: int = 128,
        dpt_widths: Sequence[int] = (48, 96, 192, 384),
        offset_width: int = 32,
        checkpointing: bool = False,
        published_shifted_mask: bool = False,
        published_position_resizing: bool = False,
        published_metric_depth: bool = False,
    ):
        super().__init__()
        _check_sizes(scales, lowest_feature_stride, cnn_widths, vit_layers, dpt_widths)
        stem, middle, last = cnn_widths
        self.depth_candidates, self.local_candidates = depth_candidates, local_candidates
        self.checkpointing = checkpointing
        self.metric = published_metric_depth
        self.lowest_stride = lowest_feature_stride
        self.upsampling = lowest_feature_stride // 2 ** (scales - 1)
        self.dpt_sizes = (vit_width, tuple(dpt_widths))
        self.divisor = math.lcm(
            VIT_STRIDE,
            lowest_feature_stride * attention_splits,
            lowest_feature_stride * 2 ** (UNET_LEVELS - 1),
        )
        strides = (1, 1, 2) if lowest_feature_stride == 4 else (1, 2, 2)
        self.cnn = ConvolutionalPyramid((stem, middle, last), d_feature, strides)
        self.transformer = MultiViewTransformer(
            d_feature,
            transformer_blocks,
            attention_splits,
            transformer_expansion,
            cross_view=True,
            tiled_mask=published_shifted_mask,
            checkpointing=checkpointing,
            nearest_views=nearest_views,
        )
        self.vit = VisionTransformer(
            vit_width, tuple(vit_layers), published_position_resizing, checkpointing
        )
        self.matched_pyramid = nn.ModuleList(Doubling(d_feature) for _ in range(scales - 1))
        self.vit_pyramid = nn.ModuleList(Doubling(vit_width) for _ in range(scales - 1))
        self.cost_volumes = nn.ModuleList(CostVolume(nearest_views) for _ in range(scales))
        self.scales = nn.ModuleList(
            ScaleDepthLogits(
                features + (d_feature + vit_width) // 2**scale,
                candidates,
                (cost_volume_width // 2**scale,) * (UNET_LEVELS + scale),
                (2 ** (UNET_LEVELS + scale - 1),),
                checkpointing,
            )
            for scale, features, candidates in zip(
                range(scales), (d_feature, middle), (depth_candidates, local_candidates)
            )
        )
        # Strides and channels of the CNN's maps, then of the matched features.
        matched = [d_feature // 2**scale for scale in range(scales)]
        self.strides = [2, 2 * strides[1], lowest_feature_stride]
        self.strides += [lowest_feature_stride // 2**scale for scale in range(scales)]
        self.joined_channels = [stem, middle, d_feature, *matched]
        with_disparity = tuple(map(sum, self.by_stride([*self.joined_channels, 1])))
        self.offset_features = DPTHead(*self.dpt_sizes, with_disparity, offset_width)
        self.offset_head = OffsetHead(offset_width)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        initialize_backbone(self)

    def forward(self, views: Views) -> DepthEstimate:
        """Depth along the optical axis.

        Raises:
            ValueError: The views are unusable; the message names the field and the element.
        """
        check_views(views, self.divisor)
        predicted = self.predict(views)
        return predicted.estimate(views, predicted.disparity)

    def predict(self, views: Views) -> Prediction:
        """Depth of views that have been checked, and what it was made of."""
        count = views.image.shape[1]
        image = views.image.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        fine, middle, features = self.cnn(image)
        matched = [self.transformer(features.unflatten(0, (-1, count)), views).flatten(0, 1)]
        size = (image.shape[2] // VIT_STRIDE, image.shape[3] // VIT_STRIDE)
        layers = [resize(x, size) for x in self.vit(self.cnn.normalise(image))]
        monocular = [layers[-1]]
        if self.lowest_stride < VIT_STRIDE:
            monocular = [upsample(layers[-1], VIT_STRIDE // self.lowest_stride)]
        for pyramid, maps in ((self.matched_pyramid, matched), (self.vit_pyramid, monocular)):
            maps.extend([double(maps[0]) for double in pyramid])

        near, far = views.near.flatten(), views.far.flatten()
        candidates = disparity_candidates(near, far, self.depth_candidates)
        distributions = []
        disparity = confidence = None
        for scale, inputs in enumerate(zip((features, middle), matched, monocular)):
            of_scale: Tensor = candidates
            if disparity is not None:
                # Nothing but this ties the scales: the first learns from its own loss.
                around = upsample(disparity.detach(), 2)
                step = (1 / near - 1 / far) / (self.depth_candidates - 1) / 2
                of_scale = local_candidates(around, near, far, self.local_candidates, step)
            volume = self.cost_volumes[scale](inputs[1], views, of_scale)
            logits = self.scales[scale](concatenate(volume, *inputs), count)
            disparity, confidence = expected_disparity(logits, of_scale)
            distributions.append((logits, disparity))
        assert disparity is not None and confidence is not None

        others = [fine, middle, features, *matched]
        low, high = disparity_bounds(views)
        seen, unit = disparity, torch.ones_like(low)
        if not self.metric:
            seen, unit = (disparity - low) / (high - low), high - low
        offset = unit * self._offset(layers, self.by_stride([*others, seen]))
        logits, coarse = distributions[0]
        enlarge_coarse = self.training and len(self.scales) > 1
        return Prediction(
            layers=layers,
            others=self.by_stride(others),
            disparity=(upsample(disparity, self.upsampling) + offset).clamp(low, high),
            confidence=confidence,
            coarse_disparity=upsample(coarse, self.lowest_stride) if enlarge_coarse else None,
            logits=logits,
            candidates=candidates,
        )

    def _offset(self, layers: list[Tensor], others: list[list[Tensor]]) -> Tensor:
        features = recompute_if(self.checkpointing, self.offset_features, layers, others)
        # In bf16 disparities of far pixels would be equal.
        return recompute_if(self.checkpointing, self.offset_head, features).float()

    def by_stride(self, items: list[Item]) -> list[list[Item]]:
        """What is at 1/2, 1/4, 1/8 of the CNN's maps, the matched features and the disparity."""
        strides = [*self.strides, self.upsampling]
        pairs = list(zip(strides, items))
        return [[item for stride, item in pairs if stride == wanted] for wanted in JOINED_STRIDES]


def disparity_bounds(views: Views) -> tuple[Float[Tensor, "n 1 1 1"], Float[Tensor, "n 1 1 1"]]:
    """1 / far and 1 / near of all views of all scenes, for their maps."""
    far, near = (x.flatten().float()[:, None, None, None] for x in (views.far, views.near))
    return 1 / far, 1 / near


def _check_sizes(
    scales: int,
    stride: int,
    cnn_widths: Sequence[int],
    vit_layers: Sequence[int],
    dpt_widths: Sequence[int],
) -> None:
    if scales not in (1, 2):
        raise ValueError(f"scales is {scales}: expected 1 or 2")
    if stride not in (4, 8):
        raise ValueError(f"lowest_feature_stride is {stride}: expected 4 or 8")
    for name, value, count in (
        ("cnn_widths", cnn_widths, 3),
        ("vit_layers", vit_layers, 4),
        ("dpt_widths", dpt_widths, 4),
    ):
        if len(value) != count:
            raise ValueError(f"{name} has {len(value)} numbers: expected {count}")
