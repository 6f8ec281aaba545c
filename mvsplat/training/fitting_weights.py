"""Whether a checkpoint's weights are those of a model, said by settings rather than tensors."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mvsplat.configurable import CONFIG_KEY, completed, same_class
from mvsplat.encoder import Encoder
from mvsplat.encoder.settings import differences


def check_weights(mine: Mapping[str, Tensor], encoder: Encoder, checkpoint: dict[str, Any]) -> None:
    """Refuse another model's weights.

    Args:
        mine: The model's own state.
        encoder: The model's encoder.
        checkpoint: The content of a checkpoint of ``fit``.

    Raises:
        ValueError: Tensors or behaviours differ; names the settings that do.
    """
    theirs, stored = checkpoint["state_dict"], checkpoint.get(CONFIG_KEY)
    wrong = [
        name
        for name in sorted({*mine, *theirs})
        if name not in mine or name not in theirs or mine[name].shape != theirs[name].shape
    ]
    if wrong:
        raise ValueError(
            f"the checkpoint is of another model: {len(wrong)} tensors do not fit, {wrong[0]} "
            f"first. {_difference(encoder, stored)} Use the configuration it was trained with "
            "(config.yaml in its run folder)."
        )
    _check_behaviours(encoder, stored)


def _check_behaviours(encoder: Encoder, stored: dict[str, Any] | None) -> None:
    """Refuse weights that fit, but were trained with switches this encoder does not have."""
    if stored is None or not encoder.behaviours:
        return
    theirs, mine = completed(stored["encoder"])["init_args"], encoder.config["init_args"]
    names = [name for name in encoder.behaviours if theirs.get(name) != mine.get(name)]
    if names:
        options = " ".join(f"--model.encoder.{name} {theirs.get(name)}" for name in names)
        raise ValueError(
            "the checkpoint's weights belong to an encoder with other settings: add "
            f"{options.lower()} or use the configuration they were trained with"
        )


def _difference(encoder: Encoder, stored: dict[str, Any] | None) -> str:
    """What the configurations differ in, as a sentence."""
    if stored is None:
        return "It does not say how it was configured."
    theirs, mine = stored["encoder"], encoder.config
    if not same_class(theirs, mine):
        return f"Its encoder is a {theirs['class_path']}, this one a {mine['class_path']}."
    pairs = [f"{n} = {x} (here {y})" for n, y, x in differences(mine, completed(theirs))]
    return f"It has {', '.join(pairs[:4])}." if pairs else ""
