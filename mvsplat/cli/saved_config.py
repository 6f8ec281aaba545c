"""The resolved configuration of a command, in its run folder."""

import inspect
from pathlib import Path
from pydoc import locate
from typing import Any, cast

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger


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
        for logger in loggers_with_save_dir(config):
            if logger["init_args"]["save_dir"] == folder_in_run(logger, config["run_dir"]):
                logger["init_args"]["save_dir"] = ""  # it moves with the run folder
        text = self.parser.dump(config, skip_none=False)
        temporary = folder / (self.config_filename + ".part")
        temporary.write_text(text)
        temporary.replace(folder / self.config_filename)


def loggers_with_save_dir(config: Namespace) -> list[Namespace]:
    """Those loggers that take a ``save_dir``, each with ``class_path`` and ``init_args``."""
    loggers = config["trainer"]["logger"]
    loggers = loggers if isinstance(loggers, list) else [loggers]
    given = [logger for logger in loggers if isinstance(logger, Namespace)]
    return [logger for logger in given if "save_dir" in (logger.get("init_args") or ())]


def folder_in_run(logger: Namespace, run_dir: str) -> str:
    """What is a logger's ``save_dir`` in the working directory, in a run folder instead."""
    parameters = inspect.signature(_class_of(logger)).parameters
    default = parameters["save_dir"].default if "save_dir" in parameters else ""
    return str(Path(run_dir, default if isinstance(default, str) else ""))


def _class_of(logger: Namespace) -> type:
    return cast(type, locate(logger["class_path"]))


def place_in_run(logger: Namespace, run_dir: str) -> None:
    """Let a logger write to the run folder, unless its ``save_dir`` is somebody's choice.

    What an earlier command has written there stays: a CSVLogger begins a new table every time.
    """
    folder = folder_in_run(logger, run_dir)
    arguments = logger["init_args"]
    if not arguments["save_dir"] or folder == str(Path(run_dir, arguments["save_dir"])):
        arguments["save_dir"] = folder
    _forget_the_usual_logger(logger)


def _forget_the_usual_logger(logger: Namespace) -> None:
    """Take back what jsonargparse hands on to other loggers: a run would be called "logs" in W&B.

    Lightning's CSVLogger deletes the table that there is in a version that it is given.
    """
    cls, arguments = _class_of(logger), logger["init_args"]
    parameters = inspect.signature(cls).parameters
    usual = {} if issubclass(cls, TensorBoardLogger) else {"name": "logs", "version": ""}
    for option, value in usual.items():
        keeps = option not in parameters or option == "name" and issubclass(cls, CSVLogger)
        if not keeps and arguments.get(option) == value:
            arguments[option] = parameters[option].default
