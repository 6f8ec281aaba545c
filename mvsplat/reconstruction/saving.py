"""Writing a reconstruction's files: the splat first, the report last."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from torch import Tensor

from mvsplat.evaluation.photo_scores import PhotoScores, save_photo_scores
from mvsplat.export.cameras import save_cameras
from mvsplat.export.depth import depth_unit, save_depth_png
from mvsplat.export.images import color_depth, save_png, to_pil
from mvsplat.export.splat_registry import writing
from mvsplat.export.splats import save_splat
from mvsplat.export.video import render_path, save_video
from mvsplat.files import file_name, replacing
from mvsplat.reconstruction import output as names
from mvsplat.reconstruction.cameras.colmap_export import export_colmap
from mvsplat.reconstruction.frames import UsedPhoto, spread
from mvsplat.reconstruction.output import OutputFolder
from mvsplat.reconstruction.reconstructed import ReconstructedScene
from mvsplat.reconstruction.report.page import report
from mvsplat.reconstruction.scores import Score

MOST_DEPTH_MAPS = 100
_FPS = 30
_PHOTOS, _DEPTH, _FILM = "Writing photos", "Writing depth maps", "Rendering the video"


def save(scene: ReconstructedScene, output: OutputFolder) -> Path:
    """Write everything.

    Raises:
        OSError: Something cannot be written; says what has been.
    """
    written: list[str] = []
    try:
        with scene.stages.stage("Writing the splat"):
            output.begin()
            save_splat(scene.gaussians_for(), output.path / output.splat)
            written.append(output.splat)
            output.remove_earlier()
        with scene.stages.stage("Comparing with photos"):
            scene.scores, scene.warnings  # noqa: B018 -- computed once, here
        for title, write in (
            (_PHOTOS, _photos),
            ("Writing scores", _scores),
            (_DEPTH, _depth_maps),
            (_FILM, _video),
            ("Writing the report", partial(_report, splat=output.splat)),
        ):
            with scene.stages.stage(title):
                write(scene, output.path)
                written.append(title)
    except OSError as error:
        if not written:
            output.give_up()
            raise OSError(f"nothing could be written to {output.path}: {error}") from error
        raise OSError(
            f"{output.path} could not be completed: {error}\n"
            f"{output.splat} is written; {names.MARKER} marks the folder as incomplete."
        ) from error
    output.finish()
    return output.path


def save_file(scene: ReconstructedScene, target: Path, cameras: Path) -> None:
    """Write nothing but the splat, and its cameras beside it if its format does not hold them."""
    if not writing(target).format.takes("cameras"):
        with scene.stages.stage("Writing the splat"):
            save_splat(scene.gaussians_for(), target)
            save_cameras(scene.cameras, cameras)
        return
    with TemporaryDirectory() as folder:
        listed = scene.cameras_with(_photo_files(scene, Path(folder)))
        with scene.stages.stage("Writing the splat"):
            save_splat(scene.gaussians_for(), target, cameras=listed)


def picture_name(photo: UsedPhoto, suffix: str) -> str:
    """The file name of a photograph's picture or depth map: its number keeps it unique."""
    return f"{photo.index:04d}_{file_name(Path(photo.name).stem)}{suffix}"


def _photos(scene: ReconstructedScene, folder: Path) -> None:
    """The photos, masks of what does not count in them, the cameras beside the splat, and a COLMAP
    model if we made it."""
    files = _photo_files(scene, folder / names.PHOTOS)
    _masks(scene, folder / names.MASKS, files)
    save_cameras(scene.cameras_with(files), folder / names.CAMERAS)
    if scene.source.estimate is not None:
        target = folder / names.COLMAP
        export_colmap(scene.source.estimate.folder, target, _corrected(scene))


def _photo_files(scene: ReconstructedScene, folder: Path) -> dict[int, Path]:
    """Write the photos to a folder; gives their files by frame number."""
    files = {}
    photos = [*scene.context, *scene.left_out]
    for done, photo in enumerate(photos, start=1):
        files[photo.index] = folder / picture_name(photo, ".jpg")
        with replacing(files[photo.index]) as temporary:
            to_pil(photo.pixels / 255).save(temporary, "JPEG", quality=95, subsampling=0)
        scene.stages.update(_PHOTOS, done, len(photos))
    return files


def _masks(scene: ReconstructedScene, folder: Path, files: dict[int, Path]) -> None:
    """Write the masks of photos, named as readers look for them, white where pixels count."""
    for photo in [*scene.context, *scene.left_out]:
        mask = photo.photograph.mask
        if mask is not None:
            with replacing(folder / f"{files[photo.index].name}.png") as temporary:
                Image.fromarray(mask.numpy().astype(np.uint8) * 255).save(temporary, "PNG")


def _corrected(scene: ReconstructedScene) -> dict[str, Tensor]:
    """Camera-to-world matrices that refinement corrected, by the image's name in its data set."""
    if not scene.is_refined or scene.refinement is None or not scene.refinement.cameras:
        return {}
    files = scene.source.scene.frame_names
    assert files is not None, "a COLMAP model names its images"
    return {files[photo.index]: photo.photograph.extrinsics for photo in scene.context}


def _scores(scene: ReconstructedScene, folder: Path) -> None:
    before, after = (
        None if scores is None else {score.frame.name: _entry(score) for score in scores}
        for scores in (scene.scores.before, scene.scores.after)
    )
    save_photo_scores(before or {}, after, scene.scores.kept, folder / names.SCORES)


def _entry(score: Score) -> PhotoScores:
    height, width = score.frame.photograph.shape
    return PhotoScores(score.values, width, height)


def _depth_maps(scene: ReconstructedScene, folder: Path) -> None:
    """Of each photograph a 16-bit PNG to measure in and a coloured one to look at."""
    unit = depth_unit(scene.bounds.far)
    photos = spread(scene.context, MOST_DEPTH_MAPS)
    for done, photo in enumerate(photos, start=1):
        depth = scene.depth_of(photo, photo.shown_shape)
        save_depth_png(depth, folder / names.DEPTH / picture_name(photo, ".png"), unit)
        colored = color_depth(depth, (scene.bounds.near, scene.bounds.far))
        save_png(colored, folder / names.DEPTH / picture_name(photo, "_color.png"))
        scene.stages.update(_DEPTH, done, len(photos))


def _video(scene: ReconstructedScene, folder: Path) -> None:
    save_video(_film(scene), folder / names.VIDEO, _FPS)


def _film(scene: ReconstructedScene) -> Iterator[Image.Image]:
    """Frames there and back; those of the way back are those of the way there."""
    path, size = scene.path(), scene.picture_size
    there = len(path) // 2 + 1
    near, far, _ = scene.bounds
    frames = []
    gaussians = scene.gaussians_for(size)
    for frame in render_path(scene.decoder, gaussians, path[:there], size, near, far, chunk=1):
        frames.append(to_pil(frame.color.clamp(0, 1)))
        scene.stages.update(_FILM, len(frames), there)
        yield frames[-1]
    yield from frames[-2:0:-1]


def _report(scene: ReconstructedScene, folder: Path, splat: str) -> None:
    with replacing(folder / names.REPORT) as temporary:
        temporary.write_text(report(scene, folder / splat), encoding="utf-8")
