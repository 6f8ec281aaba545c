"""The photometric loss with its gradient: what runs the kernel over a picture's strips."""

from typing import NamedTuple

import numpy as np

from mvsplat.decoder.cpu.buffers import Allocate, fresh
from mvsplat.decoder.cpu.threads import run_all
from mvsplat.refinement.cpu import loss_rows
from mvsplat.refinement.loss import SSIM_SHARE, WINDOW

# Rows that are worked on separately, whatever the number of threads, so that sums do not depend on
# it. Ten rows above and below are computed twice.
STRIP = 128


class Comparison(NamedTuple):
    """What comparing a rendering with a photograph gives."""

    loss: float
    mse: float  # of colours clipped to [0, 1]
    gradient: np.ndarray  # of the rendering, [3, height, width]
    exposure: np.ndarray  # of each channel's gain and offset, [3, 2]


def compare(
    rendered: np.ndarray,
    photo: np.ndarray,
    mask: np.ndarray | None = None,
    exposure: np.ndarray | None = None,
    allocate: Allocate = fresh,
) -> Comparison:
    """``refinement.loss.photometric_loss`` of the exposed rendering, and all its gradients.

    Args:
        rendered: Colours, float32 [3, height, width].
        photo: 8-bit colours [3, height, width].
        mask: Which pixels count, [height, width]; None where all do.
        exposure: Each channel's gain and offset [3, 2], which the rendering is multiplied by and
            shifted by; None changes nothing.
        allocate: Gives the arrays.
    """
    _, height, width = rendered.shape
    pixels, windows = _counted(height, width, mask)
    light = np.array([[1, 0]] * 3 if exposure is None else exposure, dtype=np.float32)
    gradient = allocate("gradient of color", rendered.shape, np.float32)
    shares = np.float32((1 - SSIM_SHARE) / (3 * pixels)), np.float32(SSIM_SHARE / (3 * windows))
    cuts = range(0, height, STRIP)
    strips = [(c, top, min(top + STRIP, height)) for c in range(3) for top in cuts]
    sums = np.zeros((len(strips), loss_rows.SUMS))
    flat = [array.reshape(3, -1) for array in (rendered, photo, gradient)]
    counts = np.empty(0, bool) if mask is None else mask.reshape(-1)
    run_all(
        loss_rows.compare_rows,
        [
            (
                flat[0][c], flat[1][c], counts, *light[c], *shares, width, top, bottom,
                flat[2][c], sums[job], fresh("rows", (loss_rows.ROWS * loss_rows.LENGTH,)),
            )
            for job, (c, top, bottom) in enumerate(strips)
        ],
    )  # fmt: skip
    channels = sums.reshape(3, len(cuts), loss_rows.SUMS).sum(axis=1)
    totals = channels.sum(axis=0)
    loss = float(shares[0]) * totals[loss_rows.ABSOLUTE]
    loss += float(shares[1]) * totals[loss_rows.DISSIMILAR]
    mse = totals[loss_rows.SQUARE] / (3 * pixels)
    return Comparison(float(loss), float(mse), gradient, channels[:, loss_rows.GAIN :])


def _counted(height: int, width: int, mask: np.ndarray | None) -> tuple[int, int]:
    """How many pixels and how many windows count, at least one of each."""
    edge = WINDOW // 2
    if mask is None:
        return height * width, max(height - 2 * edge, 1) * max(width - 2 * edge, 1)
    inner = mask[edge : height - edge, edge : width - edge]
    return max(int(np.count_nonzero(mask)), 1), max(int(np.count_nonzero(inner)), 1)
