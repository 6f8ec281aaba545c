"""The resolved configuration of a command, in its run folder."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import SaveConfigCallback


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
        for arguments in loggers_with_save_dir(config):
            if arguments["save_dir"] == config["run_dir"]:
                arguments["save_dir"] = ""  # it moves with the run folder
        text = self.parser.dump(config, skip_none=False)
        temporary = folder / (self.config_filename + ".part")
        temporary.write_text(text)
        temporary.replace(folder / self.config_filename)


def loggers_with_save_dir(config: Namespace) -> list[Namespace]:
    """The arguments of those loggers that take a ``save_dir``."""
    loggers = config["trainer"]["logger"]
    loggers = loggers if isinstance(loggers, list) else [loggers]
    arguments = [logger.get("init_args") for logger in loggers if isinstance(logger, Namespace)]
    return [each for each in arguments if each is not None and "save_dir" in each]
