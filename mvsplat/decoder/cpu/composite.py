"""Kernel: composite each tile's sorted Gaussians, front to back.

A tile of 16 x 16 pixels is 16 blocks of 4 x 4; a block is one vector of lanes.  For each Gaussian
only the blocks that its box touches are visited.  A tile's state is a flat buffer of planes, each
holding the 16 blocks one after the other.
"""

import numpy as np

from mvsplat.decoder.cpu import footprint as fp
from mvsplat.decoder.cpu.simd import (
    WIDTH,
    anywhere,
    both,
    fma,
    lane_columns,
    lane_rows,
    larger,
    select,
    smaller,
)
from mvsplat.decoder.cpu.simd_memory import BLOCK, load, prefetch, store, store_block
from mvsplat.decoder.cpu.tiles import TILE
from mvsplat.kernels import inlined, kernel

BLOCKS = TILE // BLOCK
PLANE = TILE * TILE
AHEAD = 12  # how many records ahead to prefetch

ALPHA_MAX = np.float32(0.999)
ALPHA_CUT = np.float32(fp.ALPHA_CUT)
# Beyond it the polynomial means nothing; a little more than needed, as ALPHA_CUT decides.
EXPONENT_CUT = np.float32(fp.EXPONENT_CUT * 1.0005)
TRANSMITTANCE_CUT = np.float32(1e-4)

# exp(-s) = p(s)^8 for 0 <= s <= log 255; p is the minimax polynomial (relative error 8.4e-8).
P1, P2, P3, P4, P5 = (
    np.float32(-0.12499937677066668),
    np.float32(0.007810993371060515),
    np.float32(-0.00032430898612243375),
    np.float32(9.73659084891441e-06),
    np.float32(-1.8023596765854306e-07),
)

# Planes of the state.  Transmittance is negative where the pixel is finished (or outside).
TRANSMITTANCE, RED, GREEN, BLUE, DEPTH, LAST = range(6)


@inlined
def block_range(record, tile_x, tile_y):
    """Block columns and rows of the tile that the record's box touches."""
    left = max(int(record[fp.X_FIRST]) - tile_x, 0) // BLOCK
    right = (min(int(record[fp.X_LAST]) - tile_x, TILE) + BLOCK - 1) // BLOCK
    top = max(int(record[fp.Y_FIRST]) - tile_y, 0) // BLOCK
    bottom = (min(int(record[fp.Y_LAST]) - tile_y, TILE) + BLOCK - 1) // BLOCK
    return left, right, top, bottom


@inlined
def tile_frame(record, tile_x, tile_y):
    """Centre line of the footprint at the tile's first pixel row, and that row's distance in y."""
    middle = float(tile_y) + 0.5
    line = float(record[fp.X_INSIDE]) - (tile_x + 0.5)
    line += float(record[fp.SLOPE]) * (middle - float(record[fp.Y_INSIDE]))
    return np.float32(line), np.float32(middle - float(record[fp.Y]))


@inlined
def falloff(dx, dy, spread_x, spread_y):
    """exp(-exponent) of a block, and where it is large enough to matter."""
    s = fma(spread_y * dy, dy, spread_x * dx * dx)
    p = fma(fma(fma(fma(fma(s, P5, P4), s, P3), s, P2), s, P1), s, 1.0)
    p2 = p * p
    p4 = p2 * p2
    return p4 * p4, s <= EXPONENT_CUT


