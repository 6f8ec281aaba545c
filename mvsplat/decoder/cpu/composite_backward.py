"""Kernel: gradients of compositing, each tile's Gaussians back to front.

Transmittance is rebuilt by division; ``behind`` is what lies behind the current Gaussian, weighted
by the output's gradient.  A Gaussian's gradients are summed over a tile in registers, and written
to the slot of the (Gaussian, tile) pair: no atomics, and the same bits for any number of threads.
"""

import numpy as np

from mvsplat.decoder.cpu import footprint as fp
from mvsplat.decoder.cpu.composite import (
    AHEAD,
    ALPHA_CUT,
    ALPHA_MAX,
    BLOCKS,
    LAST,
    PLANE,
    TRANSMITTANCE,
    block_range,
    falloff,
    is_inside,
    place_of,
    tile_frame,
)
from mvsplat.decoder.cpu.simd import (
    WIDTH,
    anywhere,
    both,
    fma,
    greatest,
    lane_columns,
    lane_rows,
    larger,
    select,
    smaller,
    spread,
    total,
)
from mvsplat.decoder.cpu.simd_memory import BLOCK, load, load_block, prefetch, store
from mvsplat.decoder.cpu.tiles import TILE
from mvsplat.kernels import inlined, kernel

# More planes of the state than the forward pass has.
BEHIND, GRAD_RED, GRAD_GREEN, GRAD_BLUE, GRAD_DEPTH = range(LAST + 1, LAST + 6)
PLANES = LAST + 6

# Gradients of a (Gaussian, tile) pair, in the order of the first ten fields of a record.
PAIR = 10

# What is not asked for, or not given, is None: numba then compiles the kernel without its branches.


@inlined
def _start_pixels(
    state, view, tile_x, tile_y, background,
    grad_color, grad_depth, grad_through, transmittance, last,
):  # fmt: skip
    """As ``_start_backward``, for a tile that reaches beyond the picture."""
    height, width = transmittance.shape
    state[:] = 0.0
    farthest = 0
    for y in range(tile_y, min(tile_y + TILE, height)):
        for x in range(tile_x, min(tile_x + TILE, width)):
            at = place_of(y - tile_y, x - tile_x)
            through = transmittance[y, x]
            behind = np.float32(0)
            if grad_through is not None:
                behind = grad_through[view, y, x]
            for channel in range(3):
                grad = grad_color[channel, y, x]
                behind += background[channel] * grad
                state[(GRAD_RED + channel) * PLANE + at] = grad
            if grad_depth is not None:
                state[GRAD_DEPTH * PLANE + at] = grad_depth[view, y, x]
            state[TRANSMITTANCE * PLANE + at] = through
            state[BEHIND * PLANE + at] = behind * through
            state[LAST * PLANE + at] = last[y, x]
            farthest = max(farthest, last[y, x])
    return farthest


@inlined
def _start_backward(
    state, view, tile_x, tile_y, background,
    grad_color, grad_depth, grad_through, transmittance, last,
):  # fmt: skip
    """Fill the backward state from the outputs; returns the farthest last position.

    ``grad_depth`` and ``grad_through`` are of all views, or None.
    """
    height, width = transmittance.shape
    if not is_inside(tile_x, tile_y, height, width):
        return _start_pixels(
            state, view, tile_x, tile_y, background,
            grad_color, grad_depth, grad_through, transmittance, last,
        )  # fmt: skip
    farthest = spread(0.0)
    for block in range(BLOCKS * BLOCKS):
        at, row, column = block * WIDTH, block // BLOCKS * BLOCK, block % BLOCKS * BLOCK
        pixel = (tile_y + row) * width + tile_x + column
        of_view = view * height * width + pixel
        through = load_block(transmittance, pixel, width)
        behind = spread(0.0)
        if grad_through is not None:
            behind = load_block(grad_through, of_view, width)
        for channel in range(3):
            grad = load_block(grad_color, channel * height * width + pixel, width)
            behind = behind + background[channel] * grad
            store(state, (GRAD_RED + channel) * PLANE + at, grad)
        if grad_depth is not None:
            store(state, GRAD_DEPTH * PLANE + at, load_block(grad_depth, of_view, width))
        store(state, TRANSMITTANCE * PLANE + at, through)
        store(state, BEHIND * PLANE + at, behind * through)
        position = load_block(last, pixel, width)
        store(state, LAST * PLANE + at, position)
        farthest = larger(farthest, position)
    return int(greatest(farthest))


