"""``fit``, ``validate``, ``test`` and ``predict``: a YAML file is the constructor arguments."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.rank_zero import rank_zero_module
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.callbacks import Callback, Checkpoint, LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from mvsplat.cli import config_files, planning
from mvsplat.cli.errors import ShortErrors
from mvsplat.cli.overlays import FOLLOWING, LOSSES, ConfigFile
from mvsplat.cli.saved_config import SaveConfig, loggers_with_save_dir, place_in_run
from mvsplat.cli.weights_option import add_old_name, follow_weights, take_old_name
from mvsplat.data.data_module import SceneDataModule
from mvsplat.evaluation.depth_bounds_warning import DepthBoundsWarning
from mvsplat.evaluation.prediction_writer import PredictionWriter
from mvsplat.evaluation.test_results import TestResults
from mvsplat.machine import bf16_is_faster
from mvsplat.model import MVSplat
from mvsplat.private_names import options_of
from mvsplat.progress import in_terminal
from mvsplat.training.averaging import WeightAveraging
from mvsplat.training.checkpoints import BestCheckpoint, LatestCheckpoint
from mvsplat.training.earlier_run import EarlierRun
from mvsplat.training.end_together import EndTogether
from mvsplat.training.finite_steps import FiniteSteps
from mvsplat.training.folder_lock import only_training_run
from mvsplat.training.image_logger import ImageLogger
from mvsplat.training.monitor import TrainingMonitor
from mvsplat.training.preemption import Preemption
from mvsplat.training.progress_bar import ProgressBar
from mvsplat.training.progress_lines import ProgressLines
from mvsplat.training.run_folder import after_setting_aside, find_checkpoint
from mvsplat.weights.locating import is_path

TRAINER_DEFAULTS = {
    # Training is an endless stream: steps end it, and validations come by steps, not by epochs.
    "max_epochs": -1,
    "max_steps": 300_001,
    "gradient_clip_val": 0.5,
    "val_check_interval": 5000,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 2,
    "use_distributed_sampler": False,  # the data module divides its streams itself
    "logger": {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        # An empty save_dir is the run folder, also of the loggers that a user names.
        "init_args": {"save_dir": "", "name": "logs", "version": ""},
    },
}
_CHECKPOINT = "A checkpoint of the run folder (last: the newest complete one; best), or a file."
_AUTOMATIC = " auto: the last one, where there is one that fits the configuration; else a new run."
MODEL_DEFAULTS = {
    "model.encoder": {"class_path": "mvsplat.encoder.CostVolumeEncoder"},
    "model.decoder": {"class_path": "mvsplat.decoder.SplattingDecoder"},
    LOSSES: {
        "mse": {"class_path": "mvsplat.losses.MSE"},
        "lpips": {"class_path": "mvsplat.losses.LPIPS"},
    },
    "data.source": {"class_path": "mvsplat.data.generated.generated_scenes.GeneratedScenes"},
}


class TrainerParser(ShortErrors, LightningArgumentParser):
    """Lightning's parser; an unfinished option name is an error, not the option it may mean."""