@inlined
def _any_alive(state):
    best = load(state, TRANSMITTANCE * PLANE)
    for block in range(1, PLANE // WIDTH):
        best = larger(best, load(state, TRANSMITTANCE * PLANE + block * WIDTH))
    return anywhere(best > 0.0)


@inlined
def is_inside(tile_x, tile_y, height, width):
    """Whether a whole tile lies inside the picture."""
    return tile_y + TILE <= height and tile_x + TILE <= width


@inlined
def _start_state(state, tile_x, tile_y, height, width):
    inside = is_inside(tile_x, tile_y, height, width)
    state[:PLANE] = 1.0 if inside else -1.0
    state[PLANE:] = 0.0
    if not inside:
        for row in range(min(TILE, height - tile_y)):
            for column in range(min(TILE, width - tile_x)):
                state[place_of(row, column)] = 1.0


@inlined
def place_of(row, column):
    """Where a pixel of a tile is in a plane."""
    return (row // BLOCK * BLOCKS + column // BLOCK) * WIDTH + row % BLOCK * BLOCK + column % BLOCK


@inlined
def _draw(record, state, position, tile_x, tile_y, depth):
    """Blend one Gaussian over the tile, front to back; without depth where that is None."""
    left, right, top, bottom = block_range(record, tile_x, tile_y)
    line, below = tile_frame(record, tile_x, tile_y)
    slope, spread_x, spread_y = record[fp.SLOPE], record[fp.SPREAD_X], record[fp.SPREAD_Y]
    opacity = record[fp.OPACITY]
    lane_y = lane_rows()
    slanted = fma(lane_y, -slope, lane_columns())
    for row in range(top, bottom):
        dy = lane_y + (below + np.float32(BLOCK * row))
        shift = line + slope * np.float32(BLOCK * row)
        for column in range(left, right):
            at = (row * BLOCKS + column) * WIDTH
            through = load(state, at)
            dx = slanted - (shift - np.float32(BLOCK * column))
            fall, near = falloff(dx, dy, spread_x, spread_y)
            alpha = smaller(fall * opacity, ALPHA_MAX)
            alpha = select(both(near, alpha >= ALPHA_CUT), alpha, 0.0)
            alive = larger(through, 0.0)
            after = alive * (1.0 - alpha)
            goes_on = after > TRANSMITTANCE_CUT
            weight = select(goes_on, alpha * alive, 0.0)
            # A pixel that is finished keeps its transmittance, with the sign turned.
            store(state, at, select(goes_on, after, smaller(through, 0.0 - through)))
            at += PLANE
            store(state, at, fma(weight, record[fp.RED], load(state, at)))
            at += PLANE
            store(state, at, fma(weight, record[fp.GREEN], load(state, at)))
            at += PLANE
            store(state, at, fma(weight, record[fp.BLUE], load(state, at)))
            at += PLANE
            if depth is not None:
                store(state, at, fma(weight, record[fp.DEPTH], load(state, at)))
            at += PLANE
            store(state, at, larger(load(state, at), select(weight > 0.0, position, 0.0)))


@inlined
def _write_pixels(state, view, tile_x, tile_y, background, color, depth, transmittance, last):
    """Write a tile that reaches beyond the picture; ``depth``, unless None, is of all views."""
    height, width = last.shape
    for y in range(tile_y, min(tile_y + TILE, height)):
        for x in range(tile_x, min(tile_x + TILE, width)):
            at = place_of(y - tile_y, x - tile_x)
            through = abs(state[at])
            transmittance[y, x] = through
            if depth is not None:
                depth[view, y, x] = state[DEPTH * PLANE + at]
            last[y, x] = int(state[LAST * PLANE + at])
            for channel in range(3):
                value = state[(RED + channel) * PLANE + at]
                color[channel, y, x] = value + through * background[channel]


@inlined
def _write_tile(state, view, tile_x, tile_y, background, color, depth, transmittance, last):
    height, width = last.shape
    if not is_inside(tile_x, tile_y, height, width):
        _write_pixels(state, view, tile_x, tile_y, background, color, depth, transmittance, last)
        return
    for block in range(BLOCKS * BLOCKS):
        at, row, column = block * WIDTH, block // BLOCKS * BLOCK, block % BLOCKS * BLOCK
        pixel = (tile_y + row) * width + tile_x + column
        through = load(state, at)
        through = larger(through, 0.0 - through)
        store_block(transmittance, pixel, width, through)
        if depth is not None:
            store_block(
                depth, view * height * width + pixel, width, load(state, DEPTH * PLANE + at)
            )
        store_block(last, pixel, width, load(state, LAST * PLANE + at))
        for channel in range(3):
            value = load(state, (RED + channel) * PLANE + at) + through * background[channel]
            store_block(color, channel * height * width + pixel, width, value)


@kernel
def composite(
    records, words, tile_starts, first, last_tile, state, background,
    color, depth, transmittance, last,
):  # fmt: skip
    """Render tiles first..last_tile, numbered view by view, row by row; ``state`` is scratch.

    ``records`` [views, gaussians, 16]; ``color`` [views, 3, height, width], ``depth`` (which may be
    None), ``transmittance`` (float32) and ``last`` (int32; position in the tile's list of the last
    contribution, plus one) [views, height, width] are written.
    """
    height, width = last.shape[1:]
    columns, rows = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    flat = records.reshape(-1)
    for tile in range(first, last_tile):
        view, rest = tile // (rows * columns), tile % (rows * columns)
        tile_x, tile_y = rest % columns * TILE, rest // columns * TILE
        _start_state(state, tile_x, tile_y, height, width)
        start = tile_starts[tile]
        base = np.uint64(view * records.shape[1])
        for i in range(start, tile_starts[tile + 1]):
            # Rarely, as looking at all pixels costs as much as drawing one Gaussian.
            if (i - start) % 32 == 31 and not _any_alive(state):
                break
            ahead = min(i + AHEAD, len(words) - 1)
            prefetch(flat, (base + (words[ahead] >> np.uint64(32))) * np.uint64(fp.RECORD))
            record = records[view, words[i] >> np.uint64(32)]
            position = np.float32(i - start + 1)
            _draw(record, state, position, tile_x, tile_y, depth)
        _write_tile(
            state, view, tile_x, tile_y, background,
            color[view], depth, transmittance[view], last[view],
        )  # fmt: skip
