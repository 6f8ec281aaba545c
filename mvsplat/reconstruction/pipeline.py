"""From photographs to Gaussians: the steps of ``mvsplat.reconstruct``."""

import tempfile
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from mvsplat.data.bounds import Bounds
from mvsplat.data.scene import Scene
from mvsplat.data.transforms import Shape
from mvsplat.geometry.view_choice import choose_context
from mvsplat.reconstruction.checkpoint import TrainedModel, load_trained
from mvsplat.reconstruction.depth_range import DepthRange, depth_range
from mvsplat.reconstruction.frames import CroppedFrame
from mvsplat.reconstruction.inputs import SceneInput, open_input
from mvsplat.reconstruction.result import Reconstruction
from mvsplat.reconstruction.stages import Stages
from mvsplat.reconstruction.starting import predict

_USUAL_VIEWS = 3
_LOOK_AT_ALL, _SMALL = 3, (16, 16)


def reconstruct(
    photos: Any,
    checkpoint: str | Path = "small",
    views: int | Literal["all"] | None = None,
    size: int | tuple[int, int] | None = None,
    near: float | None = None,
    far: float | None = None,
    scene: str | None = None,
    frames: int = 40,
    held_out: int = 12,
    device: str = "auto",
    seed: int = 0,
    format: str = "auto",
    stages: Stages | None = None,
) -> Reconstruction:
    """Make a 3-D scene from photographs.

    Cameras that come with the photographs are used; without, they are estimated by structure from
    motion, which needs pycolmap (``pip install 'mvsplat[photos]'``).

    Args:
        photos: A folder of photos, a video, data with cameras in any format that is read (a COLMAP
            model, a transforms.json, chunks, exports of capture apps), or a folder of these; from
            Python also a Scene, or a list of paths, PIL pictures or uint8 arrays.
        checkpoint: The network's weights: small, which comes with the package, another name that
            mvsplat weights lists, an address (https://..., hf://owner/repository/file), or a file
            (runs/.../last.ckpt, a released checkpoint).
        views: How many photos to make the scene from, 2 or more, chosen by overlap, baseline and
            coverage; or all; null takes 3, or both of two.
        size: Height and width in pixels to which photos are cropped for the model, one number for
            a square; null takes the size it was trained with.
        near: Nearest depth of the scene, in the unit of the cameras; null estimates it.
        far: Farthest depth; null estimates it.
        scene: Which scene, where the data has several; null takes the first.
        frames: How many frames of a video to look at, evenly spread, the sharpest ones around.
        held_out: How many of the other photos to compare the scene with.
        device: Where to compute: cpu, cuda, or auto.
        seed: Of everything random; the same seed gives the same scene.
        format: What the input is: a reader's name (chunks, transforms, colmap, dtu ...), the
            import path of your own, or photos, which estimates cameras even where there are some;
            auto looks.
        stages: Told about progress, and asked for times afterwards.

    Raises:
        FileNotFoundError: There is no such input or checkpoint.
        ValueError: The input cannot be reconstructed; says why and what to do.
        RuntimeError: Structure from motion failed.

    Example::

        scene = mvsplat.reconstruct("photos", checkpoint="re10k.ckpt")
        scene.save("scene")                         # scene.ply, video.mp4, report.html, ...
        picture = scene.render(scene.cameras.frames[0].extrinsics).color[0, 0]
    """
    stages = stages or Stages()
    if isinstance(views, int) and views < 2:
        raise ValueError(f"views is {views}; at least 2 photos are needed to see depth")
    with stages.stage("Loading the model"):
        model = load_trained(checkpoint, _device(device))
    shape = _shape(size, model)
    work = tempfile.TemporaryDirectory(prefix="mvsplat-reconstruct-")
    try:
        with stages.stage("Opening the input"):
            found = open_input(photos, Path(work.name), scene, frames, seed, stages.update, format)
        with stages.stage("Choosing views"):
            chosen = _choose_readable(found, model, near, far, views, held_out, shape)
        with stages.stage("Predicting Gaussians"):
            gaussians = predict(model, chosen.context, chosen.bounds)
    except BaseException:
        work.cleanup()
        raise
    return Reconstruction(
        gaussians,
        model,
        chosen.source,
        chosen.context,
        chosen.left_out,
        chosen.bounds,
        shape,
        stages,
        work,
    )


class _Chosen(NamedTuple):
    source: SceneInput
    context: list[CroppedFrame]
    left_out: list[int]
    bounds: Bounds


def _choose_readable(
    source: SceneInput,
    model: TrainedModel,
    near: float | None,
    far: float | None,
    views: int | Literal["all"] | None,
    held_out: int,
    shape: Shape,
) -> _Chosen:
    """Bounds, context photographs, read, and others; what cannot be read is dropped, and others
    are chosen.

    Raises:
        ValueError: Fewer than two photographs can be read, or fewer have cameras than asked for.
    """
    for attempt in count():
        if attempt == _LOOK_AT_ALL:  # many are damaged: no more of them one by one
            source.readable(range(len(source.scene)), _SMALL)
            source = source.without_unreadable()
        wanted = views
        if attempt and isinstance(views, int) and views > len(source.scene):
            wanted = len(source.scene)
        depth = depth_range(source.scene, near, far, (model.near, model.far))
        context, left_out = choose_photos(source.scene, depth, wanted, held_out)
        _check_count(len(context), model)
        frames = source.readable(context, shape)
        if len(frames) == len(context):
            break
        source = source.without_unreadable()
    if wanted != views:
        source.notes.append(f"views is {views}, but only {wanted} photos can be used: all are")
    return _Chosen(source, frames, left_out, depth.bounds)


def _check_count(count: int, model: TrainedModel) -> None:
    most = model.encoder.maximum_views
    if most is not None and count > most:
        raise ValueError(f"views is {count}, but this model takes {most} at most")


def choose_photos(
    scene: Scene, depth: DepthRange, views: int | Literal["all"] | None, held_out: int
) -> tuple[list[int], list[int]]:
    """Photographs to make the scene from, and others, evenly spread, to compare it with.

    Raises:
        ValueError: There are fewer photographs than asked for.
    """
    total = len(scene)
    if views is None:
        views = min(_USUAL_VIEWS, total)
    if views == "all":
        return list(range(total)), []
    if views > total:
        raise ValueError(f"views is {views}, but only {total} photos have cameras")
    near, far, _ = depth.bounds
    context = choose_context(
        scene.extrinsics, scene.intrinsics, near, far, views, depth.points
    ).tolist()
    others = [index for index in range(total) if index not in context]
    places = torch.linspace(0, len(others) - 1, min(held_out, len(others))).round().long()
    return context, [others[place] for place in places.tolist()]


def _shape(size: int | tuple[int, int] | None, model: TrainedModel) -> Shape:
    """Height and width for the model.

    Raises:
        ValueError: The model cannot take pictures of that size.
    """
    if size is None:
        return model.image_shape
    shape = (size, size) if isinstance(size, int) else (size[0], size[1])
    divisor = model.encoder.divisor
    if min(shape) < 1 or any(side % divisor for side in shape):
        fitting = [max(1, round(side / divisor)) * divisor for side in shape]
        raise ValueError(
            f"size is {shape[0]} x {shape[1]} pixels; this model takes multiples of {divisor}, "
            f"for instance {fitting[0]} x {fitting[1]}"
        )
    return shape


def _device(name: str) -> torch.device:
    """The device that a user names.

    Raises:
        ValueError: There is none of that name.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used: {first}") from error