@inlined
def _unblend(state, at, alpha, drawn, record, grad_depth):
    """Undo the blending of one block of pixels, whose state is at ``at``.

    Returns the weight that the Gaussian had, the gradient of its alpha, and those of the output's
    red, green, blue and depth.
    """
    through, behind = load(state, at), load(state, BEHIND * PLANE + at)
    red, green = load(state, GRAD_RED * PLANE + at), load(state, GRAD_GREEN * PLANE + at)
    blue, depth = load(state, GRAD_BLUE * PLANE + at), spread(0.0)
    # Alpha is at most 0.999, so that this loses three digits at worst.
    inverse = spread(1.0) / (1.0 - alpha)
    before = through * inverse
    weight = select(drawn, alpha * before, 0.0)
    gain = fma(green, record[fp.GREEN], red * record[fp.RED])
    gain = fma(blue, record[fp.BLUE], gain)
    if grad_depth is not None:
        depth = load(state, GRAD_DEPTH * PLANE + at)
        gain = fma(depth, record[fp.DEPTH], gain)
    store(state, at, select(drawn, before, through))
    store(state, BEHIND * PLANE + at, fma(weight, gain, behind))
    return weight, before * gain - behind * inverse, red, green, blue, depth


@inlined
def _write_pair(grads, record, color, moments):
    """The ten gradients of a record, from sums over the tile's pixels.

    ``color``: of red, green, blue and depth.  ``moments``: of 1, dx, dy, dx^2, dx dy and dy^2,
    weighted by minus the gradient of the exponent.
    """
    slope, spread_x, spread_y = record[fp.SLOPE], record[fp.SPREAD_X], record[fp.SPREAD_Y]
    along = 2 * spread_x * total(moments[1])
    grads[fp.X] = along
    grads[fp.Y] = 2 * spread_y * total(moments[2]) - slope * along
    grads[fp.SLOPE] = 2 * spread_x * total(moments[4])
    grads[fp.SPREAD_X] = -total(moments[3])
    grads[fp.SPREAD_Y] = -total(moments[5])
    grads[fp.OPACITY] = total(moments[0]) / record[fp.OPACITY]
    grads[fp.RED] = total(color[0])
    grads[fp.GREEN] = total(color[1])
    grads[fp.BLUE] = total(color[2])
    grads[fp.DEPTH] = total(color[3])


@inlined
def _size(values):
    return larger(values, 0.0 - values)


