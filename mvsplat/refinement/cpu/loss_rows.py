"""Kernel: the photometric loss and its gradient in one pass over the rows of a picture.

What it computes is ``refinement.loss.photometric_loss``; here is how. SSIM's Gaussian window is
separable, and so is the way back. A strip of rows is walked from above: each row of pixels is
averaged along the row; once there are eleven, the row of windows around the sixth is known, with
the loss's derivatives with respect to its means; these are averaged along the row, too, and once
there are eleven rows of them, a row of the gradient is complete. Only eleven rows of each are
kept, which fit into a core's cache.
"""

import math

import numpy as np

from mvsplat.decoder.cpu.simd import (
    WIDTH,
    fma,
    lane_numbers,
    larger,
    load,
    select,
    smaller,
    spread,
    store,
    store_where,
    total,
)
from mvsplat.kernels import inlined, kernel
from mvsplat.refinement.loss import C1, C2, SIGMA, WINDOW

EDGE = WINDOW // 2
LUMINANCE, STRUCTURE = np.float32(C1), np.float32(C2)
UNBIASED = np.float32(WINDOW**2 / (WINDOW**2 - 1))

_FALLOFF = [math.exp(-((i - EDGE) ** 2) / (2 * SIGMA**2)) for i in range(WINDOW)]
# Twice the window's weights: a stretch of it is the window, turned for a ring of rows.
WEIGHTS = np.array([w / sum(_FALLOFF) for w in _FALLOFF] * 2, dtype=np.float32)

# Colours are less one half here: variances are differences of squares, and squares of smaller
# numbers lose less.
HALF = np.float32(0.5)

# Rows of scratch: the rendering as it came, and exposed; the photograph; whether pixels count (1
# or 0); the sum of the two pictures' squares, and their product.
RAW, SHOWN, PHOTO, COUNTED, SQUARES, PRODUCT = range(6)
# The loss's derivatives with respect to windows' means of SHOWN, SQUARES and PRODUCT, after one
# vector of zeros; and whether windows count.
TO_SHOWN, TO_SQUARES, TO_PRODUCT, CENTRES = range(6, 10)
# Rings of eleven rows: means along rows of SHOWN, PHOTO, SQUARES and PRODUCT; what flows back to
# SHOWN, SQUARES and PRODUCT.
MEANS, BACK = 10, 10 + 4 * WINDOW
ROWS = BACK + 3 * WINDOW

# What is summed: absolute differences, squared ones after clipping, 1 - SSIM, and the gradients of
# the exposure's gain and offset.
ABSOLUTE, SQUARE, DISSIMILAR, GAIN, OFFSET = range(5)
SUMS = 5


def row_length(width: int) -> int:
    """Numbers in a row of scratch: vectors reach past both ends of a picture's row."""
    return (width + WIDTH - 1) // WIDTH * WIDTH + 4 * WIDTH


@inlined
def _along(scratch, at):
    """Means of eleven neighbours in a row, the first of which are ``at``."""
    result = load(scratch, at) * WEIGHTS[0]
    for i in range(1, WINDOW):
        result = fma(load(scratch, at + i), WEIGHTS[i], result)
    return result


@inlined
def _down(scratch, at, turn, length):
    """Means of a ring's eleven rows; ``at`` is in the first, ``turn`` where the weights begin."""
    result = load(scratch, at) * WEIGHTS[turn]
    for i in range(1, WINDOW):
        result = fma(load(scratch, at + i * length), WEIGHTS[turn + i], result)
    return result


@inlined
def _turn(oldest):
    """Where the weights begin for a ring of rows, the oldest of which is given."""
    return WINDOW - oldest % WINDOW


