"""``--model.weights`` on the command line: the configured encoder follows the weights."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jsonargparse import SUPPRESS, ArgumentParser, Namespace
from lightning.pytorch.utilities import rank_zero_only

from mvsplat.encoder.settings import check_agreement, settled
from mvsplat.weights import read_weights

OLD_NAME = "model.published_checkpoint"


def add_old_name(parser: ArgumentParser) -> None:
    """Let the option's old name be read, wherever it stands, but neither shown nor written."""
    parser.add_argument(f"--{OLD_NAME}", type=str | None, default=SUPPRESS, help=SUPPRESS)


def take_old_name(config: Namespace) -> bool:
    """Call weights that are given by the option's old name by the new one; whether there were any.

    Raises:
        ValueError: Both names are given.
    """
    old, new = config.pop(OLD_NAME, None), config["model"]["weights"]
    if old is None:
        return False
    if new is not None:
        raise ValueError(f"model.weights is {new} and {OLD_NAME}, its old name, {old}: give one")
    config["model"]["weights"] = old
    _say(f"{OLD_NAME} is now called model.weights.")
    return True


@rank_zero_only
def _say(line: str) -> None:
    print(line, file=sys.stderr)


def follow_weights(
    parser: ArgumentParser,
    arguments: list[str],
    config: Namespace,
    linked: Iterable[str],
    whatever_is_given: bool,
) -> Namespace:
    """The configuration with the encoder of its weights, or of the checkpoint that goes on.

    Args:
        parser: Of the whole command line.
        arguments: What it was given.
        config: What that came to, of the one command that was given.
        linked: Options that others follow, without which nothing can be parsed.
        whatever_is_given: Replace the encoder even where it was configured otherwise.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no weights, none for what the command does, or an option that was
            given says otherwise.
    """
    command = config["subcommand"]
    settings = config[command]
    checkpoint = settings.get("ckpt_path")
    weights = read_weights(Path(checkpoint) if checkpoint else settings["model"]["weights"])
    if command in ("validate", "test"):
        weights.check_complete()
    if weights.encoder is None:
        return config
    given = None
    if not whatever_is_given:
        values = [f"--{name}={settings[name]}" for name in linked]
        given = _given_encoder(parser, [*arguments, *values], command)
    if given is not None:
        check_agreement(given, weights.encoder, weights.origin)
    configured = settings["model"]["encoder"]
    encoder = settled(configured and configured.as_dict(), weights.encoder, weights.proposed)
    settings["model"]["encoder"] = None
    return parser.parse_object({command: {"model": {"encoder": encoder}}}, config)


def _given_encoder(
    parser: ArgumentParser, arguments: list[str], command: str
) -> dict[str, Any] | None:
    """What files and arguments say about the encoder, without the defaults."""
    encoder = parser.parse_args(arguments, defaults=False)[command].get("model.encoder")
    return None if encoder is None else {"init_args": {}, **encoder.as_dict()}
