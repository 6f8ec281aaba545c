"""What ``predict`` leaves behind: each scene's Gaussians, film and depth maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from mvsplat.evaluation.scene_files import Depth, save_depth
from mvsplat.evaluation.scoring import frame_numbers
from mvsplat.export.cameras import Cameras, Frame, save_cameras
from mvsplat.export.films import Film, FilmSettings, save_film
from mvsplat.export.images import depth_bounds, save_png
from mvsplat.export.splat_registry import writing
from mvsplat.export.splats import save_splat
from mvsplat.export.video import render_path
from mvsplat.files import file_name
from mvsplat.geometry.trajectories import CameraPath
from mvsplat.progress import tracker
from mvsplat.types import Batch, DepthEstimate, Gaussians, Views

FOLDER = "predictions"
"""Name of the folder in a run folder."""


class PredictionWriter(Callback):
    """Writes each scene's Gaussians, a film and depth maps to ``predictions`` in the run folder.

    ``<scene>.ply`` (or another format) has the Gaussians and ``<scene>.cameras.json`` the context
    views' cameras, for ``mvsplat view``; ``<scene>_interpolation.mp4`` is the film along the path
    between the context views, and the folder ``<scene>`` has these views and their depth. Of
    weights of depth alone, there is only that folder.

    Args:
        splats: Write the Gaussians.
        min_opacity: Leave out Gaussians that are less opaque.
        views: Write the context views, which ``mvsplat view`` shows beside the Gaussians.
        depth: Depth of the context views: "png" (16 bits in a unit that the file states), "npy"
            (exact) and "color"; an empty list leaves it out.
        films: Which: "interpolation" (from the first context view through all of them), "wobble",
            "spin", "file" (along the camera path that film.file names); an empty list for none.
        film: How films are made.
        format: Suffix of the Gaussians' files, which chooses the format: .ply, .compressed.ply,
            .splat, .spz, .sog, .glb, .gltf, .html (a page that shows the scene), or one that
            another package brings (entry points of the group mvsplat.splat_formats).
    """

    def __init__(
        self,
        splats: bool = True,
        min_opacity: float = 0.0,
        views: bool = True,
        depth: Sequence[Depth] = ("png", "color"),
        films: Sequence[Film] = ("interpolation",),
        film: FilmSettings = FilmSettings(),  # noqa: B008 (immutable)
        format: str = ".ply",
    ):
        self.splats = splats
        self.format = f".{format.lstrip('.')}"
        self.min_opacity = min_opacity
        self.views = views
        self.depth = tuple(depth)
        self.films = tuple(films)
        self.film = film
        writing(f"scene{self.format}")
        if "file" in films and film.file is None:
            raise ValueError('films has "file": name the camera path with film.file')

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        if stage == "predict" and self.films:
            pl_module.decoder.prepare(trainer.strategy.root_device)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        folder = Path(trainer.default_root_dir) / FOLDER
        depth_alone = isinstance(outputs, DepthEstimate)
        for number, scene in enumerate(batch.scene):
            stem = file_name(scene)
            cameras = self._save_views(folder, stem, batch.context, number)
            if depth_alone:
                self._save_depth(folder / stem, outputs.depth[number], batch.context, number)
                continue
            if self.splats:
                path = folder / f"{stem}{self.format}"
                save_splat(outputs, path, number, self.min_opacity, cameras=cameras)
                save_cameras(cameras, folder / f"{stem}.cameras.json")
            if self.depth:
                depths = _context_depth(pl_module, outputs, batch.context, number)
                self._save_depth(folder / stem, depths, batch.context, number)
            for kind in self.films:
                path = folder / f"{stem}_{kind}.mp4"
                decoder: Any = pl_module.decoder
                arguments = (decoder, outputs, batch.context, number, scene, self.film)
                save_film(kind, path, *arguments, tracker(trainer, f"{scene}: {kind}"))

    def on_predict_start(self, trainer: Trainer, pl_module: Any) -> None:
        weights = getattr(pl_module, "depth_weights", None)
        if weights is not None and (self.splats or self.films):
            rank_zero_info(f"{weights} holds depth alone: no Gaussians are written, and no films.")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rank_zero_info(f"The scenes are in {Path(trainer.default_root_dir) / FOLDER}")

    def _save_views(self, folder: Path, stem: str, context: Views, scene: int) -> Cameras:
        """The context views' cameras, and their pictures as files."""
        height, width = context.image.shape[-2:]
        frames = []
        for view, number in enumerate(frame_numbers(context, scene)):
            image = folder / stem / f"{number:06d}.png"
            if self.views:
                save_png(context.image[scene, view], image)
            cameras = (context.extrinsics[scene, view], context.intrinsics[scene, view])
            photo = image if self.views else None
            frames.append(Frame(f"frame {number}", *cameras, width, height, photo))
        near, far = float(context.near[scene].min()), float(context.far[scene].max())
        return Cameras(frames, near, far)

    def _save_depth(
        self, folder: Path, depths: Float[Tensor, "v h w"], context: Views, scene: int
    ) -> None:
        depths = depths.detach().float()
        bounds, far = depth_bounds(depths), float(context.far[scene].max())
        for depth, number in zip(depths, frame_numbers(context, scene), strict=True):
            save_depth(depth, folder / f"{number:06d}", self.depth, bounds, far)


def _context_depth(model: Any, gaussians: Gaussians, context: Views, scene: int) -> Tensor:
    """Depth of the context views [v, h, w]: as estimated, or else as rendered."""
    if gaussians.estimate is not None:
        return gaussians.estimate.depth[scene]
    path = CameraPath(context.extrinsics[scene], context.intrinsics[scene])
    size = (context.image.shape[-2], context.image.shape[-1])
    near, far = float(context.near[scene].min()), float(context.far[scene].max())
    frames = render_path(model.decoder, gaussians, path, size, near, far, scene)
    return torch.stack([frame.depth for frame in frames])
