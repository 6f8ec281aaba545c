"""The encoder that weights determine: what may be set otherwise, and where another one differs."""

from collections.abc import Mapping
from typing import Any

from mvsplat.configurable import class_of, same_class
from mvsplat.encoder import Encoder

Config = dict[str, Any]
"""``{"class_path": ..., "init_args": {...}}``"""

LISTED = 4


def settled(configured: Config | None, determined: Config, proposed: Mapping[str, Any]) -> Config:
    """The encoder to build for given weights.

    Args:
        configured: With all arguments; None where nothing is wished.
        determined: The arguments that the weights determine.
        proposed: Arguments that suit the weights where no encoder of their class is configured.

    Returns:
        The weights' encoder; what trains it and what they leave open is as configured.
    """
    path, arguments = determined["class_path"], dict(proposed)
    if configured is not None and same_class(configured, determined):
        path, arguments = configured["class_path"], configured["init_args"]
    fixed = {n: x for n, x in determined["init_args"].items() if n not in _of_training(determined)}
    return {"class_path": path, "init_args": {**arguments, **fixed}}


def check_agreement(given: Config, determined: Config, origin: str) -> None:
    """Refuse settings that weights do not have.

    Args:
        given: The encoder that was asked for, with some of its arguments or all.
        determined: What the weights determine of it.
        origin: Where the weights are, for the message.

    Raises:
        ValueError: The class or an argument differs; the message names the option.
    """
    if not same_class(given, determined):
        raise ValueError(
            f"model.encoder is a {_class_name(given)}, but the weights in {origin} belong to a "
            f"{_class_name(determined)}: leave model.encoder out, or set it to null"
        )
    differing = [
        f"model.encoder.{name} is {mine} (there {theirs})"
        for name, mine, theirs in differences(given, determined)
    ]
    if differing:
        raise ValueError(
            f"the weights in {origin} belong to another encoder: {', '.join(differing[:LISTED])}. "
            "The encoder follows its weights: leave such options out, or set model.encoder to null"
        )


def differences(given: Config, determined: Config) -> list[tuple[str, Any, Any]]:
    """Name and both values of the arguments in which two encoders of a class differ.

    Arguments that only say how to train them do not count, nor do those that one does not mention.
    """
    mine, theirs = given["init_args"], determined["init_args"]
    names = sorted((mine.keys() & theirs.keys()) - set(_of_training(determined)))
    return [(n, mine[n], theirs[n]) for n in names if not _agree(mine[n], theirs[n])]


def _agree(given: Any, recorded: Any) -> bool:
    """Whether values are equal; a part's arguments that are not given may be any."""
    if isinstance(given, dict) and isinstance(recorded, dict):
        return all(name in recorded and _agree(x, recorded[name]) for name, x in given.items())
    if isinstance(given, (list, tuple)) and isinstance(recorded, (list, tuple)):
        return len(given) == len(recorded) and all(map(_agree, given, recorded))
    return bool(given == recorded)


def _of_training(config: Config) -> tuple[str, ...]:
    cls = class_of(config)
    assert issubclass(cls, Encoder)
    return cls.of_training


def _class_name(config: Config) -> str:
    return config["class_path"].rpartition(".")[2]