class TrainerCLI(LightningCLI):
    """Lightning's command line on MVSplat, its data and its callbacks."""

    def __init__(self, argv: list[str]) -> None:
        self.command, self.arguments = argv[0], argv
        self.steps_done = 0
        super().__init__(
            MVSplat,
            SceneDataModule,
            save_config_callback=SaveConfig,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_class=TrainerParser,
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
            (WeightAveraging, "averaging"),
            (ImageLogger, "images"),
            (TestResults, "results"),
            (PredictionWriter, "predictions"),
        ):
            parser.add_lightning_class_args(callback, key)
        if self.command == "fit":
            planning.add_option(parser)
        parser.set_defaults(MODEL_DEFAULTS)
        add_old_name(parser)
        for option, source in FOLLOWING.items():
            parser.link_arguments(source, option, compute_fn=int if option == "data.seed" else None)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any):
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        defaults = {"weights_only": True, "return_predictions": False}
        if subcommand == "test":
            defaults["verbose"] = False  # TestResults prints the table
        added = self._subcommand_method_arguments[subcommand]
        parser.set_defaults({name: value for name, value in defaults.items() if name in added})
        for option in options_of(parser):
            if option.dest == "ckpt_path":  # Lightning's text names a keyword that is not here
                option.help = _CHECKPOINT + (_AUTOMATIC if subcommand == "fit" else "")
        return parser

    @property
    def plans(self) -> bool:
        """Whether nothing but the plan of a training is wanted."""
        return bool(self.config[self.command].get("plan"))

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Lightning's warns about arguments that are given in Python, which here is the rule."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Lightning would let a checkpoint's hyperparameters override YAML and flags.

        Here ``last`` and ``best`` become files of the run folder, and a missing one an error;
        ``auto`` becomes the last one, if there is one.
        """
        config = self.config[self.command]
        by_old_name = take_old_name(config)
        if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
            self._find_weights_again()  # the first process may have set the earlier run aside
        which, weights = config.get("ckpt_path"), config["model"]["weights"]
        self.automatic = which == "auto"
        if self.automatic:
            self._find_automatically()
        elif which is not None:
            config["ckpt_path"] = str(
                find_checkpoint(Path(config["run_dir"]), which, config["best_checkpoint"]["mode"])
            )
        elif self.command != "fit" and weights is None:
            raise ValueError(
                f"{self.command} needs weights: --ckpt_path last, best or a file, or "
                "--model.weights with a file, an address or a name (mvsplat weights lists them)"
            )
        if weights is not None:
            self._follow_weights(by_old_name)

    def _find_automatically(self) -> None:
        """``--ckpt_path auto``: the last checkpoint, or none."""
        config = self.config[self.command]
        if self.command != "fit":
            raise ValueError(
                f"--ckpt_path auto is for fit, which starts where there is no checkpoint; "
                f"{self.command} needs one: last, best or a file"
            )
        config["ckpt_path"] = None
        try:
            config["ckpt_path"] = str(find_checkpoint(Path(config["run_dir"]), "last"))
        except FileNotFoundError:
            pass
        except ValueError as error:
            rank_zero_warn(f"{error}; the run starts anew")

    def _start_anew(self, reason: ValueError) -> None:
        """What ``--ckpt_path auto`` has found is another configuration's.

        Raises:
            ValueError: A checkpoint was asked for otherwise.
        """
        path = self.config[self.command].get("ckpt_path")
        if not self.automatic or path is None:
            raise reason
        rank_zero_info(f"{path} is not gone on from: {reason}")
        self.config[self.command]["ckpt_path"] = None

    def _follow_weights(self, by_old_name: bool) -> None:
        # The old option replaced the encoder, whatever was configured.
        rest = (FOLLOWING.values(), by_old_name)
        try:
            self.config = follow_weights(self.parser, self.arguments, self.config, *rest)
        except ValueError as error:
            self._start_anew(error)
            self.config = follow_weights(self.parser, self.arguments, self.config, *rest)

    def _find_weights_again(self) -> None:
        """Follow weights out of a run folder that this run takes over."""
        model, run = self.config[self.command]["model"], Path(self.config[self.command]["run_dir"])
        if model["weights"] is not None and is_path(model["weights"]):
            model["weights"] = str(after_setting_aside(Path(model["weights"]), run))

    def instantiate_classes(self) -> None:
        """Refuse a wrong checkpoint here: data may take minutes to generate."""
        self._instantiate()
        path, fitting = self.config[self.command].get("ckpt_path"), self.command == "fit"
        if path is not None:
            # Mapped, only what is looked at is read.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            try:
                self.model.check_checkpoint(content, training=fitting)
                self.steps_done = content["global_step"]
                return
            except ValueError as error:
                self._start_anew(error)
            seed_everything(self.config[self.command]["seed_everything"], verbose=False)
            self._instantiate()
        if fitting:
            self.model.check_start()

    def _instantiate(self) -> None:
        """A checkpoint has its own weights: those that the run started from are not read again."""
        config = self.config[self.command]
        resumed, weights = config.get("ckpt_path") is not None, config["model"]["weights"]
        if resumed:
            config["model"]["weights"] = None
        super().instantiate_classes()
        config["model"]["weights"] = weights  # for config.yaml

    def before_instantiate_classes(self) -> None:
        config = self.config[self.command]
        if self.plans:
            planning.only_a_few_steps(config)
            self.save_config_callback = None
        for logger in loggers_with_save_dir(config):
            place_in_run(logger, config["run_dir"])
        trainer = config["trainer"]
        if self.command == "predict" and trainer["precision"] is None and _faster_in_bf16(trainer):
            trainer["precision"] = "bf16-mixed"
            rank_zero_info(
                "Predicting in bf16, which is faster on this processor; for float32: "
                "--trainer.precision 32-true"
            )

    def fit(self, model: MVSplat, **kwargs: Any) -> None:
        """Train; a new run sets an earlier one in its folder aside, unless it fails to start."""
        if self.plans:
            steps = model.max_steps
            planning.make_plan(self.trainer, model, self.datamodule, steps, self.steps_done)
            return
        trying = self.trainer.fast_dev_run  # type: ignore[attr-defined]
        if trying or not self.trainer.is_global_zero:
            self._fit(model, fresh=False, **kwargs)
            return
        with only_training_run(Path(self.trainer.default_root_dir)):
            self._fit(model, fresh=kwargs.get("ckpt_path") is None, **kwargs)

    def _fit(self, model: MVSplat, fresh: bool, **kwargs: Any) -> None:
        earlier = EarlierRun(Path(self.trainer.default_root_dir))
        if fresh:
            earlier.set_aside()
            self._find_weights_again()
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
        if self.plans:  # what belongs to every step, and nothing that writes
            every_step = [each for each in callbacks if isinstance(each, FiniteSteps)]
            return super()._instantiate_trainer(config, [*every_step, EndTogether()])
        logger = config.get("logger")
        if logger is not False and logger != []:  # null is Lightning's default logger
            callbacks = [*callbacks, LearningRateMonitor("step")]
        callbacks = [*callbacks, Preemption(), EndTogether(), DepthBoundsWarning()]
        if config["enable_checkpointing"] is False:
            callbacks = [each for each in callbacks if not isinstance(each, Checkpoint)]
        given = config["callbacks"] or []
        theirs = given if isinstance(given, list) else [given]
        if config["enable_progress_bar"] is not False and not any(
            isinstance(callback, lightning_callbacks.ProgressBar) for callback in theirs
        ):
            callbacks = [*callbacks, ProgressBar() if in_terminal() else ProgressLines()]
        return super()._instantiate_trainer(config, callbacks)


def main(argv: list[str]) -> None:
    """Run one of Lightning's commands; ``argv`` starts with its name."""
    warnings.filterwarnings("ignore", module=r"lightning\..*", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
    warnings.filterwarnings("ignore", message=".*is not supported by the model summary")
    rank_zero_module.log.addFilter(_no_advertisement)
    TrainerCLI(argv)


def _faster_in_bf16(trainer: Namespace) -> bool:
    """Whether Lightning will compute on a processor that is faster in bf16."""
    accelerator = trainer["accelerator"]
    on_cpu = accelerator == "auto" and not torch.accelerator.is_available()
    return (accelerator == "cpu" or on_cpu) and bf16_is_faster()


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: " not in record.getMessage()
