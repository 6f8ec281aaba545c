"""Writing a reconstruction's files: the splat first, the report last."""

import shutil
from pathlib import Path

from mvsplat.export.cameras import save_cameras
from mvsplat.export.depth import depth_unit, save_depth_png
from mvsplat.export.images import color_depth, save_png
from mvsplat.export.ply import save_ply
from mvsplat.export.video import render_path, save_video
from mvsplat.files import file_name, replacing
from mvsplat.reconstruction import output as names
from mvsplat.reconstruction.frames import CroppedFrame, shown_shape
from mvsplat.reconstruction.output import OutputFolder
from mvsplat.reconstruction.reconstructed import ReconstructedScene
from mvsplat.reconstruction.report.page import report

_FPS = 30
_COLMAP_FILES = ("cameras", "images", "points3D", "rigs", "frames")


def save(scene: ReconstructedScene, output: OutputFolder) -> Path:
    """Write everything.

    Raises:
        OSError: Something cannot be written; says what has been.
    """
    written: list[str] = []
    try:
        with scene.stages.stage("Writing the splat"):
            output.begin()
            save_ply(scene.gaussians_for(), output.path / names.SPLAT)
            written.append(names.SPLAT)
            output.remove_earlier()
        with scene.stages.stage("Comparing with photos"):
            scene.scores, scene.warnings  # noqa: B018 -- computed once, here
        for title, write in (
            ("Writing photos", _photos),
            ("Writing depth maps", _depth_maps),
            ("Rendering the video", _video),
            ("Writing the report", _report),
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
            f"{names.SPLAT} is written; {names.MARKER} marks the folder as incomplete."
        ) from error
    output.finish()
    return output.path


def picture_name(frame: CroppedFrame, suffix: str) -> str:
    """The file name of a photograph's picture or depth map: its number keeps it unique."""
    return f"{frame.index:04d}_{file_name(Path(frame.name).stem)}{suffix}"


def _photos(scene: ReconstructedScene, folder: Path) -> None:
    """The crops that were used, the cameras beside the splat, and a COLMAP model if we made it."""
    files = {}
    for frame in [*scene.context, *scene.left_out]:
        files[frame.index] = folder / names.PHOTOS / picture_name(frame, ".png")
        save_png(frame.shown.float() / 255, files[frame.index])
    save_cameras(scene.cameras_with(files), folder / names.CAMERAS)
    if scene.source.estimate is not None:
        _colmap(scene.source.estimate.folder, folder / names.COLMAP)


def _colmap(source: Path, target: Path) -> None:
    """The estimated cameras as a COLMAP data set, which every command takes as input."""
    for file in [*sorted((source / "images").iterdir()), *sorted((source / "sparse/0").iterdir())]:
        with replacing(target / file.relative_to(source)) as temporary:
            shutil.copyfile(file, temporary)


def _depth_maps(scene: ReconstructedScene, folder: Path) -> None:
    """Of each context photograph a 16-bit PNG to measure in and a coloured one to look at."""
    if scene.depth is None:
        return
    unit = depth_unit(scene.bounds.far)
    for frame, depth in zip(scene.context, scene.depth, strict=True):
        save_depth_png(depth, folder / names.DEPTH / picture_name(frame, ".png"), unit)
        colored = color_depth(depth, (scene.bounds.near, scene.bounds.far))
        save_png(colored, folder / names.DEPTH / picture_name(frame, "_color.png"))


def _video(scene: ReconstructedScene, folder: Path) -> None:
    path, size = scene.path(), shown_shape(scene.shape)

    def frames():
        rendered = render_path(
            scene.model.decoder,
            scene.gaussians_for(size),
            path,
            size,
            scene.bounds.near,
            scene.bounds.far,
        )
        for done, frame in enumerate(rendered, start=1):
            scene.stages.update("Rendering the video", done, len(path))
            yield frame.color

    save_video(frames(), folder / names.VIDEO, _FPS)


def _report(scene: ReconstructedScene, folder: Path) -> None:
    with replacing(folder / names.REPORT) as temporary:
        temporary.write_text(report(scene, folder), encoding="utf-8")
