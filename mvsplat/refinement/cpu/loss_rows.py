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
    select,
    smaller,
    spread,
    total,
)
from mvsplat.decoder.cpu.simd_memory import load, load_bytes, store, store_where
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
HALF, BYTE = np.float32(0.5), np.float32(1 / 255)

# A picture is worked on in columns of so many pixels, with ten more on either side, so that all
# rows of scratch together fit into a core's nearest cache.
BLOCK, LENGTH = 96, 128

# Rows of scratch: the rendering as it came, and exposed; the photograph; whether pixels count (1
# or 0); the sum of the two pictures' squares, and their product.
RAW, SHOWN, PHOTO, COUNTED, SQUARES, PRODUCT = range(6)
# The loss's derivatives with respect to windows' means of SHOWN, SQUARES and PRODUCT, after one
# vector of zeros; whether windows count, and whether they are this block's to sum.
TO_SHOWN, TO_SQUARES, TO_PRODUCT, CENTRES, OWNED = range(6, 11)
# Rings of eleven rows: means along rows of SHOWN, PHOTO, SQUARES and PRODUCT; what flows back to
# SHOWN, SQUARES and PRODUCT.
MEANS, BACK = 11, 11 + 4 * WINDOW
ROWS = BACK + 3 * WINDOW

# What is summed: absolute differences, squared ones after clipping, 1 - SSIM, and the gradients of
# the exposure's gain and offset.
ABSOLUTE, SQUARE, DISSIMILAR, GAIN, OFFSET = range(5)
SUMS = 5


@inlined
def _along(scratch, at):
    """Means of eleven neighbours in a row, the first of which are ``at``."""
    result = load(scratch, at) * WEIGHTS[0]
    for i in range(1, WINDOW):
        result = fma(load(scratch, at + i), WEIGHTS[i], result)
    return result


@inlined
def _down(scratch, at, turn):
    """Means of a ring's eleven rows; ``at`` is in the first, ``turn`` where the weights begin."""
    result = load(scratch, at) * WEIGHTS[turn]
    for i in range(1, WINDOW):
        result = fma(load(scratch, at + i * LENGTH), WEIGHTS[turn + i], result)
    return result


@inlined
def _turn(oldest):
    """Where the weights begin for a ring of rows, the oldest of which is given."""
    return WINDOW - oldest % WINDOW


@inlined
def _read_row(rendered, photo, mask, gain, offset, at, count, scratch):
    """Fill the rows of scratch that pixels determine: ``count`` of them, from ``at`` on."""
    shift = offset - HALF
    whole = count // WIDTH * WIDTH
    for x in range(0, whole, WIDTH):
        raw = load(rendered, at + x)
        store(scratch, RAW * LENGTH + x, raw)
        store(scratch, SHOWN * LENGTH + x, fma(raw, gain, shift))
        store(scratch, PHOTO * LENGTH + x, fma(load_bytes(photo, at + x), BYTE, 0.0 - HALF))
    for x in range(whole, count):
        raw = rendered[at + x]
        scratch[RAW * LENGTH + x] = raw
        scratch[SHOWN * LENGTH + x] = raw * gain + shift
        scratch[PHOTO * LENGTH + x] = np.float32(photo[at + x]) * BYTE - HALF
    if len(mask) > 0:
        for x in range(count):
            counts = mask[at + x]
            scratch[COUNTED * LENGTH + x] = np.float32(1) if counts else np.float32(0)
            if not counts:  # the rendering is taken to be right
                scratch[SHOWN * LENGTH + x] = scratch[PHOTO * LENGTH + x]


@inlined
def _average_row(row, windows, scratch):
    """Means along the row that was read last, into the rings."""
    for x in range(0, windows + WINDOW - 1, WIDTH):
        shown, photo = load(scratch, SHOWN * LENGTH + x), load(scratch, PHOTO * LENGTH + x)
        store(scratch, SQUARES * LENGTH + x, fma(shown, shown, photo * photo))
        store(scratch, PRODUCT * LENGTH + x, shown * photo)
    ring = (MEANS + row % WINDOW) * LENGTH
    for x in range(0, windows, WIDTH):
        store(scratch, ring + x, _along(scratch, SHOWN * LENGTH + x))
        store(scratch, ring + WINDOW * LENGTH + x, _along(scratch, PHOTO * LENGTH + x))
        store(scratch, ring + 2 * WINDOW * LENGTH + x, _along(scratch, SQUARES * LENGTH + x))
        store(scratch, ring + 3 * WINDOW * LENGTH + x, _along(scratch, PRODUCT * LENGTH + x))


