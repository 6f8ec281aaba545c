"""Films of an encoded scene: which way the camera goes, and the file it becomes."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mvsplat.decoder import SplattingDecoder
from mvsplat.export.camera_paths import load_camera_path
from mvsplat.export.images import color_depth, depth_bounds
from mvsplat.export.video import render_path, save_video
from mvsplat.files import file_name
from mvsplat.geometry.trajectories import CameraPath, spin, through_cameras, wobble
from mvsplat.types import Gaussians, Views

Film = Literal["interpolation", "wobble", "spin", "file"]
"""The ways a camera can go: through the context views, around the middle between them, around
what they look at, and along a path from a file."""

_LEAST_HEIGHT = 256


@dataclass(frozen=True)
class FilmSettings:
    """How films are made.

    Args:
        frames: Number of frames.
        fps: Frames a second.
        size: Height and width to render at; null renders at the views' size, which the Gaussians
            are made for, and enlarges small pictures by a whole number to 256 rows or more.
        depth: Show depth beside colour.
        wobble_radius: Radius of the wobble, as a share of the largest distance of context cameras.
        spin_degrees: How far a spin goes.
        file: Camera path of the film "file": a cameras.json, or a camera path that Nerfstudio's
            viewer saved. {scene} stands for the scene's name. A file with fewer cameras than
            frames holds key frames, which the path passes through smoothly.
        file_origin: What the file's cameras are relative to: the scene's world, or the first
            context view.
    """

    frames: int = 60
    fps: int = 30
    size: tuple[int, int] | None = None
    depth: bool = False
    wobble_radius: float = 0.25
    spin_degrees: float = 360.0
    file: str | None = None
    file_origin: Literal["world", "first view"] = "world"

    def __post_init__(self) -> None:
        if self.frames < 1 or self.fps < 1:
            raise ValueError(f"frames is {self.frames} and fps {self.fps}; expected at least 1")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ValueError(f"size is {list(self.size)}; expected height and width")


def save_film(
    kind: Film,
    path: str | Path,
    decoder: SplattingDecoder,
    gaussians: Gaussians,
    context: Views,
    scene: int = 0,
    name: str = "",
    settings: FilmSettings = FilmSettings(),  # noqa: B008 (immutable)
    track: Callable[[Iterable[Tensor], int], Iterable[Tensor]] | None = None,
) -> int:
    """Film one scene of a batch as H.264 in MP4; returns the number of frames.

    Args:
        kind: Which way the camera goes.
        path: The file to write, which ends in ``.mp4``.
        decoder: Renders the Gaussians.
        gaussians: A batch of scenes.
        context: The views they were encoded from.
        scene: Which scene of the batch.
        name: The scene's name, for ``{scene}`` in the name of a camera path's file.
        settings: Length, size and details of the ways.
        track: Gets the frames and their number and hands them on, to show progress.

    Raises:
        FileNotFoundError: There is no such camera path.
        ValueError: The camera path's file is unusable, or none was named.
    """
    way = film_path(kind, gaussians, context, scene, name, settings)
    size = settings.size or (context.image.shape[-2], context.image.shape[-1])
    near, far = float(context.near[scene].min()), float(context.far[scene].max())
    rendered = render_path(decoder, gaussians, way, size, near, far, scene)
    bounds = _depth_bounds(gaussians, context, scene)
    factor = math.ceil(_LEAST_HEIGHT / size[0]) if settings.size is None else 1

    def frames() -> Iterator[Tensor]:
        for frame in rendered:
            depth = [color_depth(frame.depth, bounds)] if settings.depth else []
            yield _enlarge(torch.cat([frame.color.clamp(0, 1), *depth], dim=-1), factor)

    return save_video(track(frames(), len(way)) if track else frames(), path, settings.fps)


def film_path(
    kind: Film,
    gaussians: Gaussians,
    context: Views,
    scene: int = 0,
    name: str = "",
    settings: FilmSettings = FilmSettings(),  # noqa: B008 (immutable)
) -> CameraPath:
    """The cameras of a film; arguments as in :func:`save_film`."""
    poses, lenses = context.extrinsics[scene].cpu(), context.intrinsics[scene].cpu()
    if kind == "interpolation":
        return through_cameras(poses, lenses, settings.frames, ease=True)
    if kind == "file":
        return _path_of_file(poses, lenses, name, settings)
    middle = through_cameras(poses, lenses, 3)[1:2]
    pose, lens = middle.extrinsics[0], middle.intrinsics[0]
    focus = _focus(gaussians, scene, pose)
    if kind == "spin":
        pivot = pose[:3, 3] + focus * pose[:3, 2]
        return spin(pose, lens, settings.frames, pivot, degrees=settings.spin_degrees)
    baseline = float(torch.cdist(poses[:, :3, 3], poses[:, :3, 3]).max())
    # A single camera, or several in one place, wobble by a fiftieth of the scene's depth.
    radius = settings.wobble_radius * (baseline or 0.08 * focus)
    return wobble(pose, lens, settings.frames, radius, focus)


def _path_of_file(poses: Tensor, lenses: Tensor, name: str, settings: FilmSettings) -> CameraPath:
    if settings.file is None:
        raise ValueError("the film 'file' needs the file of a camera path; none was named")
    path = load_camera_path(settings.file.replace("{scene}", file_name(name)))
    if len(path) < settings.frames:
        path = through_cameras(path.extrinsics, path.intrinsics, settings.frames)
    origin = poses[0] if settings.file_origin == "first view" else torch.eye(4)
    return CameraPath(origin @ path.extrinsics, path.intrinsics)


def _focus(gaussians: Gaussians, scene: int, pose: Tensor) -> float:
    """How far ahead of a camera the middle of what it sees is."""
    seen = gaussians.means[scene][gaussians.opacities[scene] > 0.05].detach().cpu().float()
    depth = (seen - pose[:3, 3]) @ pose[:3, 2]
    ahead = depth[depth > 0]
    return float(ahead.median()) if len(ahead) else 1.0


def _enlarge(image: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return image
    larger = F.interpolate(image[None], scale_factor=factor, mode="bicubic", align_corners=False)
    return larger[0].clamp(0, 1)


def _depth_bounds(gaussians: Gaussians, context: Views, scene: int) -> tuple[float, float]:
    if gaussians.estimate is not None:
        return depth_bounds(gaussians.estimate.depth[scene].detach())
    return float(context.near[scene].min()), float(context.far[scene].max())