@inlined
def _draw_backward(record, state, position, tile_x, tile_y, grad_depth, grads, slot, pair_sizes):
    """Undo one Gaussian's blending and write the ten gradients of its record.

    ``pair_sizes``, unless it is None, receives in its row ``slot`` the sums over pixels of the
    absolute values of what pixels contribute to the gradients of x and y.
    """
    left, right, top, bottom = block_range(record, tile_x, tile_y)
    line, below = tile_frame(record, tile_x, tile_y)
    slope, spread_x, spread_y = record[fp.SLOPE], record[fp.SPREAD_X], record[fp.SPREAD_Y]
    lane_y = lane_rows()
    slanted = fma(lane_y, -slope, lane_columns())
    to_red, to_green, to_blue, to_depth = spread(0.0), spread(0.0), spread(0.0), spread(0.0)
    sum_1, sum_x, sum_y = spread(0.0), spread(0.0), spread(0.0)
    sum_xx, sum_xy, sum_yy = spread(0.0), spread(0.0), spread(0.0)
    size_x, size_y = spread(0.0), spread(0.0)
    for row in range(top, bottom):
        dy = lane_y + (below + np.float32(BLOCK * row))
        shift = line + slope * np.float32(BLOCK * row)
        for column in range(left, right):
            at = (row * BLOCKS + column) * WIDTH
            dx = slanted - (shift - np.float32(BLOCK * column))
            fall, near = falloff(dx, dy, spread_x, spread_y)
            full = fall * record[fp.OPACITY]
            alpha = smaller(full, ALPHA_MAX)
            drawn = both(near, alpha >= ALPHA_CUT)
            drawn = both(drawn, load(state, LAST * PLANE + at) >= position)
            if not anywhere(drawn):
                continue
            weight, to_alpha, red, green, blue, depth = _unblend(
                state, at, alpha, drawn, record, grad_depth
            )
            to_red, to_green = fma(weight, red, to_red), fma(weight, green, to_green)
            to_blue = fma(weight, blue, to_blue)
            if grad_depth is not None:
                to_depth = fma(weight, depth, to_depth)
            # alpha = opacity exp(-s), so this is minus the gradient of the exponent s.
            # Nothing flows where alpha was cut down to its maximum.
            pull = select(both(drawn, full <= ALPHA_MAX), full * to_alpha, 0.0)
            pull_x, pull_y = pull * dx, pull * dy
            sum_1, sum_x, sum_y = sum_1 + pull, sum_x + pull_x, sum_y + pull_y
            sum_xx, sum_xy = fma(pull_x, dx, sum_xx), fma(pull_x, dy, sum_xy)
            sum_yy = fma(pull_y, dy, sum_yy)
            if pair_sizes is not None:
                size_x = size_x + _size(pull_x)
                leaning = spread_y * pull_y - slope * spread_x * pull_x
                size_y = size_y + _size(leaning)
    color = to_red, to_green, to_blue, to_depth
    _write_pair(grads, record, color, (sum_1, sum_x, sum_y, sum_xx, sum_xy, sum_yy))
    if pair_sizes is not None:
        pair_sizes[slot, 0] = 2 * spread_x * total(size_x)
        pair_sizes[slot, 1] = 2 * total(size_y)


@kernel
def composite_backward(
    records, words, tile_starts, first, last_tile, state, background, grad_color, grad_depth,
    grad_transmittance, transmittance, last, pair_grads, pair_sizes,
):  # fmt: skip
    """Write the gradients of every (Gaussian, tile) pair of tiles first..last_tile.

    ``grad_depth`` and ``grad_transmittance`` may be None: zero.
    ``pair_grads`` [pairs, 10] is indexed by slot; each slot is written exactly once. So is
    ``pair_sizes`` [pairs, 2], unless it is None: sums over pixels of the absolute gradients of x
    and y (AbsGS, Ye et al. 2024).
    """
    height, width = transmittance.shape[1:]
    columns, rows = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    flat = records.reshape(-1)
    lower = np.uint64(0xFFFFFFFF)
    for tile in range(first, last_tile):
        view, rest = tile // (rows * columns), tile % (rows * columns)
        tile_x, tile_y = rest % columns * TILE, rest // columns * TILE
        farthest = _start_backward(
            state, view, tile_x, tile_y, background,
            grad_color[view], grad_depth, grad_transmittance, transmittance[view], last[view],
        )  # fmt: skip
        start = tile_starts[tile]
        base = np.uint64(view * records.shape[1])
        # Behind each pixel's last contribution nothing was drawn.
        for i in range(start + farthest, tile_starts[tile + 1]):
            pair_grads[words[i] & lower] = 0.0
            if pair_sizes is not None:
                pair_sizes[words[i] & lower] = 0.0
        for i in range(start + farthest - 1, start - 1, -1):
            ahead = max(i - AHEAD, 0)
            prefetch(flat, (base + (words[ahead] >> np.uint64(32))) * np.uint64(fp.RECORD))
            record = records[view, words[i] >> np.uint64(32)]
            slot = words[i] & lower
            grads = pair_grads[slot]
            position = np.float32(i - start + 1)
            _draw_backward(
                record, state, position, tile_x, tile_y, grad_depth, grads, slot, pair_sizes
            )
