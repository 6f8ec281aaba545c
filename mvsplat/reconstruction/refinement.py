"""A scene refined on its photographs: what was done, and what came of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.bounds import Bounds
from mvsplat.export.cameras import Cameras
from mvsplat.progress import duration
from mvsplat.reconstruction.cameras.triangulating import triangulate
from mvsplat.reconstruction.frames import UsedPhoto, cameras_of_photos
from mvsplat.reconstruction.scores import compare
from mvsplat.reconstruction.stages import Stages
from mvsplat.reconstruction.unrefined import Unrefined
from mvsplat.refinement.closeness import Anchor
from mvsplat.refinement.judging import ENOUGH_TO_JUDGE, SceneDoesNotFit
from mvsplat.refinement.merging import Merged
from mvsplat.refinement.optimization import Progress, Refined, Settings, optimise, split_off
from mvsplat.refinement.photographs import Photograph
from mvsplat.refinement.starting import MOST, find_start
from mvsplat.types import Gaussians

TITLE, _POINTS, _RACE = "Refining", "Triangulating points", "Choosing a start"
Refine = Literal["auto", "off"] | float
"""Whether to refine: a number of steps that suits the photographs, not at all, or for so many
seconds."""
_SMALLEST = 32


def refinement_settings(
    refine: Refine,
    steps: int | None,
    size: int,
    max_gaussians: int,
    poses: bool,
    exposures: bool,
    seed: int,
) -> Settings | None:
    """What a user's options come to; None is no refinement.

    Raises:
        ValueError: A number is too small, or two options contradict each other.
    """
    is_time = isinstance(refine, (int, float)) and not isinstance(refine, bool) and refine > 0
    if refine not in ("auto", "off") and not is_time:
        raise ValueError(f"refine is {refine!r}; expected auto, off, or a number of seconds")
    if size < _SMALLEST:
        raise ValueError(f"refine_size is {size}; expected {_SMALLEST} pixels or more")
    if steps is not None and (steps < 1 or refine != "auto"):
        found = f"refine_steps is {steps}" + ("" if refine == "auto" else f" and refine {refine}")
        raise ValueError(f"{found}; expected at least 1 step, and refine to be left at auto")
    if max_gaussians < 1:
        raise ValueError(f"max_gaussians is {max_gaussians}; expected at least 1")
    if refine == "off":
        return None
    seconds = None if refine == "auto" else float(refine)
    return Settings(steps, seconds, max_gaussians, poses, exposures, seed)


class CameraChange(NamedTuple):
    """How refinement corrected a photograph's camera.

    Args:
        name: The photograph.
        turn: In degrees.
        shift: In the scene's unit.
    """

    name: str
    turn: float
    shift: float


@dataclass
class Refinement:
    """How a scene was refined.

    Args:
        result: What optimising came to: curve, steps, whether it is better than before, notes.
        start: What it started from, in words.
        cameras: How each photograph's camera was corrected; empty where cameras were left alone.
        seconds: How long it took.
    """

    result: Refined
    start: str
    cameras: list[CameraChange]
    seconds: float

    @property
    def kept(self) -> bool:
        """Whether the refined scene is better than what was there before, and kept."""
        return self.result.kept


def refine_on(
    photos: Sequence[UsedPhoto],
    before: Unrefined,
    bounds: Bounds,
    settings: Settings,
    stages: Stages,
    points: Float[Tensor, "p 3"] | None = None,
) -> Refinement:
    """Refine a scene on photographs, and show how far it is.

    It starts from the scene as it is; or, if a model predicted it from enough photographs, from
    what :func:`~mvsplat.refinement.starting.find_start` finds. The result is kept if it shows
    photographs that it was not optimised on better than the scene before does. Ctrl-C ends it,
    with the best so far; while points are triangulated, it goes on without them.

    Args:
        photos: What to compare with.
        before: The scene before refinement.
        bounds: Nearest and farthest depth.
        settings: How.
        stages: Told about progress.
        points: Sparse points that came with the data; where there are none, pycolmap triangulates
            some if it is installed.

    Raises:
        SceneDoesNotFit: A ValueError: what no model predicted does not belong to the photographs.
    """
    photographs = [photo.photograph for photo in photos]
    shapes = [photograph.shape for photograph in photographs]
    gaussians = before.gaussians_for(max(shapes, key=shapes.count))
    seconds = 0.0
    try:
        start, told = gaussians, before.origin
        if before.model and len(photographs) >= ENOUGH_TO_JUDGE:
            points, of_points = _sparse_points(points, photographs, bounds, settings.seed, stages)
            with stages.stage(_RACE):
                start, told = _best_start(
                    before, gaussians, points, photographs, bounds, settings, stages
                )
            told += of_points
            seconds = stages.seconds[_RACE] + stages.seconds.get(_POINTS, 0.0)
        with stages.stage(TITLE):
            shown = partial(_show, stages, cameras_of_photos(photos, bounds))
            anchor = _anchor(before, photographs) if start is gaussians else None
            near = bounds.near
            result = optimise(start, photographs, near, settings, shown, anchor=anchor)
            if start is not gaussians and not _is_better(result, before, photographs, bounds):
                result = replace(result, kept=False)
    except KeyboardInterrupt:  # before the first step
        result, told = _nothing_done(gaussians, photographs), before.origin
        result.interrupted = True
    except SceneDoesNotFit as error:
        if not before.model:  # a splat and photographs that do not belong together
            raise
        result = _nothing_done(gaussians, photographs)
        result.notes.append(f"Refinement was given up: {error}.")
    changes = [
        change_of_camera(photo, corrected)
        for photo, corrected in zip(photos, result.extrinsics, strict=True)
        if settings.poses and result.kept
    ]
    return Refinement(result, told, changes, seconds + stages.seconds.get(TITLE, 0.0))


def _show(stages: Stages, cameras: Cameras, progress: Progress) -> None:
    psnr = "" if math.isnan(progress.psnr) else f"PSNR {progress.psnr:.2f} dB, "
    left = f"{duration(float(math.ceil(progress.seconds_left)))} left"
    stages.update(TITLE, progress.step, progress.steps, psnr + left)
    if progress.scene is not None:
        stages.preview(progress.scene, cameras)


def _sparse_points(
    points: Float[Tensor, "p 3"] | None,
    photographs: Sequence[Photograph],
    bounds: Bounds,
    seed: int,
    stages: Stages,
) -> tuple[Float[Tensor, "q 3"] | None, str]:
    """Points that came with the data, or what can be triangulated; and what is said of these."""
    if points is not None and len(points):
        return points, ""
    shown = partial(stages.update, _POINTS)
    try:
        with stages.stage(_POINTS):
            found = triangulate(photographs, bounds.near, bounds.far, seed, shown)
    except ModuleNotFoundError:
        return None, "; pycolmap, which would triangulate more points, is not installed"
    except (RuntimeError, OSError) as error:
        return None, f"; no points were triangulated: {error}"
    except KeyboardInterrupt:
        return None, "; triangulating points was interrupted"
    return (found if len(found) else None), f"; {len(found):,} points triangulated by pycolmap"


def _best_start(
    before: Unrefined,
    gaussians: Gaussians,
    points: Float[Tensor, "p 3"] | None,
    photographs: Sequence[Photograph],
    bounds: Bounds,
    settings: Settings,
    stages: Stages,
) -> tuple[Gaussians, str]:
    """What to start from, of a model's Gaussians and measured points; and what is said of it."""
    assert before.photograph is not None and before.confidence is not None
    assert before.pixel is not None
    chosen = find_start(
        photographs,
        bounds.near,
        bounds.far,
        Merged(gaussians, before.photograph, before.confidence, before.pixel),
        before.views,
        points,
        most=min(settings.max_gaussians, MOST),
        seed=settings.seed,
        progress=lambda done, total: stages.update(_RACE, done, total),
    )
    race = ", ".join(f"{name} {psnr:.2f} dB" for name, psnr in chosen.psnr.items())
    told = f"{chosen.name}: {chosen.gaussians.means.shape[1]:,} Gaussians"
    return chosen.gaussians, f"{told} (after a few steps on small pictures: {race})"


