"""Which photographs a scene is made from, and which are held out to be compared with it."""

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import count
from pathlib import PurePath
from typing import Literal, NamedTuple

import torch

from mvsplat.data.scene import Scene
from mvsplat.geometry.view_choice import choose_context
from mvsplat.reconstruction.depth_range import DepthRange, depth_range
from mvsplat.reconstruction.frames import UsedPhoto
from mvsplat.reconstruction.inputs import READING
from mvsplat.reconstruction.scene_input import SceneInput
from mvsplat.reconstruction.stages import Stages

HeldOut = Literal["auto"] | int | list[str | int]
"""Photographs to compare with: how many, which ones by their names, or the usual ones."""

_FIRST, _EVERY, _MOST, _FROM = 3, 8, 12, 6
_LEAST = 2
_LOOK_AT_ALL, _SMALL = 3, 16


class ChosenPhotos(NamedTuple):
    """Photographs, read, of an input without those that cannot be.

    Args:
        source: The input.
        used: Photographs to make the scene from.
        held_out: Photographs to compare it with.
        depth: How near and far the scene is.
    """

    source: SceneInput
    used: list[UsedPhoto]
    held_out: list[UsedPhoto]
    depth: DepthRange


class WantedDepth(NamedTuple):
    """Bounds as the user says, and those of scenes without any size."""

    near: float | None
    far: float | None
    usual: tuple[float, float]


def choose_readable(
    source: SceneInput,
    wanted: WantedDepth,
    most: int | None,
    held_out: HeldOut,
    size: int,
    stages: Stages,
) -> ChosenPhotos:
    """Choose photographs and read them; what cannot be read is dropped, and others are chosen.

    Args:
        source: All photographs with cameras.
        wanted: Depth bounds, as far as they are given.
        most: How many to make the scene from; None for all but those held out.
        held_out: Which ones only to compare with.
        size: The longer side in pixels to which they are reduced.
        stages: Told about progress.

    Raises:
        ValueError: Fewer than two photographs can be read, or fewer have cameras than asked for.
    """
    read: dict[int, UsedPhoto] = {}
    asked = most
    for attempt in count():
        if attempt == _LOOK_AT_ALL:  # many are damaged: no more of them one by one
            source.readable(range(len(source.scene)), _SMALL)
            source, read = _without_unreadable(source, read)
        depth = depth_range(source.scene, *wanted)
        compared = held_out_frames(source.names, _there(held_out, source.dropped))
        if attempt and most is not None:
            most = min(most, len(source.scene) - len(compared))
        used = used_frames(source.scene, depth, compared, most)
        missing = [frame for frame in [*used, *compared] if frame not in read]

        def tell(done: int, total: int = len(missing)) -> None:
            stages.update(READING, done, total)

        read |= {photo.index: photo for photo in source.readable(missing, size, tell)}
        if not source.unreadable:
            break
        source, read = _without_unreadable(source, read)
    if most != asked:
        source.notes.append(f"photos is {asked}, but only {most} photos can be used: all are")
    return ChosenPhotos(source, [read[i] for i in used], [read[i] for i in compared], depth)


def _without_unreadable(
    source: SceneInput, read: dict[int, UsedPhoto]
) -> tuple[SceneInput, dict[int, UsedPhoto]]:
    """The input without the photographs that cannot be read, and those read by their new number."""
    kept = [index for index in range(len(source.names)) if index not in source.unreadable]
    renumbered = {new: replace(read[old], index=new) for new, old in enumerate(kept) if old in read}
    return source.without_unreadable(), renumbered


def _there(held_out: HeldOut, dropped: dict[str, str]) -> HeldOut:
    """Without the names of photographs that cannot be used, which is told already."""
    if not isinstance(held_out, list):
        return held_out
    gone = {*dropped, *map(_short, dropped)}
    return [name for name in held_out if str(name) not in gone]


def held_out_frames(names: Sequence[str], held_out: HeldOut = "auto") -> list[int]:
    """The frames that the scene is compared with, and never made from.

    Args:
        names: What all frames are called, in their order.
        held_out: "auto": every 8th one from index 3 on, at most 12, none of fewer than 6; a number:
            so many, evenly spread; or names, with or without their suffix.

    Raises:
        ValueError: There is none of a name, or fewer than two are left to make the scene from.
    """
    total = len(names)
    if held_out == "auto":
        return list(range(_FIRST, total, _EVERY))[:_MOST] if total >= _FROM else []
    if isinstance(held_out, list):
        chosen = sorted({frame for name in held_out for frame in _named(str(name), names)})
    else:
        if held_out < 0:
            raise ValueError(f"held_out is {held_out}; expected 0 or more, names, or auto")
        chosen = [(2 * place + 1) * total // (2 * held_out) for place in range(held_out)]
    if chosen and total - len(chosen) < _LEAST:
        raise ValueError(
            f"held_out takes {len(chosen)} of {total} photos: at least {_LEAST} must be left to "
            "make the scene from"
        )
    return chosen


def _named(name: str, names: Sequence[str]) -> list[int]:
    found = [frame for frame, known in enumerate(names) if known == name]
    found = found or [frame for frame, known in enumerate(names) if _short(known) == name]
    if not found:
        near = get_close_matches(name, [*names, *map(_short, names)], n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; they are {', '.join(names[:4])} ..."
        raise ValueError(f"held_out names {name!r}, but no photo with a camera is called so{hint}")
    return found


def _short(name: str) -> str:
    return PurePath(name).stem


def used_frames(
    scene: Scene, depth: DepthRange, held_out: Sequence[int], most: int | None = None
) -> list[int]:
    """The frames that the scene is made from: all others, or so many that overlap and cover most.

    Raises:
        ValueError: There are fewer than asked for.
    """
    others = [frame for frame in range(len(scene)) if frame not in set(held_out)]
    if most is None:
        return others
    if most > len(others):
        without = f" without the {len(held_out)} held out" if held_out else ""
        raise ValueError(f"photos is {most}, but only {len(others)} have cameras{without}")
    at = torch.tensor(others)
    near, far, _ = depth.bounds
    extrinsics, intrinsics = scene.extrinsics[at], scene.intrinsics[at]
    chosen = choose_context(extrinsics, intrinsics, near, far, most, depth.points)
    return [others[place] for place in chosen.tolist()]
