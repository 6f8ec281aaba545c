"""The Gaussians of every predicted scene, as files."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info

from mvsplat.export.files import file_name
from mvsplat.export.ply import save_ply
from mvsplat.types import Batch

FOLDER = "predictions"
"""Name of the folder in a run folder."""


class PredictionWriter(Callback):
    """Writes each scene's Gaussians to ``predictions/<scene>.ply`` in the run folder.

    Args:
        min_opacity: Leave out Gaussians that are less opaque.
    """

    def __init__(self, min_opacity: float = 0.0):
        self.min_opacity = min_opacity

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
        for number, scene in enumerate(batch.scene):
            path = folder / f"{file_name(scene)}.ply"
            save_ply(outputs, path, scene=number, min_opacity=self.min_opacity)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rank_zero_info(f"The scenes' Gaussians are in {Path(trainer.default_root_dir) / FOLDER}")
