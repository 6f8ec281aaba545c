"""What the views of a scene show of each other, measured with the best the scene has to offer."""

import math
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from mvsplat.data.bounds import find_bounds
from mvsplat.data.faults import UnsuitableScene
from mvsplat.data.scene import Scene
from mvsplat.data.transforms import Shape, crop_depth, crop_intrinsics
from mvsplat.geometry.overlap import (
    SamplePoints,
    ViewPairs,
    compare_views,
    frustum_points,
    image_cells,
    seen_by_any,
    surface_points,
    visible_points,
    weakest_link,
)

Evidence = Literal["auto", "depth", "points", "bounds"]

# 12 x 12 x 4 points of a view's frustum tell a share to 2 %, the standard error of as many draws.
_GRID, _DEPTHS = 12, 4
_DEPTH_SIDE = 128  # exact depth is looked at in maps of at most this size
_ASPECT_STEPS = 100  # frames whose aspect ratios differ by less than 1 / this have the same size


@dataclass(frozen=True)
class OverlapSettings:
    """How overlap is measured.

    Args:
        evidence: By exact depth (hidden things do not count), by the scene's sparse points, or by
            its depth bounds; auto takes the first of these that the scene has.
        image_shape: Height and width of the views that are evaluated: frames are resized to cover
            it and cropped, so less overlaps. null: whole frames.
        near: Nearest depth; null takes the scene's own, or estimates it.
        far: Farthest depth; null: as near.
    """

    evidence: Evidence = "auto"
    image_shape: tuple[int, int] | None = (256, 256)
    near: float | None = None
    far: float | None = None

    def __post_init__(self) -> None:
        if self.image_shape is not None and min(self.image_shape) < 1:
            raise ValueError(f"image_shape is {list(self.image_shape)}; expected height and width")
        low, high = self.near, self.far
        if any(bound is not None and not 0 < bound < math.inf for bound in (low, high)) or (
            low is not None and high is not None and low >= high
        ):
            raise ValueError(f"near is {low} and far is {high}; expected 0 < near < far")


@dataclass(frozen=True)
class SceneOverlap:
    """The views of a scene: cameras (of the cropped frames) and what they show.

    Args:
        shown: Sample points of every view.
        extrinsics: Camera-to-world matrices.
        intrinsics: Normalised intrinsics.
        depth: Exact depth, where it is known and used.
    """

    shown: SamplePoints
    extrinsics: Float[Tensor, "n 4 4"]
    intrinsics: Float[Tensor, "n 3 3"]
    depth: Float[Tensor, "n h w"] | None = None

    def __len__(self) -> int:
        """Number of views."""
        return len(self.extrinsics)

    @cached_property
    def pairs(self) -> ViewPairs:
        """Overlap, angle and baseline of every two views."""
        return compare_views(self.shown, self.extrinsics, self.intrinsics, self.depth)

    def subset(self, views: Int[Tensor, " v"]) -> "SceneOverlap":
        """Some of the views."""
        depth = None if self.depth is None else self.depth[views]
        return SceneOverlap(
            self.shown[views], self.extrinsics[views], self.intrinsics[views], depth
        )

    def overlap(self, views: Int[Tensor, "*batch v"]) -> Float[Tensor, "*batch"]:
        """How much sets of views show of the same: the weakest link that connects them all."""
        return weakest_link(self.pairs.mutual[views[..., :, None], views[..., None, :]])

    def coverage(self, of: Int[Tensor, " v"], by: Int[Tensor, " w"]) -> Float[Tensor, " v"]:
        """Share of some views' content that at least one of others shows."""
        return _share(self.seen(of, by), self.shown.weight[of])

    def seen(self, views: Int[Tensor, " v"], by: Int[Tensor, " w"]) -> Bool[Tensor, "v s"]:
        """Which of the sample points of some views at least one of others shows."""
        others = self.subset(by)
        return seen_by_any(self.shown[views], others.extrinsics, others.intrinsics, others.depth)

    def seen_map(
        self, view: int, by: Int[Tensor, " w"], size: int = 12
    ) -> Float[Tensor, "size size"]:
        """Share of a view's content in each part of its frame that others show; NaN: no content."""
        index = torch.tensor([view])
        shown, camera = self.shown[index], (self.extrinsics[index], self.intrinsics[index])
        cells = image_cells(shown.position, *camera, size)[0]
        weight, seen = shown.weight[0], self.seen(index, by)[0]
        total, both = torch.zeros(2, size * size).unbind()
        total.index_add_(0, cells, weight)
        both.index_add_(0, cells, weight * seen)
        return (both / total).view(size, size)


