"""What ``test`` leaves behind: a table, scores of every view, pictures and films of the scenes."""

import logging
import signal
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import distributed

from mvsplat import __version__
from mvsplat.data.data_module import SceneDataModule
from mvsplat.evaluation import Result, Results, merge, print_results, save_results, scoring
from mvsplat.evaluation.benchmark import Benchmark
from mvsplat.evaluation.journal import Journal, read_journals, remove_journals
from mvsplat.evaluation.lpips import PerceptualDistance
from mvsplat.evaluation.metric_table import LearnedDistance, Metric
from mvsplat.evaluation.results_files import checked_result
from mvsplat.evaluation.scene_files import Picture, save_pictures
from mvsplat.evaluation.view_scores import model_prediction
from mvsplat.export.films import Film, FilmSettings, save_film
from mvsplat.files import file_name
from mvsplat.progress import tracker
from mvsplat.types import Batch, Gaussians, Rendering

T = TypeVar("T")
_log = logging.getLogger("mvsplat.evaluation")
_LONGEST_REASON = 300


class TestResults(Callback):
    """Prints a table and writes scores, pictures and films to the folder ``test`` of the run.

    Scores are PSNR, SSIM and LPIPS of the target views, and the relative error (AbsRel) of the
    context views' depth where the data has exact depth, and those of the model's further metrics.
    Each scene's views are averaged first, then the scenes. Time and memory a scene, and the number
    of Gaussians, go with them.

    Scenes that cannot be used are left out, and named in the results, which are incomplete then. A
    test that is interrupted, by Ctrl-C, SIGTERM or an error, leaves the scores so far. A metric
    that fails is reported at once, and is an error at the end, when all other scores are written.

    Args:
        baselines: Also score the nearest context view copied, the mean colour, the context views
            on a plane at the scene's median depth, and the model without what its encoder can
            leave out (our encoder's cost volume, zeroed).
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
        self._metrics: tuple[Metric, ...] = ()
        self._failing: set[str] = set()
        self._journal: Journal | None = None
        if "file" in films and film.file is None:
            raise ValueError('films has "file": name the camera path with film.file')

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "test":
            return
        if trainer.is_global_zero:
            remove_journals(self._folder(trainer))  # of a test that was killed
        self._journal = Journal(self._folder(trainer), trainer.global_rank)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module
        self._results, self._names, self._failing = [], Counter(), set()
        self._benchmark = Benchmark(model)
        self._metrics = model.metrics
        if self.lpips is not None:
            self._metrics += _learned_distance(self.lpips, self.lpips_weights)

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
        predictions = {"model": model_prediction(gaussians, rendering)}
        if self.baselines:
            estimate = predictions["model"].context_depth
            predictions |= scoring.baseline_predictions(batch, estimate)
            with trainer.precision_plugin.forward_context():
                predictions |= scoring.ablated_predictions(pl_module, batch)
        # The model has measured its own pictures for the log.
        done = {"model": outputs.get("scores", {})}
        results = scoring.score_by(self._metrics, batch, predictions, done)
        for scene, result in enumerate(results):
            self._warn_of_failures(result)
            result |= {"timing": timing} | _view_choice(trainer, result["scene"])
            if self.images < 0 or len(self._results) < self.images:
                result |= self._show(trainer, batch, scene, gaussians, rendering)
            self._results.append(result)
            if self._journal is not None:
                self._journal.add(result)

    def _warn_of_failures(self, result: Result) -> None:
        for metric, failure in result.get("failures", {}).items():
            if metric not in self._failing:
                _log.warning("the metric %s, in scene %s", failure, result["scene"])
                self._failing.add(metric)

    def _show(
        self,
        trainer: Trainer,
        batch: Batch,
        scene: int,
        gaussians: Gaussians,
        rendering: Rendering,
    ) -> dict[str, Any]:
        """Pictures and films of a scene; where they are, for the results."""
        folder = self._folder(trainer)
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
        gathered = _gather((self._results, _left_out(trainer)))
        results = merge([of_process for of_process, _ in gathered])
        left_out = {name: why for _, of_process in gathered for name, why in of_process.items()}
        if not results:
            raise ValueError(_nothing_scored(left_out))
        whole = Results(results, self._settings(trainer), left_out=left_out)
        if trainer.is_global_zero:
            self._write(trainer, whole)
        if whole.failures:
            folder = self._folder(trainer)
            raise ValueError("\n".join([*whole.failures, f"all other scores are in {folder}"]))

    def _write(self, trainer: Trainer, results: Results) -> None:
        """Files and tables; what was kept in case of an interruption goes."""
        folder = self._folder(trainer)
        save_results(results, folder / "scores.json")
        remove_journals(folder)
        from rich.console import Console

        console = Console()
        print_results(results.scenes, console, results.missing())
        console.print(f"scores and pictures: {folder}", markup=False, soft_wrap=True)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._benchmark is not None:
            self._benchmark.stop()
        if self._journal is not None:
            self._journal.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the scores so far; those of other processes as far as these have written them."""
        if not trainer.testing:
            return
        self.on_test_end(trainer, pl_module)
        if isinstance(exception, SIGTERMException):
            exception.code = 128 + signal.SIGTERM
        folder = self._folder(trainer)
        results = merge(read_journals(folder)) if trainer.is_global_zero else []
        if results:
            why = interruption(exception)
            settings, left_out = self._settings(trainer), _left_out(trainer)
            checked = [checked_result(result["scene"], result) for result in results]
            interrupted = Results(checked, settings, left_out=left_out, interrupted=why)
            self._write(trainer, interrupted)

    def _folder(self, trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / self.folder

    def _settings(self, trainer: Trainer) -> dict[str, Any]:
        cuda = torch.cuda.is_initialized()
        return {
            "mvsplat": __version__,
            "checkpoint": None if trainer.ckpt_path is None else str(trainer.ckpt_path),
            "lpips": self.lpips if any(m.name == "lpips" for m in self._metrics) else None,
            "precision": str(trainer.precision),
            "processes": trainer.world_size,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
        }


def _view_choice(trainer: Trainer, scene: str) -> dict[str, Any]:
    """What the view sampler knows of a scene's views, from an index, say: overlap and tier."""
    data: Any = getattr(trainer, "datamodule", None)
    return data.view_notes("test", scene) if isinstance(data, SceneDataModule) else {}


def _learned_distance(net: Literal["vgg", "alex"], weights: str | None) -> tuple[Metric, ...]:
    """LPIPS; nothing where its weights cannot be had."""
    try:
        return (LearnedDistance(PerceptualDistance.pretrained(net, weights)),)
    except FileNotFoundError as error:
        warnings.warn(f"no LPIPS scores: {error}", stacklevel=2)
        return ()


def _left_out(trainer: Trainer) -> dict[str, dict[str, str]]:
    """The scenes that this process could not test, each with the reason."""
    data: Any = getattr(trainer, "datamodule", None)
    skipped = data.left_out("test") if isinstance(data, SceneDataModule) else []
    return {skip.name: {"reason": skip.reason, "detail": skip.detail} for skip in skipped}


def _nothing_scored(left_out: dict[str, dict[str, str]]) -> str:
    lines = [f"{name}: {why['detail'] or why['reason']}" for name, why in left_out.items()]
    return "\n".join(["no test scene could be used, on any process", *lines])


def interruption(exception: BaseException) -> str:
    """What ended a test, in a few words."""
    if isinstance(exception, KeyboardInterrupt):
        return "Ctrl-C"
    if isinstance(exception, SIGTERMException):
        return "SIGTERM"
    first = next(iter(str(exception).strip().splitlines()), "")
    return f"{type(exception).__name__}: {first}"[:_LONGEST_REASON]


def _gather(value: T) -> list[T]:
    """Every process's value, on every process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    gathered: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, value)
    return gathered
