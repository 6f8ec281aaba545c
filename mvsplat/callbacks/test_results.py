"""What ``test`` leaves behind: a table, scores of every view, pictures and films of the scenes."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import distributed, nn

from mvsplat import __version__
from mvsplat.callbacks.progress_bar import tracker
from mvsplat.callbacks.scene_files import Picture, save_pictures
from mvsplat.data.view_samplers import ViewSampler
from mvsplat.evaluation import Result, Results, merge, print_results, save_results, scoring
from mvsplat.evaluation.benchmark import Benchmark
from mvsplat.export.files import file_name
from mvsplat.export.films import Film, FilmSettings, save_film
from mvsplat.types import Batch, Gaussians, Rendering


class TestResults(Callback):
    """Prints a table and writes scores, pictures and films to the folder ``test`` of the run.

    Scores are PSNR, SSIM and LPIPS of the target views, and the relative error (AbsRel) of the
    context views' depth where the data has exact depth. Each scene's views are averaged first,
    then the scenes. Time and memory a scene, and the number of Gaussians, go with them.

    Args:
        baselines: Also score the nearest context view copied, the mean colour, the context views
            on a plane at the scene's median depth, and the model with its cost volume zeroed.
        lpips: Network of the LPIPS score: "vgg", as published, or "alex"; null leaves it out.
        lpips_weights: File with that network's weights; by default PyTorch's hub cache, and a
            download into it.
        images: Scenes (of each process) to make pictures and films of; -1 for all, 0 for none.
        pictures: Which: "sheets" (everything side by side), "images" (renderings and targets),
            "errors" (absolute differences in colours), and rendered depth as "depth_png" (16 bits
            in a unit that the file states), "depth_npy" (exact) and "depth_color".
        films: Which: "interpolation" (from the first context view through all of them), "wobble",
            "spin", "file" (along the camera path that film.file names).
        film: How films are made.
        folder: Where in the run folder the results go; name another one for another data set.
    """

    __test__ = False  # no test class, whatever pytest thinks

    def __init__(
        self,
        baselines: bool = False,
        lpips: Literal["vgg", "alex"] | None = None,
        lpips_weights: str | None = None,
        images: int = 100,
        pictures: Sequence[Picture] = ("sheets", "images"),
        films: Sequence[Film] = (),
        film: FilmSettings = FilmSettings(),  # noqa: B008 (immutable)
        folder: str = "test",
    ):
        self.baselines = baselines
        self.lpips = lpips
        self.lpips_weights = lpips_weights
        self.images = images
        self.pictures = tuple(pictures)
        self.films = tuple(films)
        self.film = film
        self.folder = folder
        self._results: list[Result] = []
        self._names: Counter[str] = Counter()
        self._benchmark: Benchmark | None = None
        self._distance: nn.Module | None = None
        if "file" in films and film.file is None:
            raise ValueError('films has "file": name the camera path with film.file')

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._results, self._names = [], Counter()
        self._benchmark = Benchmark(pl_module)
        if self.lpips is not None:
            self._distance = _perceptual_distance(self.lpips, self.lpips_weights)

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
        assert self._benchmark is not None  # made at the start
        timing = self._benchmark.of_last(batch, gaussians.means.shape[1])
        predictions = {"model": scoring.model_prediction(gaussians, rendering)}
        if self.baselines:
            estimate = predictions["model"].context_depth
            predictions |= scoring.baseline_predictions(batch, estimate)
            with trainer.precision_plugin.forward_context():
                predictions |= scoring.zeroed_prediction(pl_module, batch)
        distance = None if self._distance is None else self._distance.to(rendering.color.device)
        for scene, result in enumerate(scoring.score_batch(batch, predictions, distance)):
            result |= {"timing": timing} | _view_choice(trainer, result["scene"])
            if self.images < 0 or len(self._results) < self.images:
                result |= self._show(trainer, batch, scene, gaussians, rendering)
            self._results.append(result)

    def _show(
        self,
        trainer: Trainer,
        batch: Batch,
        scene: int,
        gaussians: Gaussians,
        rendering: Rendering,
    ) -> dict[str, Any]:
        """Pictures and films of a scene; where they are, for the results."""
        folder = Path(trainer.default_root_dir) / self.folder
        model: Any = trainer.lightning_module
        name = batch.scene[scene]
        self._names[name] += 1
        if self._names[name] > 1:  # tested again, with other views
            name = f"{name}#{self._names[name]}"
        written: dict[str, Any] = dict(
            save_pictures(folder, self.pictures, batch, scene, gaussians, rendering, name)
        )
        for kind in self.films:
            path = f"films/{file_name(name)}_{kind}.mp4"
            arguments = (model.decoder, gaussians, batch.context, scene, name, self.film)
            save_film(kind, folder / path, *arguments, tracker(trainer, f"{name}: {kind}"))
            written.setdefault("films", []).append(path)
        return {"files": written} if written else {}

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        results = merge(_gather(self._results))
        if not results:
            raise ValueError(
                "no test scene could be used, on any process; the reasons are in the log above"
            )
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir) / self.folder
        save_results(Results(results, self._settings(trainer)), folder / "scores.json")
        from rich.console import Console

        console = Console()
        print_results(results, console)
        console.print(f"scores and pictures: {folder}", markup=False, soft_wrap=True)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._benchmark is not None:
            self._benchmark.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.on_test_end(trainer, pl_module)

    def _settings(self, trainer: Trainer) -> dict[str, Any]:
        cuda = torch.cuda.is_initialized()
        return {
            "mvsplat": __version__,
            "checkpoint": None if trainer.ckpt_path is None else str(trainer.ckpt_path),
            "lpips": self.lpips if self._distance is not None else None,
            "precision": str(trainer.precision),
            "processes": trainer.world_size,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
        }


def _view_choice(trainer: Trainer, scene: str) -> dict[str, Any]:
    """What the view sampler knows of a scene's views, from an index, say: overlap and tier."""
    views = getattr(getattr(trainer, "datamodule", None), "views", {}).get("test")
    return views.notes(scene) if isinstance(views, ViewSampler) else {}


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