def measure_overlap(scene: Scene, settings: OverlapSettings) -> SceneOverlap:
    """Look at a scene's cameras, and at its depth, points or bounds.

    Raises:
        UnsuitableScene: There is not what the settings ask for; the message is the reason.
        ValueError: The scene is damaged, or nothing tells its depth bounds; names it.
    """
    intrinsics = _cropped(scene, settings.image_shape)
    if settings.evidence in ("auto", "depth") and scene.depth(0) is not None:
        depth = _depths(scene, settings.image_shape)
        shown = surface_points(depth, scene.extrinsics, intrinsics)
        return SceneOverlap(shown, scene.extrinsics, intrinsics, depth)
    has_points = scene.points is not None and len(scene.points) > 0
    if settings.evidence == "depth" or (settings.evidence == "points" and not has_points):
        raise UnsuitableScene(f"has no {settings.evidence} to tell the overlap by")
    if settings.evidence in ("auto", "points") and scene.points is not None and has_points:
        shown = visible_points(scene.points, scene.extrinsics, intrinsics)
    else:
        bounds = find_bounds(scene, settings.near, settings.far)
        size = {"grid": _GRID, "depths": _DEPTHS}
        shown = frustum_points(scene.extrinsics, intrinsics, bounds.near, bounds.far, **size)
    return SceneOverlap(shown, scene.extrinsics, intrinsics)


def frame_size(scene: Scene, index: int) -> Shape:
    """Height and width of a frame; decodes it only where the file does not say."""
    encoded = scene.encoded(index)
    picture = scene.image(index) if encoded is None else Image.open(BytesIO(encoded))
    return picture.height, picture.width


def _cropped(scene: Scene, shape: Shape | None) -> Float[Tensor, "n 3 3"]:
    """Intrinsics of the views as they are cropped."""
    if shape is None:
        return scene.intrinsics
    # Pixels being about square, the intrinsics tell the frames' aspect ratios.
    ratio = scene.intrinsics[:, 1, 1] / scene.intrinsics[:, 0, 0]
    kinds = (ratio.log() * _ASPECT_STEPS).round()
    cropped = scene.intrinsics.clone()
    for kind in kinds.unique():
        frames = (kinds == kind).nonzero()[:, 0]
        size = _any_size(scene, frames.tolist())
        cropped[frames] = crop_intrinsics(scene.intrinsics[frames], size, shape)
    return cropped


def _any_size(scene: Scene, frames: list[int]) -> Shape:
    """The size of frames of one size, told by the first picture that is not damaged."""
    for frame in frames:
        try:
            return frame_size(scene, frame)
        except (ValueError, OSError):
            if frame == frames[-1]:
                raise
    raise AssertionError("there is at least one frame")


def _depths(scene: Scene, shape: Shape | None) -> Float[Tensor, "n h w"]:
    """Exact depth of all frames, cropped like them, 0 where there is none."""
    maps = []
    for frame in range(len(scene)):
        depth = scene.depth(frame)
        if depth is None:
            raise UnsuitableScene("has exact depth for some of its frames only")
        height, width = depth.shape if shape is None else shape
        scale = min(1.0, _DEPTH_SIDE / max(height, width))
        maps.append(
            crop_depth(depth, (max(1, round(height * scale)), max(1, round(width * scale))))
        )
    return torch.stack(maps)


def _share(seen: Bool[Tensor, "*n s"], weight: Float[Tensor, "*n s"]) -> Float[Tensor, "*n"]:
    """Share of the weight that is seen; 0 where there is none."""
    return ((seen * weight).sum(-1) / weight.sum(-1)).nan_to_num(0)
