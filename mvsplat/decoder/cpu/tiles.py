"""Kernels: lists of Gaussians for every tile of 16 x 16 pixels, each sorted by depth.

A (Gaussian, tile) pair is one uint64 word.  ``fill_tiles`` writes ``depth << 32 | slot``, where
slots number the pairs Gaussian by Gaussian; ``sort_tiles`` sorts each tile's words (the order of
equal depths is that of the Gaussians) and leaves ``gaussian << 32 | slot``.
"""

import math

import numpy as np

from mvsplat.decoder.cpu import footprint as fp
from mvsplat.kernels import inlined, kernel

TILE = 16


@inlined
def tile_span(record, row, width):
    """First and last (exclusive) tile column that the footprint can reach in a row of tiles."""
    first, last = float(record[fp.X_FIRST]), float(record[fp.X_LAST])
    y_first, y_last = float(record[fp.Y_FIRST]), float(record[fp.Y_LAST])
    if last - first > TILE and y_last - y_first > TILE:
        # The ellipse between the centres of the tile row's first and last pixel rows.
        slope, y = float(record[fp.SLOPE]), float(record[fp.Y])
        spread_x, spread_y = float(record[fp.SPREAD_X]), float(record[fp.SPREAD_Y])
        low = max(y_first, float(row * TILE)) + 0.5 - y
        high = min(y_last, float(row * TILE + TILE)) - 0.5 - y
        reach = math.log(max(float(record[fp.OPACITY]), fp.ALPHA_CUT) * 255.0) * 1.001 + 0.01
        if spread_x > 0 and spread_y > 0:
            extreme = (
                slope / spread_y * math.sqrt(reach / (slope * slope / spread_y + 1 / spread_x))
            )
            right = min(max(extreme, low), high)
            left = min(max(-extreme, low), high)
            x_right = float(record[fp.X]) + slope * right
            x_right += math.sqrt(max(reach - spread_y * right * right, 0.0) / spread_x)
            x_left = float(record[fp.X]) + slope * left
            x_left -= math.sqrt(max(reach - spread_y * left * left, 0.0) / spread_x)
            first = max(first, math.floor(x_left - 1.5))
            last = min(last, math.ceil(x_right + 1.5))
    if last <= first:
        return 0, 0
    return int(first) // TILE, (int(last) - 1) // TILE + 1


@inlined
def count_tiles(record, width, counts):
    """Add one to the count of every tile that the footprint can reach."""
    columns = (width + TILE - 1) // TILE
    for row in range(int(record[fp.Y_FIRST]) // TILE, (int(record[fp.Y_LAST]) - 1) // TILE + 1):
        first, last = tile_span(record, row, width)
        for column in range(first, last):
            counts[row * columns + column] += 1


@inlined
def _fill(record, depth, width, g, slot, places, words, slot_owner):
    """Write one Gaussian's words; returns the next free slot."""
    columns = (width + TILE - 1) // TILE
    word = np.uint64(depth) << np.uint64(32)
    for row in range(int(record[fp.Y_FIRST]) // TILE, (int(record[fp.Y_LAST]) - 1) // TILE + 1):
        first, last = tile_span(record, row, width)
        for column in range(first, last):
            tile = row * columns + column
            words[places[tile]] = word | np.uint64(slot)
            places[tile] += 1
            slot_owner[slot] = g
            slot += 1
    return slot


@kernel
def fill_tiles(records, width, start, stop, first_slots, places, words, slots, slot_owner):
    """Write the words of Gaussians start..stop of a scene, for all its views.

    ``places`` [views, tiles] says where this chunk's words of each tile begin and is advanced;
    ``first_slots`` [views] where its slots begin.  ``slots`` [views, gaussians + 1] receives where
    each Gaussian's slots begin, ``slot_owner`` [pairs] the Gaussian of each slot.
    """
    # The bits of positive floats, as integers, are in the order of the floats.
    depths = records.view(np.uint32)
    for view in range(records.shape[0]):
        slot = first_slots[view]
        for g in range(start, stop):
            record = records[view, g]
            slots[view, g] = slot
            if record[fp.Y_FIRST] < record[fp.Y_LAST]:
                depth = depths[view, g, fp.DEPTH]
                slot = _fill(record, depth, width, g, slot, places[view], words, slot_owner)
        slots[view, stop] = slot


@inlined
def _insertion_sort(words, start, stop):
    for i in range(start + 1, stop):
        word = words[i]
        j = i
        while j > start and words[j - 1] > word:
            words[j] = words[j - 1]
            j -= 1
        words[j] = word


@inlined
def _radix_sort(words, spare, count, start, stop):
    """Stable sort of words[start:stop] by their upper 32 bits, 8 bits a pass, from the lowest."""
    smallest, largest = words[start], words[start]
    for i in range(start + 1, stop):
        smallest, largest = min(smallest, words[i]), max(largest, words[i])
    # Depths of a tile are close to each other: less the smallest, they need fewer passes.
    smallest = (smallest >> np.uint64(32)) << np.uint64(32)
    spread = (largest - smallest) >> np.uint64(32)
    shift = np.uint64(32)
    size = stop - start
    flipped = False
    while spread > np.uint64(0):
        count[:] = 0
        for i in range(size):
            word = spare[i] if flipped else words[start + i]
            count[((word - smallest) >> shift) & np.uint64(255)] += 1
        place = 0
        for digit in range(256):
            place, count[digit] = place + count[digit], place
        for i in range(size):
            word = spare[i] if flipped else words[start + i]
            digit = ((word - smallest) >> shift) & np.uint64(255)
            if flipped:
                words[start + count[digit]] = word
            else:
                spare[count[digit]] = word
            count[digit] += 1
        flipped = not flipped
        shift += np.uint64(8)
        spread >>= np.uint64(8)
    if flipped:
        for i in range(size):
            words[start + i] = spare[i]


@kernel
def sort_tiles(words, tile_starts, slot_owner, first, last, spare, count):
    """Sort the words of tiles first..last and replace their depths by the Gaussians' numbers.

    ``spare`` (as many words as the longest list) and ``count`` [256] are scratch.
    """
    lower = np.uint64(0xFFFFFFFF)
    for tile in range(first, last):
        start, stop = tile_starts[tile], tile_starts[tile + 1]
        if stop - start <= 32:
            _insertion_sort(words, start, stop)
        else:
            _radix_sort(words, spare, count, start, stop)
        for i in range(start, stop):
            slot = words[i] & lower
            words[i] = (np.uint64(slot_owner[slot]) << np.uint64(32)) | slot
