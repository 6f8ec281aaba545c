"""Whether memory suffices, before it is too late to say so."""

import math
from collections.abc import Sequence

from mvsplat.machine import free_memory
from mvsplat.refinement.parameters import Parameters
from mvsplat.refinement.photographs import Photograph

# Values, both of Adam's moments, and the best scene so far with them; and how much more while
# Gaussians are split.
_COPIES = 6 * 1.5
# A Gaussian in an engine's arrays; a pixel in them, in float32 pictures and their gradients.
_BYTES_A_GAUSSIAN, _BYTES_A_PIXEL = 300, 200
# All smaller pictures together, in units of the largest.
_PYRAMID = 1 / 3


def check_memory(
    count: int, parameters: Parameters, photographs: Sequence[Photograph], free: int | None = None
) -> None:
    """Check that there is memory for ``count`` Gaussians.

    Args:
        count: How many Gaussians there will be.
        parameters: As they start.
        photographs: All of them, in memory already.
        free: Bytes that can be had; None asks the system.

    Raises:
        ValueError: There is not; says what would fit.
    """
    free = free_memory() if free is None else free
    if free is None or parameters.means.device.type != "cpu":
        return
    numbers = sum(tensor[0].numel() for tensor in parameters.tensors().values())
    each = 4 * numbers * _COPIES + _BYTES_A_GAUSSIAN
    largest = max(math.prod(photograph.shape) for photograph in photographs)
    pictures = _BYTES_A_PIXEL * largest + _PYRAMID * sum(
        photograph.pixels.numel() for photograph in photographs
    )
    needed = each * count + pictures
    if needed <= free:
        return
    fitting = int((free - pictures) / each)
    advice = (
        f"max_gaussians {fitting} would fit"
        if fitting >= len(parameters)
        else "take smaller photographs, or start from fewer Gaussians"
    )
    raise ValueError(
        f"refining {count} Gaussians on {len(photographs)} photographs of up to {largest} pixels "
        f"needs about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free; {advice}"
    )
