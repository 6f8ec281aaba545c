"""Gaussians predicted from several groups of photographs, merged into one scene.

Each photograph brings its Gaussians and its depth. A Gaussian is not repeated where a photograph
that came before shows the same: a surface at its place, of its colour, about as finely. It is
dropped where it floats: several photographs see past its place, and more than see a surface there.
Photographs are compared with their neighbours only, so that time and memory grow with their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from mvsplat.geometry.projection import camera_rays, homogeneous, invert_rigid, pixel_centers
from mvsplat.types import Gaussians

SAME_DEPTH = 0.05  # share of the depth by which one surface may differ between views
_IN_FRONT = 0.1  # share of the depth from which on a view sees past a place
SAME_COLOR = 0.12  # mean difference of channels between photographs of one thing
_AS_FINE = 1.5  # ratio of pixel sizes up to which a view shows a place as finely
_SEEN_PAST = 2  # views that must see past what floats


@dataclass(frozen=True)
class DepthView:
    """A photograph, its camera, and how deep it is.

    Args:
        pixels: 8-bit RGB.
        depth: Along the optical axis, at the same pixels; 0 where it is not known.
        extrinsics: Camera-to-world matrix.
        intrinsics: Normalised intrinsics.
    """

    pixels: UInt8[Tensor, "3 h w"]
    depth: Float[Tensor, "h w"]
    extrinsics: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]

    def points(self) -> Float[Tensor, "p 3"]:
        """World positions of the pixels' depths, row by row; the camera's where there is none."""
        height, width = self.depth.shape
        pixels = pixel_centers(height, width, self.depth.device).view(-1, 2)
        rays = camera_rays(pixels, self.intrinsics.float()).double()
        pose = self.extrinsics.double()
        points = rays * self.depth.view(-1, 1).double() @ pose[:3, :3].mT + pose[:3, 3]
        return points.float()

    def look(self, points: Float[Tensor, "p 3"]) -> "Look":
        """What the view shows where it has points in its frame."""
        height, width = self.depth.shape
        project = self.intrinsics.double() @ invert_rigid(self.extrinsics.double())[:3]
        x, y, z = (homogeneous(points.double()) @ project.mT).unbind(-1)
        inside = (z > 0) & (x >= 0) & (y >= 0) & (x < z) & (y < z)
        column = torch.where(inside, x / z * width, 0).long().clamp(max=width - 1)
        row = torch.where(inside, y / z * height, 0).long().clamp(max=height - 1)
        depth = self.depth[row, column]
        focal = max(float(self.intrinsics[0, 0]) * width, float(self.intrinsics[1, 1]) * height)
        return Look(
            inside & (depth > 0) & depth.isfinite(),
            (z / depth.clamp(min=1e-12)).float(),
            self.pixels[:, row, column].mT.float() / 255,
            (z / focal).float(),
        )


class Look(NamedTuple):
    """Points as one view has them.

    Args:
        seen: Whether they are in its frame, where it has a depth.
        ratio: Their depth, of the one that the view shows there.
        color: What colour the view shows there.
        pixel: How large a pixel is at their depth.
    """

    seen: Bool[Tensor, " p"]
    ratio: Float[Tensor, " p"]
    color: Float[Tensor, "p 3"]
    pixel: Float[Tensor, " p"]

    @property
    def agrees(self) -> Bool[Tensor, " p"]:
        """Whether the view shows a surface at the points' places."""
        return self.agrees_within(SAME_DEPTH)

    def agrees_within(self, share: float) -> Bool[Tensor, " p"]:
        """Whether the view shows a surface as deep but for a share of the depth."""
        return self.seen & ((self.ratio - 1).abs() < share)

    @property
    def past(self) -> Bool[Tensor, " p"]:
        """Whether the view sees through the points' places to something behind."""
        return self.seen & (self.ratio < 1 - _IN_FRONT)


@dataclass(frozen=True)
class Merged:
    """Gaussians of several photographs.

    Args:
        gaussians: A batch of one scene.
        photograph: Of each Gaussian, the number of the photograph it comes from.
        confidence: How far each can be trusted, in [0, 1]: what the network says of it, less where
            photographs see past it.
        pixel: How large a pixel of its photograph is at each one's place.
    """

    gaussians: Gaussians
    photograph: Int[Tensor, " g"]
    confidence: Float[Tensor, " g"]
    pixel: Float[Tensor, " g"]


