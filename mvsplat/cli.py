"""``fit``, ``validate``, ``test`` and ``predict``: a YAML file is the constructor arguments."""

import logging
import warnings
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, Namespace
from lightning.fabric.utilities.rank_zero import rank_zero_module
from lightning.pytorch import Trainer
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from mvsplat import config_files
from mvsplat.callbacks import (
    DepthBoundsWarning,
    ImageLogger,
    PredictionWriter,
    ProgressBar,
    TestResults,
    TrainingMonitor,
)
from mvsplat.callbacks.checkpoints import BestCheckpoint, LatestCheckpoint
from mvsplat.callbacks.end_together import EndTogether
from mvsplat.callbacks.finite_steps import FiniteSteps
from mvsplat.callbacks.preemption import Preemption
from mvsplat.cli_errors import ShortErrors
from mvsplat.data.data_module import SceneDataModule
from mvsplat.model import MVSplat
from mvsplat.run_folder import EarlierRun, find_checkpoint

LOSSES = "model.losses"

TRAINER_DEFAULTS = {
    "max_epochs": -1,
    "max_steps": 300_001,
    "gradient_clip_val": 0.5,
    "val_check_interval": 5000,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 2,
    "use_distributed_sampler": False,
    "logger": {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"name": "logs", "version": ""},
    },
}
MODEL_DEFAULTS = {
    "model.encoder": {"class_path": "mvsplat.encoder.CostVolumeEncoder"},
    "model.decoder": {"class_path": "mvsplat.decoder.SplattingDecoder"},
    LOSSES: {
        "mse": {"class_path": "mvsplat.losses.MSE"},
        "lpips": {"class_path": "mvsplat.losses.LPIPS"},
    },
    "data.source": {"class_path": "mvsplat.data.generated.GeneratedScenes"},
}


class ConfigFile(ActionConfigFile):
    """``--config``: a path or a shipped name; losses are overlaid one at a time."""

    def __call__(self, parser, cfg, values, option_string=None):
        parser.config_files.append(path := str(config_files.find(values)))
        before = _losses(cfg)
        super().__call__(parser, cfg, path, option_string)
        if (after := cfg.get(LOSSES)) is not None and before:
            cfg[LOSSES] = _overlay(before, _as_dict(after))


