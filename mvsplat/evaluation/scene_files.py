"""The files that a scene's views become: pictures, depth maps, error maps, sheets."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from torch import Tensor

from mvsplat.evaluation.overview import depth_range, scene_rows
from mvsplat.evaluation.scoring import frame_numbers
from mvsplat.export.depth import depth_unit, save_depth_npy, save_depth_png
from mvsplat.export.images import color_depth, color_error, save_png, sheet
from mvsplat.files import file_name
from mvsplat.types import Batch, Gaussians, Rendering

Depth = Literal["png", "npy", "color"]
"""16-bit PNG in a unit that the file states, exact float32 array, PNG in colours."""
Picture = Literal["sheets", "images", "errors", "depth_png", "depth_npy", "depth_color"]
"""Everything of a scene side by side; renderings and target views; their differences; depth."""

_DEPTHS: dict[Picture, Depth] = {"depth_png": "png", "depth_npy": "npy", "depth_color": "color"}


def save_pictures(
    folder: Path,
    kinds: Collection[Picture],
    batch: Batch,
    scene: int,
    gaussians: Gaussians,
    rendering: Rendering,
    name: str,
) -> dict[str, str]:
    """Write a test scene's pictures; returns where they are, relative to ``folder``.

    Args:
        folder: Gets ``sheets/<scene>.png`` and ``images/<scene>/<frame>*``.
        kinds: Which pictures to write.
        batch: The scenes.
        scene: Which of them.
        gaussians: What the model made of them.
        rendering: Its target views.
        name: The scene's name.
    """
    written, stem = {}, file_name(name)
    if "sheets" in kinds:
        written["sheet"] = f"sheets/{stem}.png"
        rows = scene_rows(batch, scene, gaussians, rendering)
        save_png(sheet(rows), folder / written["sheet"])
    if set(kinds) - {"sheets"}:
        written["images"] = f"images/{stem}"
    bounds = depth_range(batch, scene, gaussians, rendering)
    for view, frame in enumerate(frame_numbers(batch.target, scene)):
        path = folder / "images" / stem / f"{frame:06d}"
        color, truth = rendering.color[scene, view], batch.target.image[scene, view]
        if "images" in kinds:
            save_png(color, path.with_suffix(".png"))
            save_png(truth, path.with_name(f"{path.name}_target.png"))
        if "errors" in kinds:
            save_png(color_error(color.float(), truth), path.with_name(f"{path.name}_error.png"))
        far = float(batch.context.far[scene].max())
        depths = [depth for picture, depth in _DEPTHS.items() if picture in kinds]
        save_depth(rendering.depth[scene, view], path, depths, bounds, far)
    return written


def save_depth(
    depth: Tensor, path: Path, kinds: Collection[Depth], bounds: tuple[float, float], far: float
) -> None:
    """Write a depth map as ``<path>_depth.png``, ``_depth.npy`` and ``_depth_color.png``.

    Args:
        depth: Depths [h, w].
        path: The files' names without their endings.
        kinds: Which files.
        bounds: Depths with the colours at the ends of the colour map.
        far: The PNG's unit is such that it reaches at least so far.
    """
    if "png" in kinds:
        save_depth_png(depth, path.with_name(f"{path.name}_depth.png"), depth_unit(far))
    if "npy" in kinds:
        save_depth_npy(depth, path.with_name(f"{path.name}_depth.npy"))
    if "color" in kinds:
        save_png(color_depth(depth, bounds), path.with_name(f"{path.name}_depth_color.png"))
