"""Gaussians as files should have them: one scene, finite, and not activated already."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
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
            if part.sum().isfinite():  # all are, then: it is the rule, and takes a fifth as long
                continue
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


def activate(
    scales: Float[Tensor, "g 3"],
    opacities: Float[Tensor, " g"],
    activated: bool | None,
    path: str | Path,
) -> None:
    """Make scales and opacities, in place, of what a PLY file stores of them.

    The format stores logarithms and logits. Some feed-forward programs store opacities or scales as
    they are: read as logits, opacities in [0, 1] would become 0.5 to 0.73; read as logarithms,
    small positive scales would become 1 to e units. No trained scene has only such values.

    Args:
        scales: As they are stored.
        opacities: As they are stored.
        activated: Whether they are what they are to be; None finds out and says so in a warning;
            True leaves those that can be what they are to be.
        path: The file, for messages.

    Raises:
        ValueError: They are said to be activated, and neither can be.
    """
    known_opacities, known_scales = opacities[~opacities.isnan()], scales[~scales.isnan()]
    if activated is None:
        ready = (_plain_opacities(known_opacities), _plain_scales(known_scales))
        for name, plain, other in zip(
            ("opacities", "scales"), ready, ("logits", "logarithms"), strict=True
        ):
            if plain:
                _log.warning(
                    "%s: all %s are stored as they are and read so; the format stores their %s. If "
                    "these are %s all the same, say activated=False (--activated false)",
                    path, name, other, other,
                )  # fmt: skip
    elif activated and len(opacities):
        ready = (
            bool(((known_opacities >= 0) & (known_opacities <= 1)).all()),
            bool((known_scales > 0).all()),
        )
        if not any(ready):
            raise ValueError(
                f"{path} is said to be activated, but opacities go from "
                f"{float(known_opacities.min()):.3g} to {float(known_opacities.max()):.3g} and "
                f"scales from {float(known_scales.min()):.3g}: these are logits and logarithms"
            )
    else:
        ready = (False, False)
    if not ready[0]:
        opacities.sigmoid_()
    if not ready[1]:
        scales.exp_()


def _plain_opacities(stored: Float[Tensor, " n"]) -> bool:
    if len(stored) < _FEWEST_TO_JUDGE:
        return False
    low, high = float(stored.min()), float(stored.max())
    return low >= 0 and high <= 1 and high - low > 0.04


def _plain_scales(stored: Float[Tensor, " n"]) -> bool:
    if len(stored) < _FEWEST_TO_JUDGE:
        return False
    return float(stored.min()) > 0 and float((stored < 1).float().mean()) >= 0.99


def _each(gaussians: Gaussians, change: Callable[[Tensor], Tensor]) -> Gaussians:
    fields: dict[str, Any] = {name: change(value) for name, value in _tensors(gaussians).items()}
    return Gaussians(**fields)


def _tensors(gaussians: Gaussians) -> dict[str, Tensor]:
    """What files hold of Gaussians."""
    names = ("means", "scales", "rotations", "harmonics", "opacities")
    return {name: getattr(gaussians, name) for name in names}
