"""What ``test`` leaves behind: a table, scores of every view, pictures of the scenes."""

import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import distributed, nn

from mvsplat import __version__, evaluation
from mvsplat.callbacks.pictures import scene_rows
from mvsplat.callbacks.stopwatch import Stopwatch
from mvsplat.evaluation import Prediction, Result
from mvsplat.export.files import file_name
from mvsplat.export.images import save_png, sheet
from mvsplat.types import Batch


class TestResults(Callback):
    """Prints a table and writes ``scores.json``, ``scores.csv`` and ``images`` to the run folder.

    Scores are PSNR, SSIM and LPIPS of the target views, and the relative error (AbsRel) of the
    context views' depth where the data has exact depth. Each scene's views are averaged first,
    then the scenes.

    Args:
        baselines: Also score the nearest context view copied, the mean colour, the context views
            on a plane at the scene's median depth, and the model with its cost volume zeroed.
        lpips: Network of the LPIPS score: "vgg", as published, or "alex"; null leaves it out.
        lpips_weights: File with that network's weights; by default PyTorch's hub cache, and a
            download into it.
        images: Scenes (of each process) to make a picture of; -1 for all.
        folder: Where in the run folder the results go; name another one for another data set.
    """

    __test__ = False  # no test class, whatever pytest thinks

    def __init__(
        self,
        baselines: bool = True,
        lpips: Literal["vgg", "alex"] | None = None,
        lpips_weights: str | None = None,
        images: int = 100,
        folder: str = "test",
    ):
        self.baselines = baselines
        self.lpips = lpips
        self.lpips_weights = lpips_weights
        self.images = images
        self.folder = folder
        self._results: list[Result] = []
        self._stopwatches: dict[str, Stopwatch] = {}
        self._distance: nn.Module | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._results = []
        self._stopwatches = {
            name: Stopwatch(getattr(pl_module, name)) for name in ("encoder", "decoder")
        }
        if self.lpips is not None:
            self._distance = _perceptual_distance(self.lpips, self.lpips_weights)
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        gaussians, rendering = outputs["gaussians"], outputs["rendering"]
        timing = self._timing(batch, warm_up=not self._results)
        timing["gaussians"] = gaussians.means.shape[1]
        predictions = {"model": evaluation.model_prediction(gaussians, rendering)}
        if self.baselines:
            estimate = predictions["model"].context_depth
            predictions |= evaluation.baseline_predictions(batch, estimate)
            with trainer.precision_plugin.forward_context():
                predictions |= zeroed_prediction(pl_module, batch)
        distance = None if self._distance is None else self._distance.to(rendering.color.device)
        results = evaluation.score_batch(batch, predictions, distance)
        for scene, result in enumerate(results):
            if self.images < 0 or len(self._results) < self.images:
                name = f"{file_name(result['scene'])}.png"
                picture = sheet(scene_rows(batch, scene, gaussians, rendering))
                save_png(picture, Path(trainer.default_root_dir) / self.folder / "images" / name)
            self._results.append(result | {"timing": timing})

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        results = evaluation.merge(_gather(self._results))
        if not results:
            raise ValueError(
                "no test scene could be used, on any process; the reasons are in the log above"
            )
        if not trainer.is_global_zero:
            return
        path = Path(trainer.default_root_dir) / self.folder / "scores.json"
        evaluation.write_scores(path, results, self._settings(trainer))
        _print(results, path)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for stopwatch in self._stopwatches.values():
            stopwatch.remove()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.on_test_end(trainer, pl_module)

    def _timing(self, batch: Batch, warm_up: bool) -> dict[str, Any]:
        """Seconds a scene, of the batch that has just been tested."""
        views = batch.target.image.shape[1]
        scenes = len(batch.scene)
        return {
            "encoder_seconds": self._stopwatches["encoder"].seconds / scenes,
            "decoder_seconds": self._stopwatches["decoder"].seconds / scenes,
            "decoder_seconds_a_view": self._stopwatches["decoder"].seconds / (scenes * views),
            "warm_up": warm_up,
        }

    def _settings(self, trainer: Trainer) -> dict[str, Any]:
        cuda = torch.cuda.is_initialized()
        return {
            "mvsplat": __version__,
            "checkpoint": None if trainer.ckpt_path is None else str(trainer.ckpt_path),
            "lpips": self.lpips if self._distance is not None else None,
            "precision": str(trainer.precision),
            "processes": trainer.world_size,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        }


def zeroed_prediction(model: Any, batch: Batch) -> dict[str, Prediction]:
    """What the model says if it cannot match: its cost volume is zeros (nothing, without one)."""
    cost_volume = getattr(model.encoder, "cost_volume", None)
    if not isinstance(cost_volume, nn.Module):
        return {}
    hook = cost_volume.register_forward_hook(lambda _, __, volume: torch.zeros_like(volume))
    try:
        gaussians = model.encoder(batch.context)
        rendering = model.render(gaussians, batch.target)
    finally:
        hook.remove()
    return {"zeroed_cost_volume": evaluation.model_prediction(gaussians, rendering)}


def _perceptual_distance(net: Literal["vgg", "alex"], weights: str | None) -> nn.Module | None:
    from mvsplat.lpips import PerceptualDistance

    try:
        return PerceptualDistance.pretrained(net, weights)
    except FileNotFoundError as error:
        warnings.warn(f"no LPIPS scores: {error}", stacklevel=2)
        return None


def _gather(results: list[Result]) -> list[list[Result]]:
    """Every process's results, on every process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [results]
    gathered: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, results)
    return gathered


def _print(results: list[Result], path: Path) -> None:
    from rich.console import Console

    console = Console()
    console.print(evaluation.results_table(results))
    timing = evaluation.median_timing(results)
    console.print(
        f"encoder {1000 * timing['encoder_seconds']:.0f} ms a scene, decoder "
        f"{1000 * timing['decoder_seconds_a_view']:.1f} ms a view, "
        f"{timing['gaussians']:,.0f} Gaussians (medians)"
    )
    for line in evaluation.extreme_scenes(results):
        console.print(line, markup=False, highlight=False)
    console.print(f"scores and pictures: {path.parent}", markup=False, soft_wrap=True)