@inlined
def _read_row(rendered, photo, mask, gain, offset, row, scratch, length):
    """Fill the rows of scratch that a row of pixels determines."""
    raw, shown, truth, counted = RAW * length, SHOWN * length, PHOTO * length, COUNTED * length
    shift = offset - HALF
    for x in range(rendered.shape[1]):
        scratch[raw + x] = rendered[row, x]
        scratch[truth + x] = np.float32(photo[row, x]) * np.float32(1 / 255) - HALF
        scratch[shown + x] = rendered[row, x] * gain + shift
        scratch[counted + x] = np.float32(1)
    if mask is not None:
        for x in range(rendered.shape[1]):
            if not mask[row, x]:  # the rendering is taken to be right
                scratch[shown + x] = scratch[truth + x]
                scratch[counted + x] = np.float32(0)


@inlined
def _average_row(row, width, scratch, length):
    """Means along the row that was read last, into the rings."""
    for x in range(0, width, WIDTH):
        shown, photo = load(scratch, SHOWN * length + x), load(scratch, PHOTO * length + x)
        store(scratch, SQUARES * length + x, fma(shown, shown, photo * photo))
        store(scratch, PRODUCT * length + x, shown * photo)
    ring = (MEANS + row % WINDOW) * length
    for x in range(0, width - WINDOW + 1, WIDTH):
        store(scratch, ring + x, _along(scratch, SHOWN * length + x))
        store(scratch, ring + WINDOW * length + x, _along(scratch, PHOTO * length + x))
        store(scratch, ring + 2 * WINDOW * length + x, _along(scratch, SQUARES * length + x))
        store(scratch, ring + 3 * WINDOW * length + x, _along(scratch, PRODUCT * length + x))


@inlined
def _compare_windows(row, width, share, scratch, length):
    """Write the derivatives for the windows around a row; returns the sum of their 1 - SSIM."""
    turn, ring = _turn(row - EDGE), MEANS * length
    dissimilar = spread(0.0)
    for x in range(0, width - WINDOW + 1, WIDTH):
        mean_x = _down(scratch, ring + x, turn, length)
        mean_y = _down(scratch, ring + WINDOW * length + x, turn, length)
        squares = _down(scratch, ring + 2 * WINDOW * length + x, turn, length)
        product = _down(scratch, ring + 3 * WINDOW * length + x, turn, length)
        variances = (squares - mean_x * mean_x - mean_y * mean_y) * UNBIASED + STRUCTURE
        covariance = (product - mean_x * mean_y) * (2 * UNBIASED) + STRUCTURE
        light_x, light_y = mean_x + HALF, mean_y + HALF
        both_lights = fma(light_x, light_x, light_y * light_y) + LUMINANCE
        shared_light = 2 * light_x * light_y + LUMINANCE
        counted = load(scratch, CENTRES * length + x)
        inverse = spread(1.0) / (both_lights * variances)
        similarity = shared_light * covariance * inverse
        dissimilar = fma(1.0 - similarity, counted, dissimilar)
        # 1 - SSIM, times its share of the loss.
        weight = counted * (0.0 - share)
        to_product = shared_light * inverse * (2 * UNBIASED)
        to_squares = similarity * both_lights * inverse * (0 - UNBIASED)
        to_light = 2 * (light_y * covariance - light_x * similarity * variances) * inverse
        to_shown = to_light - 2 * mean_x * to_squares - mean_y * to_product
        at = WIDTH + x
        store(scratch, TO_SHOWN * length + at, to_shown * weight)
        store(scratch, TO_SQUARES * length + at, to_squares * weight)
        store(scratch, TO_PRODUCT * length + at, to_product * weight)
    return total(dissimilar)


@inlined
def _spread_row(row, width, scratch, length):
    """Average the derivatives along the row, into the rings of what flows back."""
    ring = (BACK + row % WINDOW) * length
    for x in range(0, width, WIDTH):
        # The last window that sees a pixel begins at it, the first one ten before it.
        at = WIDTH - (WINDOW - 1) + x
        store(scratch, ring + x, _along(scratch, TO_SHOWN * length + at))
        store(scratch, ring + WINDOW * length + x, _along(scratch, TO_SQUARES * length + at))
        store(scratch, ring + 2 * WINDOW * length + x, _along(scratch, TO_PRODUCT * length + at))


