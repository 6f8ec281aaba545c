"""Gaussians as files should have them: one scene, finite, and not activated already."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mvsplat.types import Gaussians

_AT_A_TIME = 1 << 15
_FEWEST_TO_JUDGE = 20
_log = logging.getLogger("mvsplat.export")


def one_scene(gaussians: Gaussians, scene: int | None) -> Gaussians:
    """One scene of a batch, as a batch of one that shares its memory.

    Raises:
        ValueError: There is no such scene, or several and none is chosen.
    """
    scenes = len(gaussians.means)
    if scene is None and scenes != 1:
        raise ValueError(f"these are the Gaussians of {scenes} scenes: choose one with scene=")
    scene = 0 if scene is None else scene
    if not 0 <= scene < scenes:
        raise ValueError(f"there is no scene {scene}: these are the Gaussians of {scenes} scenes")
    chosen = slice(scene, scene + 1)
    return _each(gaussians, lambda value: value[chosen].detach())


def subset(gaussians: Gaussians, kept: Bool[Tensor, " g"]) -> Gaussians:
    """Some Gaussians of a batch of one."""
    return _each(gaussians, lambda value: value[:, kept])


def finite(gaussians: Gaussians) -> Bool[Tensor, " g"]:
    """Which Gaussians of a batch of one have finite values only; needs no copy of the scene."""
    good = torch.ones_like(gaussians.opacities[0], dtype=torch.bool)
    for start in range(0, len(good), _AT_A_TIME):
        span = slice(start, start + _AT_A_TIME)
        for value in _tensors(gaussians).values():
            part = value[0, span]
            good[span] &= part.reshape(len(part), -1).isfinite().all(-1)
    return good


def without_broken(gaussians: Gaussians, path: str | Path) -> Gaussians:
    """A file's Gaussians without those that have values that are not finite, which are counted.

    Training programs leave a few of these behind, and other programs do not show them either.

    Raises:
        ValueError: None is left.
    """
    good = finite(gaussians)
    broken = int((~good).sum())
    if not broken:
        return gaussians
    first = int((~good).nonzero()[0, 0])
    names = [
        name
        for name, value in _tensors(gaussians).items()
        if not bool(value[0, first].isfinite().all())
    ]
    found = f"{' and '.join(names)} of Gaussian {first} are not finite"
    if broken == len(good):
        raise ValueError(f"{path} is damaged: none of its {broken} Gaussians can be used; {found}")
    _log.warning(
        "%s: %s of %s Gaussians are left out, as they have values that are not finite (%s)",
        path,
        broken,
        len(good),
        found,
    )
    return subset(gaussians, good)


def warn_if_activated_twice(gaussians: Gaussians, path: str | Path) -> None:
    """Name values that look as if a file held them as they are, not their logits and logarithms.

    Read as logits, opacities in [0, 1] become 0.5 to 0.73; read as logarithms, small positive
    scales become 1 to e units. No trained scene has only such values.
    """
    opacities, scales = gaussians.opacities, gaussians.scales
    if opacities.numel() < _FEWEST_TO_JUDGE:
        return
    low, high = float(opacities.min()), float(opacities.max())
    if 0.5 <= low < high <= 1 / (1 + math.exp(-1)) + 1e-6 and high - low > 0.01:
        _log.warning(
            "%s: all opacities are stored as numbers from %.2g to %.2g, as if they were opacities; "
            "the format stores logits, so that they are read as %.2f to %.2f and the scene looks "
            "like mist. Some feed-forward programs write them so. If this one did: "
            "gaussians.opacities = gaussians.opacities.logit()",
            path,
            math.log(low / (1 - low)),
            math.log(high / (1 - high)),
            low,
            high,
        )
    if float(scales.min()) > 1 and float((scales < math.e).float().mean()) >= 0.99:
        _log.warning(
            "%s: all scales are stored as positive numbers, nearly all below 1, as if they were "
            "standard deviations; the format stores logarithms, so that every Gaussian is read as "
            "1 to e units large. If the program that wrote it did not take logarithms: "
            "gaussians.scales = gaussians.scales.log()",
            path,
        )


def _each(gaussians: Gaussians, change: Callable[[Tensor], Tensor]) -> Gaussians:
    fields: dict[str, Any] = {name: change(value) for name, value in _tensors(gaussians).items()}
    return Gaussians(**fields)


def _tensors(gaussians: Gaussians) -> dict[str, Tensor]:
    """What files hold of Gaussians."""
    names = ("means", "scales", "rotations", "harmonics", "opacities")
    return {name: getattr(gaussians, name) for name in names}
