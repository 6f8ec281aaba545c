"""What a checkpoint needs, beyond Lightning's care, to go on exactly where a run was.

An optimizer step may take several batches (``accumulate_grad_batches``), whose gradients are not
in a checkpoint. One that was saved between them is read as if it were from the end of the last
complete step, and the data module goes on with that step's first batch. Counts of batches are
those of the ``accumulate_grad_batches`` of the run that goes on, so that it may be another one.
"""

from typing import Any

ACCUMULATED = "accumulate_grad_batches"
"""Where a checkpoint keeps the batches a step of the run that saved it."""


def rewind_to_step(checkpoint: dict[str, Any], accumulate: int) -> None:
    """Change a checkpoint's counts of batches to whole steps of ``accumulate`` batches each."""
    before = checkpoint.get(ACCUMULATED, accumulate)
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    if progress["is_last_batch"]:
        return  # which ends a step in any case; the next epoch counts from 0
    current, total = progress["current"], progress["total"]
    steps, begun = divmod(current["processed"], before)
    change = steps * accumulate - current["processed"]
    for counts in (current, total):
        # Of a step that had begun, nothing is left: not even a last batch that is not completed.
        of_begun = dict.fromkeys(counts, counts["processed"])
        for name, count in (of_begun if begun else counts).items():
            counts[name] = count + change
