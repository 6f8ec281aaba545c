"""From photographs to Gaussians: the steps of ``mvsplat.reconstruct``."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mvsplat.data.bounds import with_given
from mvsplat.data.transforms import Shape
from mvsplat.decoder import SplattingDecoder
from mvsplat.reconstruction.checkpoint import (
    Precision,
    TrainedDepth,
    TrainedModel,
    device_named,
    load_trained,
    load_trained_depth,
    precision_named,
)
from mvsplat.reconstruction.choosing import ChosenPhotos, HeldOut, WantedDepth, choose_readable
from mvsplat.reconstruction.depth_range import DepthRange
from mvsplat.reconstruction.depth_weights import bounds_of_photos
from mvsplat.reconstruction.frames import CroppedFrame, UsedPhoto
from mvsplat.reconstruction.inputs import open_input
from mvsplat.reconstruction.refinement import Refine, refine_on, refinement_settings
from mvsplat.reconstruction.result import Reconstruction
from mvsplat.reconstruction.stages import Stages
from mvsplat.reconstruction.starting import PredictedScene, predict_all, whole_shape
from mvsplat.reconstruction.unrefined import Unrefined
from mvsplat.refinement.covering import cameras_between, covered
from mvsplat.refinement.optimization import Settings
from mvsplat.refinement.photographs import DEFAULT_SIZE
from mvsplat.refinement.starting import NETWORK

PREDICTING = "Predicting Gaussians"
COVERING = "Closing gaps"
LOOKING = "Estimating depth"


def reconstruct(
    photos: Any,
    checkpoint: str | Path = "small",
    views: int | None = None,
    size: int | tuple[int, int] | None = None,
    near: float | None = None,
    far: float | None = None,
    scene: str | None = None,
    frames: int = 40,
    max_photos: int | None = None,
    held_out: HeldOut = "auto",
    refine: Refine = "auto",
    refine_steps: int | None = None,
    refine_size: int = DEFAULT_SIZE,
    max_gaussians: int = Settings.max_gaussians,
    refine_poses: bool = True,
    refine_exposures: bool = True,
    device: str = "auto",
    precision: Precision = "auto",
    seed: int = 0,
    format: str = "auto",
    depth_weights: str | Path | None = None,
    stages: Stages | None = None,
) -> Reconstruction:
    """Make a 3-D scene from photographs.

    Cameras that come with the photographs are used; without, they are estimated by structure from
    motion, which needs pycolmap (``pip install 'mvsplat[photos]'``). The network predicts the scene
    from all photographs, some neighbours at a time; then it is refined on them.

    Args:
        photos: A folder of photos, a video, data with cameras in any format that is read (a COLMAP
            model, a transforms.json, chunks, exports of capture apps), or a folder of these; from
            Python also a Scene, or a list of paths, PIL pictures or uint8 arrays. Pixels do not
            count that are transparent, or black in masks/NAME.png in or beside the photos' folder.
        checkpoint: The network's weights: small, which comes with the package, another name that
            mvsplat weights lists, an address (https://..., hf://owner/repository/file), or a file
            (runs/.../last.ckpt, a released checkpoint).
        views: How many photos the network sees at once, 2 or more; null takes what it was trained
            with.
        size: Height and width in pixels to which photos are cropped for the network, one number for
            a square; null takes the size it was trained with, lengthened to the photos' own shape.
        near: Nearest depth of the scene, in the unit of the cameras; null takes the data's, or
            estimates it.
        far: Farthest depth; null estimates it.
        scene: Which scene, where the data has several; null takes the first.
        frames: How many frames of a video to look at, evenly spread, the sharpest ones around.
        max_photos: Make the scene from so many photos only, chosen by overlap, baseline and
            coverage; null takes all that are not held out.
        held_out: Photos that the scene is compared with and never made from: how many, evenly
            spread, or a list of their names; auto takes every 8th one (the 4th, the 12th ...), at
            most 12, and none of fewer than 6 photos; 0 uses every photo for the scene.
        refine: Optimise the scene on the photos: auto (a number of steps that suits them, about a
            minute on two cores), off, or for so many seconds.
        refine_steps: Optimise by so many steps instead.
        refine_size: Longer side in pixels of the photos that the scene is optimised on and compared
            with; smaller ones are never enlarged.
        max_gaussians: Optimising adds Gaussians up to this number.
        refine_poses: Correct the cameras while optimising.
        refine_exposures: Allow for each photo's exposure while optimising.
        device: Where to compute: cpu, cuda, or auto.
        precision: How the network computes: in float32 (32), in bf16, or auto, which is bf16 on
            processors that are faster in it (a trial of some milliseconds tells), else float32.
        seed: Of everything random; the same seed gives the same scene, unless refine is a time.
        format: What the input is: a reader's name (chunks, transforms, colmap, dtu ...), the
            import path of your own, or photos, which estimates cameras even where there are some;
            auto looks.
        depth_weights: A model of depth that near and far are estimated with, instead: named as
            checkpoint is, a file of DepthSplat (depthsplat-depth-small). It also replaces what the
            data says of them.
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
    if views is not None and views < 2:
        raise ValueError(f"views is {views}; at least 2 photos are needed to see depth")
    if max_photos is not None and max_photos < 2:
        raise ValueError(f"photos is {max_photos}; at least 2 are needed to see depth")
    settings = refinement_settings(
        refine, refine_steps, refine_size, max_gaussians, refine_poses, refine_exposures, seed
    )
    with stages.stage("Loading the model"):
        model = load_trained(checkpoint, device_named(device))
        model.precision = precision_named(precision, model.device)
        depth = None
        if depth_weights is not None:
            depth = load_trained_depth(depth_weights, device_named(device))
    most = model.encoder.maximum_views
    if views is not None and most is not None and views > most:
        raise ValueError(f"views is {views}, but this model takes {most} at most")
    given_shape = None if size is None else _given_shape(size, model)
    work = tempfile.TemporaryDirectory(prefix="mvsplat-reconstruct-")
    try:
        with stages.stage("Opening the input"):
            found = open_input(photos, Path(work.name), scene, frames, seed, stages.update, format)
        wanted = WantedDepth(near, far, (model.near, model.far))
        with stages.stage("Choosing photos"):
            chosen = choose_readable(found, wanted, max_photos, held_out, refine_size, stages)
        if depth is not None and None in (near, far):
            with stages.stage(LOOKING), model.in_precision():
                chosen = _with_bounds_of(depth, chosen, wanted, stages)
        shape = given_shape or _whole_frames(chosen.used, model)
        with stages.stage(PREDICTING):
            crops = [photo.crop(shape) for photo in chosen.used]
            predicted = predict_all(
                model,
                crops,
                chosen.depth.bounds,
                views,
                chosen.depth.points,
                lambda done, total: stages.update(PREDICTING, done, total),
            )
        if model.filling is not None:
            with stages.stage(COVERING):
                predicted = _covered(
                    model.filling, predicted, crops, chosen.depth.bounds.near, seed, stages
                )
        before = _unrefined(model, predicted, shape)
        refinement = None
        if settings is not None:
            bounds, points = chosen.depth.bounds, chosen.source.scene.points
            refinement = refine_on(chosen.used, before, bounds, settings, stages, points)
    except BaseException:
        work.cleanup()
        raise
    return Reconstruction(
        before,
        chosen.source,
        chosen.used,
        chosen.held_out,
        chosen.depth.bounds,
        stages,
        refinement,
        work,
    )


def _with_bounds_of(
    depth: TrainedDepth, chosen: ChosenPhotos, wanted: WantedDepth, stages: Stages
) -> ChosenPhotos:
    """The photographs with the bounds that a model of depth finds, but for those that are given."""
    bounds = bounds_of_photos(
        depth,
        chosen.used,
        chosen.depth,
        lambda done, total: stages.update(LOOKING, done, total),
    )
    bounds = with_given(bounds, wanted.near, wanted.far, chosen.source.scene.key)
    return chosen._replace(depth=DepthRange(bounds, chosen.depth.points))


def _covered(
    filling: SplattingDecoder,
    predicted: PredictedScene,
    frames: list[CroppedFrame],
    near: float,
    seed: int,
    stages: Stages,
) -> PredictedScene:
    """The scene with Gaussians that show without filling what the model's own decoder shows."""
    extrinsics = torch.stack([frame.extrinsics for frame in frames])
    intrinsics = torch.stack([frame.intrinsics for frame in frames])
    gaussians = covered(
        predicted.gaussians,
        filling,
        cameras_between(extrinsics, intrinsics, predicted.pairs),
        predicted.pixel,
        near,
        (frames[0].pixels.shape[-2], frames[0].pixels.shape[-1]),
        all(frame.mask is None for frame in frames),
        seed,
        lambda done, total: stages.update(COVERING, done, total),
    )
    return replace(predicted, gaussians=gaussians)


def _unrefined(model: TrainedModel, predicted: PredictedScene, shape: Shape) -> Unrefined:
    """What the network says of all photographs."""
    return Unrefined(
        predicted.gaussians,
        model.decoder,
        NETWORK,
        _in_words(model),
        shape,
        predicted.pixel,
        predicted.photograph,
        predicted.confidence,
        predicted.views,
        (len(predicted.groups), max(len(group.members) for group in predicted.groups)),
    )


def _in_words(model: TrainedModel) -> str:
    text = f"{model.name}: {model.good_for}" if model.good_for else model.name
    return text if model.precision == "32" else f"{text}, computed in {model.precision}"


def _given_shape(size: int | tuple[int, int], model: TrainedModel) -> Shape:
    """Height and width for the model, as a user says.

    Raises:
        ValueError: The model cannot take pictures of that size.
    """
    shape = (size, size) if isinstance(size, int) else (size[0], size[1])
    divisor = model.encoder.divisor
    if min(shape) < 1 or any(side % divisor for side in shape):
        fitting = [max(1, round(side / divisor)) * divisor for side in shape]
        raise ValueError(
            f"size is {shape[0]} x {shape[1]} pixels; this model takes multiples of {divisor}, "
            f"for instance {fitting[0]} x {fitting[1]}"
        )
    return shape


def _whole_frames(photos: list[UsedPhoto], model: TrainedModel) -> Shape:
    """The size the model was trained with, lengthened to show nearly whole frames.

    Photographs of other shapes than most of them are cropped to this one.
    """
    shapes = [photo.photograph.shape for photo in photos]
    usual = max(shapes, key=shapes.count)
    return whole_shape(model.image_shape, usual, model.encoder.divisor)
