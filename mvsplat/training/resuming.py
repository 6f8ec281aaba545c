"""What a checkpoint needs, beyond Lightning's care, to go on exactly where a run was.

An optimizer step may take several batches (``accumulate_grad_batches``), whose gradients are not
in a checkpoint. One that was saved between them is read as if it were from the end of the last
complete step, and the data module goes on with that step's first batch. Counts of batches are
those of the ``accumulate_grad_batches`` of the run that goes on, so that it may be another one.
"""

from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch.optim import Optimizer

ACCUMULATED = "accumulate_grad_batches"
"""Where a checkpoint keeps the batches a step of the run that saved it."""

TRAINED = "trained_weights"
"""Where it keeps the weights that training goes on from, if its ``state_dict`` has averages."""

AVERAGED = "averaged_weights"
"""Where those averages are while it is read for training."""


def take_trained_weights(checkpoint: dict[str, Any]) -> None:
    """Let training go on from the weights that the averages in a checkpoint are of."""
    if TRAINED in checkpoint:
        averaged = checkpoint["state_dict"]
        checkpoint[AVERAGED] = {name: averaged[name] for name in checkpoint[TRAINED]}
        checkpoint["state_dict"] = averaged | checkpoint[TRAINED]


def rewind_to_step(checkpoint: dict[str, Any], accumulate: int) -> None:
    """Change a checkpoint's counts of batches to whole steps of ``accumulate`` batches each."""
    before = checkpoint.get(ACCUMULATED, accumulate)
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    current, total = progress["current"], progress["total"]
    interrupted = current["ready"] > current["processed"]
    if progress["is_last_batch"] and not interrupted:
        return  # which ends a step in any case; the next epoch counts from 0
    progress["is_last_batch"] = False
    steps, begun = divmod(current["processed"], before)
    change = steps * accumulate - current["processed"]
    for counts in (current, total):
        # Of a step that had begun, nothing is left: not even a last batch that is not completed,
        # nor one in which an exception ended the run.
        of_begun = dict.fromkeys(counts, counts["processed"])
        for name, count in (of_begun if begun or interrupted else counts).items():
            counts[name] = count + change


def take_optimizer_settings(checkpoint: dict[str, Any], optimizer: Optimizer) -> None:
    """Let the optimizer that was configured, not the checkpoint's, say how large steps are.

    A changed learning rate scales what the schedule has made of the former one.

    Args:
        checkpoint: What is going to be restored; changed in place.
        optimizer: As it was configured, before any step.

    Raises:
        ValueError: The checkpoint's optimizer was of another kind.
    """
    if not checkpoint["optimizer_states"]:
        return  # no step was taken: an imported checkpoint
    check_optimizer(checkpoint, optimizer)
    theirs = checkpoint["optimizer_states"][0]["param_groups"]
    mine = optimizer.param_groups
    for number, (their, my) in enumerate(zip(theirs, mine, strict=True)):
        rate = their.get("initial_lr", their["lr"])
        their.update({name: my[name] for name in _options(my) - {"lr"}})
        if rate == my["lr"]:
            continue
        rank_zero_info(f"The learning rate of {rate:g} becomes {my['lr']:g}.")
        their["lr"] *= my["lr"] / rate
        if "initial_lr" in their:
            their["initial_lr"] = my["lr"]
        for schedule in checkpoint["lr_schedulers"]:
            if "base_lrs" in schedule:
                schedule["base_lrs"][number] = my["lr"]


def check_optimizer(checkpoint: dict[str, Any], optimizer: Optimizer) -> None:
    """Refuse a checkpoint that the configured optimizer cannot go on from.

    Raises:
        ValueError: The checkpoint's optimizer was of another kind.
    """
    if not checkpoint["optimizer_states"]:
        return
    theirs = checkpoint["optimizer_states"][0]["param_groups"]
    if [_options(group) for group in theirs] != [_options(g) for g in optimizer.param_groups]:
        raise ValueError(
            f"the checkpoint's optimizer is no {type(optimizer).__name__} like the one that is "
            f"configured: its options are {', '.join(sorted(_options(theirs[0])))}; go on with the "
            "optimizer of its config.yaml"
        )


def _options(group: dict[str, Any]) -> set[str]:
    return set(group) - {"params", "initial_lr"}
