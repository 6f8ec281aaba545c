"""The anchor: the tile renderer that one writes first in numba, kept to measure ours against.

Scalar inner loop over the pixels of each Gaussian's box of 3.33 standard deviations within a tile
of 16 x 16, a library sort, exp from the C library, one Python thread a core.  Forward only.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numba
import numpy as np

TILE = 16


@numba.njit(nogil=True, fastmath=True)
def _box(x, y, radius_x, radius_y, columns, rows):
    return (
        max(int((x - radius_x) // TILE), 0),
        min(int((x + radius_x) // TILE) + 1, columns),
        max(int((y - radius_y) // TILE), 0),
        min(int((y + radius_y) // TILE) + 1, rows),
    )


@numba.njit(nogil=True, fastmath=True)
def _bin(order, xy, radii, columns, rows):
    starts = np.zeros(columns * rows + 1, np.int64)
    for g in order:
        left, right, top, bottom = _box(xy[g, 0], xy[g, 1], radii[g, 0], radii[g, 1], columns, rows)
        for row in range(top, bottom):
            for column in range(left, right):
                starts[row * columns + column + 1] += 1
    starts = np.cumsum(starts)
    lists, places = np.empty(starts[-1], np.int32), starts.copy()
    for g in order:
        left, right, top, bottom = _box(xy[g, 0], xy[g, 1], radii[g, 0], radii[g, 1], columns, rows)
        for row in range(top, bottom):
            for column in range(left, right):
                lists[places[row * columns + column]] = g
                places[row * columns + column] += 1
    return starts, lists


@numba.njit(nogil=True, fastmath=True)
def _composite(
    first, last, columns, starts, lists, xy, radii, conics, opacities, colors, through, image
):
    height, width = through.shape
    for tile in range(first, last):
        tile_x, tile_y = tile % columns * TILE, tile // columns * TILE
        for i in range(starts[tile], starts[tile + 1]):
            g = lists[i]
            left = max(int(xy[g, 0] - radii[g, 0]), tile_x)
            right = min(int(xy[g, 0] + radii[g, 0]) + 1, min(tile_x + TILE, width))
            top = max(int(xy[g, 1] - radii[g, 1]), tile_y)
            bottom = min(int(xy[g, 1] + radii[g, 1]) + 1, min(tile_y + TILE, height))
            for y in range(top, bottom):
                dy = np.float32(y + 0.5) - xy[g, 1]
                for x in range(left, right):
                    dx = np.float32(x + 0.5) - xy[g, 0]
                    power = np.float32(0.5) * (conics[g, 0] * dx * dx + conics[g, 2] * dy * dy)
                    power += conics[g, 1] * dx * dy
                    alpha = min(np.float32(0.999), opacities[g] * math.exp(-power))
                    if alpha < np.float32(1 / 255) or through[y, x] < 0:
                        continue
                    after = through[y, x] * (1 - alpha)
                    if after <= np.float32(1e-4):
                        through[y, x] = -through[y, x]
                        continue
                    for channel in range(4):
                        image[channel, y, x] += alpha * through[y, x] * colors[g, channel]
                    through[y, x] = after


def render(xy, conics, opacities, colors, sigmas, height, width, threads) -> np.ndarray:
    """Colour and depth [4, h, w] of visible, projected Gaussians (float32 arrays).

    ``colors`` [g, 4] ends with the depth; ``sigmas`` [g, 2] are the footprints' extents.
    """
    columns, rows = -(-width // TILE), -(-height // TILE)
    order = np.argsort(colors[:, 3], kind="stable")
    radii = np.float32(3.33) * sigmas
    starts, lists = _bin(order, xy, radii, columns, rows)
    image, through = np.zeros((4, height, width), np.float32), np.ones((height, width), np.float32)
    cuts = np.linspace(0, columns * rows, 8 * threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        jobs = [
            pool.submit(
                _composite,
                a,
                b,
                columns,
                starts,
                lists,
                xy,
                radii,
                conics,
                opacities,
                colors,
                through,
                image,
            )
            for a, b in pairwise(cuts)
        ]
        for job in jobs:
            job.result()
    return image