def _as_dict(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else value


def _losses(cfg: Namespace) -> dict[str, Any]:
    return {name: _as_dict(loss) for name, loss in (_as_dict(cfg.get(LOSSES)) or {}).items()}


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Losses of two files: a name in ``above`` is added, replaced, or changed in its arguments."""
    merged = dict(below)
    for name, loss in above.items():
        loss, under = _as_dict(loss), _as_dict(below.get(name))
        loss = {"class_path": loss} if isinstance(loss, str) else loss
        if (
            isinstance(loss, dict)
            and isinstance(under, dict)
            and _same_class(loss.get("class_path") or under["class_path"], under["class_path"])
        ):
            arguments = {**(under.get("init_args") or {}), **(loss.get("init_args") or {})}
            loss = {"class_path": under["class_path"], "init_args": arguments}
        merged[name] = loss
    return merged


def _same_class(path: str, other: str) -> bool:
    """Whether two class paths, either of which may be a short name, mean the same class."""
    if "." in path and "." in other:
        return path == other
    return path.rpartition(".")[2] == other.rpartition(".")[2]


class Parser(ShortErrors, LightningArgumentParser):
    """Lightning's parser; an unfinished option name is an error, not the option it may mean."""


class SaveConfig(SaveConfigCallback):
    """Writes the resolved configuration to the run folder, without what concerns one command only.

    ``fit`` writes ``config.yaml``; ``test`` writes ``test/config.yaml``, and so on.
    """

    ONE_COMMAND_ONLY = ("config", "ckpt_path", "weights_only", "verbose", "return_predictions")

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        if self.already_saved or not trainer.is_global_zero:
            return
        self.already_saved = True
        folder = Path(trainer.default_root_dir)
        assert trainer.state.fn is not None  # what the trainer was called for
        folder = folder if stage == "fit" else folder / str(trainer.state.fn.value)
        folder.mkdir(parents=True, exist_ok=True)
        config = self.config.clone()
        for key in self.ONE_COMMAND_ONLY:
            config.pop(key, None)
        text = self.parser.dump(config, skip_none=False)
        temporary = folder / (self.config_filename + ".part")
        temporary.write_text(text)
        temporary.replace(folder / self.config_filename)


class TrainerCLI(LightningCLI):
    """Lightning's command line on MVSplat, its data and its callbacks."""

    def __init__(self, argv: list[str]) -> None:
        self.command = argv[0]
        super().__init__(
            MVSplat,
            SceneDataModule,
            save_config_callback=SaveConfig,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={"prog": "mvsplat"},
            args=argv,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the one that was asked for: each would cost half a second of parser building."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = self.parser_class(**kwargs)
        parser.add_argument(
            "-c",
            "--config",
            action=ConfigFile,
            help="A YAML file, or the name of one that comes with mvsplat; "
            f"a second one overlays the first. Shipped: {', '.join(config_files.shipped())}.",
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--run_dir",
            type=str,
            default="runs/mvsplat",
            help="The run folder: configuration, logs, checkpoints, pictures, results.",
        )
        for callback, key in (
            (LatestCheckpoint, "checkpoint"),
            (BestCheckpoint, "best_checkpoint"),
            # It shows the gradient as it is, before a step that is not finite is taken back.
            (TrainingMonitor, "monitor"),
            (FiniteSteps, "finite_steps"),
            (ImageLogger, "images"),
            (TestResults, "results"),
            (PredictionWriter, "predictions"),
        ):
            parser.add_lightning_class_args(callback, key)
        parser.set_defaults(MODEL_DEFAULTS)
        parser.link_arguments("trainer.max_steps", "model.max_steps")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.link_arguments("run_dir", "trainer.default_root_dir")
        parser.link_arguments("run_dir", "trainer.logger.init_args.save_dir")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any):
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        defaults = {"weights_only": True, "return_predictions": False}
        if subcommand == "test":
            defaults["verbose"] = False  # TestResults prints the table
        added = self._subcommand_method_arguments[subcommand]
        parser.set_defaults({name: value for name, value in defaults.items() if name in added})
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Lightning's warns about arguments that are given in Python, which here is the rule."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Lightning would let a checkpoint's hyperparameters override YAML and flags.

        Here ``last`` and ``best`` become files of the run folder, and a missing one an error.
        """
        config = self.config[self.command]
        which = config.get("ckpt_path")
        if which is not None:
            config["ckpt_path"] = str(
                find_checkpoint(Path(config["run_dir"]), which, config["best_checkpoint"]["mode"])
            )
        elif self.command != "fit" and config["model"].get("published_checkpoint") is None:
            raise ValueError(
                f"{self.command} needs weights: --ckpt_path last, best or a file, or "
                "--model.published_checkpoint with a released one"
            )

    def fit(self, model: MVSplat, **kwargs: Any) -> None:
        """Train; a new run sets an earlier one in its folder aside, unless it fails to start."""
        fresh = kwargs.get("ckpt_path") is None and not self.trainer.fast_dev_run  # type: ignore[attr-defined]
        earlier = EarlierRun(Path(self.trainer.default_root_dir))
        if fresh and self.trainer.is_global_zero:
            earlier.set_aside()
        try:
            self.trainer.fit(model, **kwargs)
        except BaseException:
            if self.trainer.global_step == 0:
                earlier.put_back()
            raise

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self._get(self.config_init, "trainer")
        interval, accumulate = settings["val_check_interval"], settings["accumulate_grad_batches"]
        if isinstance(interval, int) and accumulate > 1:
            # Lightning counts batches there; people, schedules and checkpoints count steps.
            kwargs["val_check_interval"] = interval * accumulate
            rank_zero_info(f"Validation every {interval} steps ({interval * accumulate} batches).")
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise ValueError(f"trainer: {error}") from error

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        logger = config.get("logger")
        if logger is not False and logger is not None and logger != []:
            callbacks = [*callbacks, LearningRateMonitor("step")]
        callbacks = [*callbacks, Preemption(), EndTogether(), DepthBoundsWarning()]
        theirs = config["callbacks"] if isinstance(config["callbacks"], list) else []
        if config["enable_progress_bar"] is not False and not any(
            isinstance(callback, lightning_callbacks.ProgressBar) for callback in theirs
        ):
            callbacks = [*callbacks, ProgressBar()]
        return super()._instantiate_trainer(config, callbacks)


def main(argv: list[str]) -> None:
    """Run one of Lightning's commands; ``argv`` starts with its name."""
    warnings.filterwarnings("ignore", module=r"lightning\..*", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
    warnings.filterwarnings("ignore", message=".*is not supported by the model summary")
    rank_zero_module.log.addFilter(_no_advertisement)
    TrainerCLI(argv)


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: " not in record.getMessage()