class Merging:
    """Takes photographs' Gaussians one photograph at a time.

    Args:
        neighbours: Of each photograph the others that it is compared with.
        together: Of each photograph the number of its group: what was predicted together belongs
            together, and is never a repetition.
        apart: Photographs whose Gaussians may be taken out later: nothing is left out for them.
    """

    def __init__(
        self,
        neighbours: Sequence[Int[Tensor, " _m"]],
        together: Sequence[int] | None = None,
        apart: Sequence[int] = (),
    ) -> None:
        self._neighbours, self._apart = neighbours, frozenset(apart)
        self._together = range(len(neighbours)) if together is None else together
        self._views: dict[int, DepthView] = {}
        self._parts: dict[int, Merged] = {}

    def add(
        self,
        number: int,
        gaussians: Gaussians,
        view: DepthView,
        confidence: Float[Tensor, " g"],
    ) -> None:
        """Add a photograph's Gaussians, but for those that an earlier photograph explains."""
        means = gaussians.means[0]
        own = view.look(means)
        new = torch.ones(len(means), dtype=torch.bool)
        for other in self._neighbours[number].tolist():
            if other in self._apart:
                continue
            if other in self._views and self._together[other] != self._together[number]:
                look = self._views[other].look(means)
                alike = (look.color - own.color).abs().mean(dim=1) < SAME_COLOR
                new &= ~(look.agrees & alike & (look.pixel < _AS_FINE * own.pixel))
        self._views[number] = view
        part = Merged(gaussians, torch.full((len(means),), number), confidence, own.pixel)
        self._parts[number] = _chosen(part, new)

    def result(self) -> Merged:
        """All Gaussians added, but for those that float."""
        for number in self._parts:
            self._parts[number] = self._without_floating(number, self._parts[number])
        parts = [self._parts[number] for number in sorted(self._parts)]
        self._parts = {}
        return concatenated(parts)

    def _without_floating(self, number: int, part: Merged) -> Merged:
        means = part.gaussians.means[0]
        past, agree = (torch.zeros(len(means), dtype=torch.int16) for _ in range(2))
        for other in self._neighbours[number].tolist():
            if other in self._views and self._together[other] != self._together[number]:
                look = self._views[other].look(means)
                past += look.past
                agree += look.agrees
        trusted = part.confidence * (1 + agree) / (1 + agree + past)
        floats = (past >= _SEEN_PAST) & (past > agree)
        return _chosen(replace(part, confidence=trusted), ~floats)


def concatenated(parts: Sequence[Merged]) -> Merged:
    """All Gaussians of several sets."""
    return Merged(
        joined([part.gaussians for part in parts]),
        torch.cat([part.photograph for part in parts]),
        torch.cat([part.confidence for part in parts]),
        torch.cat([part.pixel for part in parts]),
    )


def without(merged: Merged, photographs: Sequence[int]) -> Merged:
    """The Gaussians of all photographs but some."""
    return _chosen(merged, ~torch.isin(merged.photograph, torch.tensor(list(photographs)).long()))


def joined(parts: Sequence[Gaussians]) -> Gaussians:
    """Scenes laid into one; harmonics get the highest degree of any, and no estimate is kept."""
    most = max(part.harmonics.shape[-1] for part in parts)
    harmonics = [
        torch.nn.functional.pad(part.harmonics, (0, most - part.harmonics.shape[-1]))
        for part in parts
    ]
    return Gaussians(
        torch.cat([part.means for part in parts], dim=1),
        torch.cat([part.scales for part in parts], dim=1),
        torch.cat([part.rotations for part in parts], dim=1),
        torch.cat(harmonics, dim=1),
        torch.cat([part.opacities for part in parts], dim=1),
    )


def those(gaussians: Gaussians, chosen: Bool[Tensor, " g"] | slice) -> Gaussians:
    """Copies of some of a scene's Gaussians, without the estimate."""
    return Gaussians(
        gaussians.means[:, chosen].clone(),
        gaussians.scales[:, chosen].clone(),
        gaussians.rotations[:, chosen].clone(),
        gaussians.harmonics[:, chosen].clone(),
        gaussians.opacities[:, chosen].clone(),
    )


def _chosen(part: Merged, chosen: Bool[Tensor, " g"]) -> Merged:
    return Merged(
        those(part.gaussians, chosen),
        part.photograph[chosen],
        part.confidence[chosen],
        part.pixel[chosen],
    )
