"""Scenes put together, cut to size and moved, before they are written."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvsplat.export.cameras import Cameras
from mvsplat.export.placement import Placement
from mvsplat.export.soundness import subset
from mvsplat.types import Gaussians

_AT_A_TIME = 1 << 15


def merged(scenes: Sequence[Gaussians]) -> Gaussians:
    """The Gaussians of several batches of one, in one frame; all get the highest degree."""
    if len(scenes) == 1:
        return scenes[0]
    coefficients = max(scene.harmonics.shape[-1] for scene in scenes)
    harmonics = [
        torch.nn.functional.pad(scene.harmonics, (0, coefficients - scene.harmonics.shape[-1]))
        for scene in scenes
    ]
    return Gaussians(
        means=torch.cat([scene.means for scene in scenes], 1),
        scales=torch.cat([scene.scales for scene in scenes], 1),
        rotations=torch.cat([scene.rotations for scene in scenes], 1),
        harmonics=torch.cat(harmonics, 1),
        opacities=torch.cat([scene.opacities for scene in scenes], 1),
    )


def cropped(gaussians: Gaussians, box: Sequence[float]) -> Gaussians:
    """Those whose centres are in a box: its lowest x, y, z, then its highest.

    Raises:
        ValueError: The box has no inside.
    """
    low, high = torch.tensor(box[:3]), torch.tensor(box[3:])
    if not (low < high).all():
        raise ValueError(
            f"crop is {list(box)}; expected the box's lowest x, y, z, then its highest"
        )
    means = gaussians.means[0]
    return _kept(gaussians, ((means >= low) & (means <= high)).all(-1))


def passing(gaussians: Gaussians, min_opacity: float, max_scale: float) -> Gaussians:
    """Those that are opaque enough and whose largest standard deviation is small enough."""
    enough = gaussians.opacities[0] >= min_opacity
    return _kept(gaussians, enough & (gaussians.scales[0].amax(-1) <= max_scale))


def with_degree(gaussians: Gaussians, degree: int) -> Gaussians:
    """Harmonics up to a degree; there may have been fewer."""
    if degree < 0:
        raise ValueError(f"sh_degree is {degree}; expected 0 or more")
    return replace(gaussians, harmonics=gaussians.harmonics[..., : (degree + 1) ** 2])


def most_visible(gaussians: Gaussians, count: int) -> Gaussians:
    """At most so many: those with the most opacity times area, in their order."""
    if count < 1:
        raise ValueError(f"max_gaussians is {count}; expected 1 or more")
    if gaussians.means.shape[1] <= count:
        return gaussians
    widest = gaussians.scales[0].sort(dim=-1).values[:, 1:].prod(-1)
    kept = torch.zeros(len(widest), dtype=torch.bool)
    kept[(gaussians.opacities[0] * widest).topk(count).indices] = True
    return subset(gaussians, kept)


def placed(gaussians: Gaussians, placement: Placement) -> Gaussians:
    """A scene moved and turned, a few thousand Gaussians at a time."""
    fields = {
        "mean": gaussians.means[0].clone(),
        "rotation": gaussians.rotations[0].clone(),
        "harmonics": gaussians.harmonics[0].clone(),
    }
    for start in range(0, len(fields["mean"]), _AT_A_TIME):
        span = slice(start, start + _AT_A_TIME)
        part = placement({name: value[span] for name, value in fields.items()})
        for name, value in part.items():
            fields[name][span] = value
    return replace(
        gaussians,
        means=fields["mean"][None],
        rotations=fields["rotation"][None],
        harmonics=fields["harmonics"][None],
    )


def placed_cameras(cameras: Cameras, placement: Placement) -> Cameras:
    """The cameras of a scene, moved and turned along with it."""
    frames = []
    for frame in cameras.frames:
        pose = frame.extrinsics.double().clone()
        if placement.center is not None:
            pose[:3, 3] -= placement.center.double()
        if placement.rotation is not None:
            pose[:3] = placement.rotation @ pose[:3]
        frames.append(replace(frame, extrinsics=pose.to(frame.extrinsics)))
    return replace(cameras, frames=frames)


def middle(gaussians: Gaussians) -> Float[Tensor, "3"] | None:
    """The median of the centres; None without any."""
    means = gaussians.means[0]
    return means.median(dim=0).values if len(means) else None


def _kept(gaussians: Gaussians, kept: Bool[Tensor, " g"]) -> Gaussians:
    return gaussians if bool(kept.all()) else subset(gaussians, kept)