def _anchor(before: Unrefined, photographs: Sequence[Photograph]) -> Anchor | None:
    """What a model knew of its Gaussians, which few photographs do not tell."""
    if before.photograph is None or before.confidence is None:
        return None
    centers = torch.stack([photograph.extrinsics[:3, 3] for photograph in photographs])
    return Anchor(before.confidence, centers[before.photograph].float())


def _is_better(
    result: Refined, before: Unrefined, photographs: Sequence[Photograph], bounds: Bounds
) -> bool:
    """Whether the photographs that judged the steps look better than in the scene before."""
    judges = [photographs[place] for place in split_off(len(photographs))]
    found = [p.validation_psnr for p in result.curve if math.isfinite(p.validation_psnr)]
    if not judges or not found:
        return result.kept
    psnr = [compare(before.render(judge, bounds), judge)["psnr"] for judge in judges]
    return result.kept and max(found) > fmean(psnr)


def _nothing_done(gaussians: Gaussians, photographs: Sequence[Photograph]) -> Refined:
    return Refined(
        gaussians,
        torch.stack([photograph.extrinsics for photograph in photographs]),
        torch.tensor([[1.0, 0.0]] * 3).repeat(len(photographs), 1, 1),
        curve=[],
        steps=0,
        best_step=0,
        kept=False,
    )


def change_of_camera(photo: UsedPhoto, corrected: Float[Tensor, "4 4"]) -> CameraChange:
    """How far a corrected camera is from the photograph's."""
    before, after = photo.photograph.extrinsics.double(), corrected.double()
    turn = before[:3, :3].T @ after[:3, :3]
    # Of small turns the sine is exact where the cosine is 1 but for rounding.
    axis = torch.stack([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    angle = math.atan2(float(axis.norm()), float(turn.trace()) - 1)
    shift = float((after[:3, 3] - before[:3, 3]).norm())
    return CameraChange(photo.name, math.degrees(angle), shift)