@inlined
def _compare_windows(row, windows, share, scratch):
    """Write the derivatives for the windows around a row; returns the sum of their 1 - SSIM."""
    turn, ring = _turn(row - EDGE), MEANS * LENGTH
    dissimilar = spread(0.0)
    for x in range(0, windows, WIDTH):
        mean_x = _down(scratch, ring + x, turn)
        mean_y = _down(scratch, ring + WINDOW * LENGTH + x, turn)
        squares = _down(scratch, ring + 2 * WINDOW * LENGTH + x, turn)
        product = _down(scratch, ring + 3 * WINDOW * LENGTH + x, turn)
        variances = (squares - mean_x * mean_x - mean_y * mean_y) * UNBIASED + STRUCTURE
        covariance = (product - mean_x * mean_y) * (2 * UNBIASED) + STRUCTURE
        light_x, light_y = mean_x + HALF, mean_y + HALF
        both_lights = fma(light_x, light_x, light_y * light_y) + LUMINANCE
        shared_light = 2 * light_x * light_y + LUMINANCE
        counted = load(scratch, CENTRES * LENGTH + x)
        inverse = spread(1.0) / (both_lights * variances)
        similarity = shared_light * covariance * inverse
        owned = counted * load(scratch, OWNED * LENGTH + x)
        dissimilar = fma(1.0 - similarity, owned, dissimilar)
        # 1 - SSIM, times its share of the loss.
        weight = counted * (0.0 - share)
        to_product = shared_light * inverse * (2 * UNBIASED)
        to_squares = similarity * both_lights * inverse * (0 - UNBIASED)
        to_light = 2 * (light_y * covariance - light_x * similarity * variances) * inverse
        to_shown = to_light - 2 * mean_x * to_squares - mean_y * to_product
        at = WIDTH + x
        store(scratch, TO_SHOWN * LENGTH + at, to_shown * weight)
        store(scratch, TO_SQUARES * LENGTH + at, to_squares * weight)
        store(scratch, TO_PRODUCT * LENGTH + at, to_product * weight)
    return total(dissimilar)


@inlined
def _spread_row(row, inset, count, scratch):
    """Average the derivatives along the row, into the rings of what flows back to the pixels."""
    ring = (BACK + row % WINDOW) * LENGTH
    for x in range(0, count, WIDTH):
        # The first window that sees a pixel begins ten before it, the last one at it.
        at = WIDTH - (WINDOW - 1) + inset + x
        store(scratch, ring + x, _along(scratch, TO_SHOWN * LENGTH + at))
        store(scratch, ring + WINDOW * LENGTH + x, _along(scratch, TO_SQUARES * LENGTH + at))
        store(scratch, ring + 2 * WINDOW * LENGTH + x, _along(scratch, TO_PRODUCT * LENGTH + at))


@inlined
def _clear_row(row, scratch):
    for ring in range(3):
        at = (BACK + ring * WINDOW + row % WINDOW) * LENGTH
        scratch[at : at + LENGTH] = 0.0


@inlined
def _count_windows(mask, at, windows, scratch):
    """Which windows count, the first one centred ``at``."""
    for x in range(windows):
        scratch[CENTRES * LENGTH + x] = np.float32(1) if mask[at + x] else np.float32(0)


