"""``mvsplat.refine``: Gaussians of any origin, optimised on photographs with cameras."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from mvsplat.data.bounds import find_bounds
from mvsplat.data.readers.opening import Format, open_scenes, scene_keys
from mvsplat.data.scene import Scene
from mvsplat.refinement.optimization import Report, Settings, optimise
from mvsplat.refinement.photographs import (
    DEFAULT_SIZE,
    Photograph,
    photographs_of,
    read_photographs,
)
from mvsplat.types import Gaussians, Views

_log = logging.getLogger("mvsplat.refinement")


def refine(
    gaussians: Gaussians,
    photos: str | Path | Scene | Views,
    steps: int | None = None,
    seconds: float | None = None,
    size: int = DEFAULT_SIZE,
    max_gaussians: int = Settings.max_gaussians,
    poses: bool = True,
    exposures: bool = True,
    near: float | None = None,
    held_out: Sequence[int] = (),
    scene: str | None = None,
    format: Format = "auto",
    seed: int = 0,
    report: Report | None = None,
) -> Gaussians:
    """Optimise Gaussians on photographs whose cameras are in the same frame and unit.

    They are rendered from the cameras, compared with the photographs, and moved, shaped, coloured,
    split and removed to look the same. Where the result is not better on photographs that it was
    not optimised on, it is what was given.

    Args:
        gaussians: A batch of one scene, from anywhere: an encoder, a splat file, sparse points.
        photos: A path of data with cameras in any format that is read, a Scene, or the Views of one
            scene.
        steps: By how many steps; None takes a number that suits the photographs (about a minute on
            two cores), unless ``seconds`` are given.
        seconds: For how long.
        size: Longer side in pixels to which larger photographs are reduced.
        max_gaussians: Gaussians are added up to this number.
        poses: Correct the cameras meanwhile.
        exposures: Allow for each photograph's exposure meanwhile.
        near: Nearest depth of the scene; None takes that of the data or the views.
        held_out: Frame numbers of photographs that are not looked at.
        scene: Which scene, where the data has several; None takes the first.
        format: What is at the path: a reader's name, or "auto".
        seed: Of everything random; the same seed and number of steps give the same bits.
        report: Is told every few steps how far it is.

    Returns:
        A batch of one scene on the given Gaussians' device.

    Raises:
        FileNotFoundError: There is nothing at the path.
        ValueError: There are no cameras, no photograph can be read, or splat and photographs do not
            belong together.

    >>> import mvsplat, torch
    >>> speck = mvsplat.Gaussians(
    ...     means=torch.tensor([[[0.0, 0.0, 2.0]]]),
    ...     scales=torch.full((1, 1, 3), 0.4),
    ...     rotations=torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]),
    ...     harmonics=torch.zeros(1, 1, 3, 1),
    ...     opacities=torch.full((1, 1), 0.5),
    ... )
    >>> lens = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    >>> views = mvsplat.Views(
    ...     torch.full((1, 1, 3, 16, 16), 0.6), torch.eye(4)[None, None], lens[None, None],
    ...     torch.ones(1, 1), torch.full((1, 1), 10.0),
    ... )
    >>> bool((mvsplat.refine(speck, views, steps=4).opacities >= speck.opacities).all())
    True
    """
    if steps is not None and seconds is not None:
        raise ValueError(f"steps is {steps} and seconds {seconds}; give one of them")
    photographs, found_near = _photographs(photos, size, near, held_out, scene, format)
    settings = Settings(steps, seconds, max_gaussians, poses, exposures, seed)
    refined = optimise(gaussians, photographs, found_near, settings, report)
    for note in refined.notes:
        _log.warning("%s", note)
    if not refined.kept:
        return replace(gaussians, estimate=None)
    return refined.gaussians.to(gaussians.means.device)


def _photographs(
    photos: str | Path | Scene | Views,
    size: int,
    near: float | None,
    held_out: Sequence[int],
    scene: str | None,
    format: Format,
) -> tuple[list[Photograph], float]:
    """The photographs, and the nearest depth."""
    if isinstance(photos, Views):
        kept = [photo for i, photo in enumerate(photographs_of(photos)) if i not in held_out]
        nearest = float(torch.min(photos.near)) if near is None else near
        return [photo.fitted(size) for photo in kept], nearest
    if not isinstance(photos, Scene):
        source = open_scenes(photos, format)
        photos = source.scene(*scene_keys(source, Path(photos), scene)[0])
    indices = [index for index in range(len(photos)) if index not in held_out]
    found = read_photographs(photos, indices, size=size)
    for name, reason in found.unreadable.items():
        _log.warning("left out: %s: %s", name, reason)
    if not found.photographs:
        raise ValueError(f"none of the {len(indices)} photos of {photos.key!r} can be read")
    return found.photographs, find_bounds(photos).near if near is None else near
