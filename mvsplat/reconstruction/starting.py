"""What a scene starts from: all its photographs through the network, a few neighbours at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mvsplat.data.bounds import Bounds
from mvsplat.data.transforms import Shape
from mvsplat.decoder.widening import pixel_size
from mvsplat.geometry.view_groups import ViewGroup, measure_views, neighbour_groups, neighbours
from mvsplat.reconstruction.checkpoint import TrainedModel, views_at_once
from mvsplat.reconstruction.frames import CroppedFrame, as_views
from mvsplat.reconstruction.scaling import scaling_to
from mvsplat.refinement.judging import split_off
from mvsplat.refinement.merging import DepthView, Merged, Merging, concatenated, those
from mvsplat.types import Gaussians

_COMPARED = 8
_HARDLY_LOST = 0.02

Progress = Callable[[int, int], None]
"""Is told how many groups are done, and of how many."""


@dataclass(frozen=True)
class PredictedScene:
    """What the network says of all photographs, in the scene's own frame and unit.

    Args:
        gaussians: A batch of one scene, as for pictures of the model's own size, on its device.
        photograph: Of each Gaussian, which of the photographs it comes from.
        confidence: How far each Gaussian can be trusted, in [0, 1].
        pixel: How large a pixel of the model's pictures is at each Gaussian's place.
        views: Of each photograph the depth that the network saw; None if the encoder tells none.
        groups: Which photographs were seen together.
        pairs: Photographs each of which shows most of what the other one does.
    """

    gaussians: Gaussians
    photograph: Int[Tensor, " g"]
    confidence: Float[Tensor, " g"]
    pixel: Float[Tensor, " g"]
    views: list[DepthView] | None
    groups: list[ViewGroup]
    pairs: list[tuple[int, int]]

    @property
    def depth(self) -> Float[Tensor, "n h w"] | None:
        """Depth of each photograph along its optical axis; None if the encoder tells none."""
        return None if self.views is None else torch.stack([view.depth for view in self.views])


def predict_all(
    model: TrainedModel,
    frames: Sequence[CroppedFrame],
    bounds: Bounds,
    views: int | None = None,
    points: Float[Tensor, "p 3"] | None = None,
    progress: Progress = lambda done, total: None,
) -> PredictedScene:
    """The Gaussians of any number of photographs, in groups of neighbours, merged.

    Time and memory grow with the number of photographs. Each photograph's Gaussians are taken from
    one group; see :mod:`mvsplat.refinement.merging` for what is dropped. Neither is there anything
    of pixels that do not count. An encoder that does not tell each view's depth has the Gaussians
    of all groups laid into one.

    Args:
        model: The network.
        frames: The photographs, at a size that suits it.
        bounds: Nearest and farthest depth.
        views: How many the network sees at once; None takes what it was trained with.
        points: Sparse points of the scene, which tell what views share.
        progress: Is told after each group, and may raise what ends the work.

    Raises:
        ValueError: The photographs do not suit the model, or none of their pixels counts.
    """
    wanted = views or views_at_once(model.context_views, len(frames))
    size = min(wanted, model.encoder.maximum_views or len(frames))
    extrinsics = torch.stack([frame.extrinsics for frame in frames])
    intrinsics = torch.stack([frame.intrinsics for frame in frames])
    pairs = measure_views(extrinsics, intrinsics, bounds.near, bounds.far, points)
    groups = neighbour_groups(pairs, size)
    compared = neighbours(pairs, _COMPARED)
    collected = _Collected(frames, compared, groups, bounds)
    progress(0, len(groups))
    for done, group in enumerate(groups, 1):
        members = [frames[member] for member in group.members]
        collected.add(group, predict(model, members, bounds))
        progress(done, len(groups))
    nearest = {(i, int(found[0])) for i, found in enumerate(compared) if len(found)}
    return collected.scene(sorted({(min(pair), max(pair)) for pair in nearest}))


@torch.no_grad()
def predict(model: TrainedModel, frames: list[CroppedFrame], bounds: Bounds) -> Gaussians:
    """The Gaussians of photographs that the network sees at once, in the scene's frame and unit.

    The model sees the scene at the scale it was trained with.

    Raises:
        ValueError: The photographs do not suit the model.
    """
    views = as_views(frames, bounds.near, bounds.far)
    scaling = scaling_to(bounds.near, model.near, views.extrinsics[0])
    scaled = replace(
        views,
        extrinsics=scaling.cameras(views.extrinsics),
        near=views.near * scaling.factor,
        far=views.far * scaling.factor,
    )
    with model.in_precision():
        gaussians = model.encoder(scaled.to(model.device))
    return scaling.undo(gaussians)


class _Collected:
    """Groups' Gaussians, taken apart by photograph and merged."""

    def __init__(
        self,
        frames: Sequence[CroppedFrame],
        compared: Sequence[Int[Tensor, " _m"]],
        groups: list[ViewGroup],
        bounds: Bounds,
    ) -> None:
        self.frames, self.groups, self.bounds = frames, groups, bounds
        of_photo = {owned: i for i, group in enumerate(groups) for owned in group.owned}
        together = [of_photo[i] for i in range(len(frames))]
        # Without what they say, those that judge refinement must leave no gaps.
        self.merging = Merging(compared, together, split_off(len(frames)))
        self.views: dict[int, DepthView] = {}
        self.device = torch.device("cpu")
        self.whole: list[Merged] = []

    def add(self, group: ViewGroup, predicted: Gaussians) -> None:
        """Take what a group says of the photographs that it owns."""
        self.device, predicted = predicted.means.device, predicted.to("cpu")
        estimate = predicted.estimate
        pixels = 0 if estimate is None else estimate.depth[0].numel()
        if estimate is None or predicted.means.shape[1] % pixels:
            self.whole.append(self._unmerged(group, predicted))
            return
        each = predicted.means.shape[1] // len(group.members)
        for owned in group.owned:
            place = group.members.index(owned)
            depth = estimate.depth[0, place].clone()
            confidence = F.interpolate(estimate.confidence[:, place, None], depth.shape)[0, 0]
            frame = self.frames[owned]
            counts = torch.ones_like(depth, dtype=torch.bool) if frame.mask is None else frame.mask
            depth[~counts] = 0
            view = DepthView(frame.pixels, depth, frame.extrinsics, frame.intrinsics)
            confidence, counts = (
                x.flatten().repeat_interleave(each // depth.numel()) for x in (confidence, counts)
            )
            mine = those(predicted, slice(place * each, (place + 1) * each))
            self.merging.add(owned, those(mine, counts), view, confidence[counts])
            self.views[owned] = view

    def _unmerged(self, group: ViewGroup, predicted: Gaussians) -> Merged:
        members = [self.frames[i] for i in group.members]
        predicted = those(predicted, _counting(predicted.means[0], members))
        count = predicted.means.shape[1]
        return Merged(
            predicted,
            torch.full((count,), group.members[0]),
            torch.ones(count),
            pixel_size(predicted.means[0], as_views(members, *self.bounds[:2])),
        )

    def scene(self, pairs: list[tuple[int, int]]) -> PredictedScene:
        """All of it."""
        merged = concatenated([*([self.merging.result()] if self.views else []), *self.whole])
        views = None
        if len(self.views) == len(self.frames):
            views = [self.views[number] for number in range(len(self.frames))]
        gaussians = merged.gaussians.to(self.device)
        if not gaussians.means.shape[1]:
            raise ValueError(
                "of what the network sees of the photos, their masks leave nothing; in a mask, "
                "white is what counts, and black is ignored"
            )
        return PredictedScene(
            gaussians,
            merged.photograph,
            merged.confidence,
            merged.pixel,
            views,
            self.groups,
            pairs,
        )


def _counting(means: Float[Tensor, "g 3"], frames: Sequence[CroppedFrame]) -> Bool[Tensor, " g"]:
    """Places that some photograph has among the pixels that count, or none has in its frame."""
    masked, counted = (torch.zeros(len(means), dtype=torch.bool) for _ in range(2))
    for frame in frames:
        mask = torch.ones_like(frame.pixels[0]).bool() if frame.mask is None else frame.mask
        for found, pixels in ((counted, mask), (masked, ~mask)):
            view = DepthView(frame.pixels, pixels.float(), frame.extrinsics, frame.intrinsics)
            found |= view.look(means).seen
    return counted | ~masked


def whole_shape(shape: Shape, photo: Shape, divisor: int) -> Shape:
    """A shape for the network in which nearly all of a photograph has room.

    The shorter side stays as it is, the longer one grows as the photograph's does, in multiples of
    what the network takes: weights trained on squares predict whole photographs as well. Where that
    would cut off more than a fiftieth of the photograph, the shorter side is the next multiple
    below or above if that loses less and differs by an eighth at most.

    Args:
        shape: Height and width that the network was trained with.
        photo: Those of a photograph.
        divisor: What the network takes multiples of.
    """
    short, ratio = min(shape), max(photo) / min(photo)

    def longer(side: int) -> int:
        return max(side, round(side * ratio / divisor) * divisor)

    def preference(side: int) -> tuple[float, int]:
        return max(_lost(longer(side) / side, ratio), _HARDLY_LOST), abs(side - short)

    multiples = ((short // divisor + step) * divisor for step in (-1, 1))
    others = [side for side in multiples if abs(side - short) <= short // 8]
    side = min([short, *others], key=preference)
    return (longer(side), side) if photo[0] > photo[1] else (side, longer(side))


def _lost(shape: float, photo: float) -> float:
    """Share of a picture that a crop loses, by the ratios of their sides."""
    return 1 - min(shape, photo) / max(shape, photo)