@inlined
def _write_gradient(row, inset, count, share, gain, scratch, gradient, at, sums):
    """Write part of a row of the gradient to ``gradient`` from ``at`` on, and add to the sums."""
    turn, ring = _turn(row - EDGE), BACK * LENGTH
    absolute, square, to_gain, to_offset = spread(0.0), spread(0.0), spread(0.0), spread(0.0)
    for x in range(0, count, WIDTH):
        place = inset + x
        shown, photo = load(scratch, SHOWN * LENGTH + place), load(scratch, PHOTO * LENGTH + place)
        within = lane_numbers() < count - x
        difference = select(within, shown - photo, 0.0)
        slope = select(difference < 0.0, 0.0 - share, select(difference > 0.0, share, 0.0))
        slope = slope + _down(scratch, ring + x, turn)
        to_squares = _down(scratch, ring + WINDOW * LENGTH + x, turn)
        slope = fma(2 * shown, to_squares, slope)
        to_product = _down(scratch, ring + 2 * WINDOW * LENGTH + x, turn)
        counted = select(within, load(scratch, COUNTED * LENGTH + place), 0.0)
        slope = fma(photo, to_product, slope) * counted
        store_where(within, gradient, at + x, slope * gain)
        absolute = absolute + larger(difference, 0.0 - difference)
        clipped = (smaller(larger(shown, 0 - HALF), HALF) - photo) * counted
        square = fma(clipped, clipped, square)
        to_gain = fma(slope, load(scratch, RAW * LENGTH + place), to_gain)
        to_offset = to_offset + slope
    sums[ABSOLUTE] += total(absolute)
    sums[SQUARE] += total(square)
    sums[GAIN] += total(to_gain)
    sums[OFFSET] += total(to_offset)


@inlined
def _start(first, last, left, right, windows, scratch):
    """Clear the scratch, and note which pixels and windows there are."""
    scratch[:] = 0.0
    for x in range(last - first):
        scratch[COUNTED * LENGTH + x] = 1.0
    for x in range(windows):
        scratch[CENTRES * LENGTH + x] = 1.0
        centre = first + x + EDGE
        scratch[OWNED * LENGTH + x] = 1.0 if left <= centre < right else 0.0


@inlined
def _compare_block(
    rendered, photo, mask, gain, offset, pixel_share, window_share, height, width,
    top, bottom, left, right, gradient, sums, scratch,
):  # fmt: skip
    """As ``compare_rows``, for columns left..right only; pictures are flat."""
    first, last = max(left - 2 * EDGE, 0), min(right + 2 * EDGE, width)
    windows = max(last - first - 2 * EDGE, 0) if height >= WINDOW else 0
    _start(first, last, left, right, windows, scratch)
    next_row, inset = max(top - 2 * EDGE, 0), left - first
    for row in range(top - EDGE, bottom + EDGE):
        if windows > 0 and EDGE <= row < height - EDGE:
            while next_row <= row + EDGE:
                at = next_row * width + first
                _read_row(rendered, photo, mask, gain, offset, at, last - first, scratch)
                _average_row(next_row, windows, scratch)
                next_row += 1
            if len(mask) > 0:
                _count_windows(mask, row * width + first + EDGE, windows, scratch)
            dissimilar = _compare_windows(row, windows, window_share, scratch)
            if top <= row < bottom:  # else it is another job's
                sums[DISSIMILAR] += dissimilar
            _spread_row(row, inset, right - left, scratch)
        else:
            _clear_row(row, scratch)
        done = row - EDGE
        if done >= top:
            at = done * width + first
            _read_row(rendered, photo, mask, gain, offset, at, last - first, scratch)
            at = done * width + left
            _write_gradient(
                done, inset, right - left, pixel_share, gain, scratch, gradient, at, sums
            )


@kernel
def compare_rows(
    rendered, photo, mask, gain, offset, pixel_share, window_share, width, top, bottom,
    gradient, sums, scratch,
):  # fmt: skip
    """Compare rows top..bottom of one channel, and write the loss's gradient for them.

    ``rendered`` (float32), ``photo`` (uint8), ``mask`` (bool) and ``gradient`` are flat
    [height * width], but ``mask`` is empty where all pixels count. The rendering times ``gain``
    plus ``offset`` is compared. ``pixel_share`` and ``window_share`` are what one unit of a pixel's
    absolute difference and of a window's 1 - SSIM add to the loss. ``sums`` [5] is this job's own,
    and zero; ``scratch`` is [ROWS * LENGTH].
    """
    height = len(rendered) // width
    for left in range(0, width, BLOCK):
        _compare_block(
            rendered, photo, mask, gain, offset, pixel_share, window_share, height, width,
            top, bottom, left, min(left + BLOCK, width), gradient, sums, scratch,
        )  # fmt: skip