@inlined
def _clear_row(row, scratch, length):
    for ring in range(3):
        at = (BACK + ring * WINDOW + row % WINDOW) * length
        scratch[at : at + length] = 0.0


@inlined
def _count_windows(row, width, mask, scratch, length):
    centres = CENTRES * length
    for x in range(width - WINDOW + 1):
        counts = True if mask is None else mask[row, x + EDGE]
        scratch[centres + x] = np.float32(1) if counts else np.float32(0)


@inlined
def _write_gradient(row, width, share, gain, scratch, length, gradient, at, sums):
    """Write a row of the gradient to ``gradient`` from ``at`` on, and add to the sums."""
    turn, ring = _turn(row - EDGE), BACK * length
    absolute, square, to_gain, to_offset = spread(0.0), spread(0.0), spread(0.0), spread(0.0)
    for x in range(0, width, WIDTH):
        shown, photo = load(scratch, SHOWN * length + x), load(scratch, PHOTO * length + x)
        difference = shown - photo
        slope = select(difference < 0.0, 0.0 - share, select(difference > 0.0, share, 0.0))
        slope = slope + _down(scratch, ring + x, turn, length)
        to_squares = _down(scratch, ring + WINDOW * length + x, turn, length)
        slope = fma(2 * shown, to_squares, slope)
        to_product = _down(scratch, ring + 2 * WINDOW * length + x, turn, length)
        counted = load(scratch, COUNTED * length + x)
        slope = fma(photo, to_product, slope) * counted
        store_where(lane_numbers() < width - x, gradient, at + x, slope * gain)
        absolute = absolute + larger(difference, 0.0 - difference)
        clipped = (smaller(larger(shown, 0 - HALF), HALF) - photo) * counted
        square = fma(clipped, clipped, square)
        to_gain = fma(slope, load(scratch, RAW * length + x), to_gain)
        to_offset = to_offset + slope
    sums[ABSOLUTE] += total(absolute)
    sums[SQUARE] += total(square)
    sums[GAIN] += total(to_gain)
    sums[OFFSET] += total(to_offset)


@kernel
def compare_rows(
    rendered, photo, mask, gain, offset, pixel_share, window_share, top, bottom,
    gradient, start, sums, scratch, length,
):  # fmt: skip
    """Compare rows top..bottom of one channel, and write the loss's gradient for them.

    ``rendered`` (float32) and ``photo`` (uint8) are [height, width], ``mask`` (bool) too or None;
    the rendering times ``gain`` plus ``offset`` is compared. ``pixel_share`` and ``window_share``
    are what one unit of a pixel's absolute difference and of a window's 1 - SSIM add to the loss.
    ``gradient`` is flat, the channel's first pixel at ``start``; ``sums`` [5] is this job's own,
    and zero; ``scratch`` [ROWS * length] is zero.
    """
    height, width = rendered.shape
    next_row = max(top - 2 * EDGE, 0)
    for row in range(top - EDGE, bottom + EDGE):
        if width >= WINDOW and EDGE <= row < height - EDGE:
            while next_row <= row + EDGE:
                _read_row(rendered, photo, mask, gain, offset, next_row, scratch, length)
                _average_row(next_row, width, scratch, length)
                next_row += 1
            _count_windows(row, width, mask, scratch, length)
            dissimilar = _compare_windows(row, width, window_share, scratch, length)
            if top <= row < bottom:  # else it is another job's
                sums[DISSIMILAR] += dissimilar
            _spread_row(row, width, scratch, length)
        else:
            _clear_row(row, scratch, length)
        done = row - EDGE
        if done >= top:
            _read_row(rendered, photo, mask, gain, offset, done, scratch, length)
            at = start + done * width
            _write_gradient(done, width, pixel_share, gain, scratch, length, gradient, at, sums)
