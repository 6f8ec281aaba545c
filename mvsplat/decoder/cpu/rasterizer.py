"""Runs the kernels: projection, tile lists and compositing of a batch of views."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mvsplat.decoder.cpu import footprint as fp
from mvsplat.decoder.cpu.buffers import Allocate, fresh
from mvsplat.decoder.cpu.composite import PLANE, composite
from mvsplat.decoder.cpu.composite_backward import PAIR, PLANES, composite_backward
from mvsplat.decoder.cpu.project import project
from mvsplat.decoder.cpu.project_backward import CAMERA, SCREEN, project_backward
from mvsplat.decoder.cpu.threads import run_all
from mvsplat.decoder.cpu.tiles import TILE, fill_tiles, sort_tiles

# The work is cut in the same way for any number of threads, so that sums do not depend on them:
# Gaussians into chunks, tiles into pieces of about equal work, at most PIECES of either.
CHUNK, PIECE = 2048, 4096
PIECES = 64


class SplatArrays(NamedTuple):
    """Gaussians (float32) and cameras (float64) as arrays; see ``kernel project``."""

    means: np.ndarray
    scales: np.ndarray
    rotations: np.ndarray
    harmonics: np.ndarray
    opacities: np.ndarray
    cameras: np.ndarray
    centers: np.ndarray
    lenses: np.ndarray
    height: int
    width: int
    degree: int
    antialiased: bool


class TileLists(NamedTuple):
    """Projected Gaussians and, for every tile of every view, those that may touch it."""

    records: np.ndarray  # [scenes, views, gaussians, 16]
    slots: np.ndarray  # [scenes, views, gaussians + 1], int32
    words: np.ndarray  # [pairs], uint64: Gaussian and slot
    tile_starts: np.ndarray  # [scenes * views * tiles + 1], int64


def build_lists(scene: SplatArrays, allocate: Allocate = fresh) -> TileLists:
    """Project all Gaussians into all views and list them by tile, sorted by depth."""
    (scenes, gaussians), views = scene.means.shape[:2], scene.cameras.shape[1]
    tiles = -(-scene.height // TILE) * -(-scene.width // TILE)
    chunks = chunks_of(gaussians)
    records = allocate("records", (scenes, views, gaussians, fp.RECORD), np.float32)
    counts = allocate("counts", (scenes, len(chunks), views, tiles), np.int32)
    counts[:] = 0
    run_all(
        project,
        [
            (*scene, s, start, stop, records, counts[s, c], np.empty(25, np.float32))
            for s in range(scenes)
            for c, (start, stop) in enumerate(chunks)
        ],
    )
    places, first_slots, tile_starts = _arrange(counts)
    pairs = (int(tile_starts[-1]),)
    words = allocate("words", pairs, np.uint64)
    owner = allocate("owner", pairs, np.int32)
    slots = allocate("slots", (scenes, views, gaussians + 1), np.int32)
    run_all(
        fill_tiles,
        [
            (
                records[s], scene.width, *chunk, first_slots[s, c], places[s, c], words,
                slots[s], owner,
            )
            for s in range(scenes)
            for c, chunk in enumerate(chunks)
        ],
    )  # fmt: skip
    run_all(
        sort_tiles,
        [
            (
                words, tile_starts, owner, *piece,
                np.empty(_longest(tile_starts, *piece), np.uint64), np.empty(256, np.int64),
            )
            for piece in _pieces(tile_starts)
        ],
    )  # fmt: skip
    return TileLists(records, slots, words, tile_starts)


def _arrange(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each chunk's words of every tile begin, its slots, and each tile's words.

    Words are in the order of the tiles, chunk by chunk within a tile; slots in that of the
    Gaussians.  ``counts`` [scenes, chunks, views, tiles].

    Returns:
        [scenes, chunks, views, tiles], [scenes, chunks, views], [scenes * views * tiles + 1].
    """
    by_tile = np.ascontiguousarray(counts.transpose(0, 2, 3, 1))
    ends = np.cumsum(by_tile, dtype=np.int64).reshape(by_tile.shape)
    pairs = int(ends[-1, -1, -1, -1]) if ends.size else 0
    if pairs >= 2**31:
        raise ValueError(
            f"{pairs} pairs of a Gaussian and a tile of 16 x 16 pixels, at most 2^31 fit: the "
            f"Gaussians are far too large for the image, or too many views are rendered at once"
        )
    starts = ends - by_tile
    tile_starts = np.append(starts[..., 0].reshape(-1), pairs)
    by_chunk = counts.sum(-1, dtype=np.int64).transpose(0, 2, 1)
    first_slots = (np.cumsum(by_chunk) - by_chunk.reshape(-1)).reshape(by_chunk.shape)
    return (
        np.ascontiguousarray(starts.transpose(0, 3, 1, 2)),
        np.ascontiguousarray(first_slots.transpose(0, 2, 1)),
        tile_starts,
    )


def render(
    lists: TileLists,
    background: np.ndarray,
    height: int,
    width: int,
    allocate: Allocate = fresh,
    with_depth: bool = True,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """Color, depth (None without), transmittance and last position, each [scenes, views, ...]."""
    leading = lists.records.shape[:2]
    color = allocate("color", (*leading, 3, height, width), np.float32)
    plane = (*leading, height, width)
    depth = allocate("depth", plane, np.float32) if with_depth else None
    transmittance = allocate("transmittance", plane, np.float32)
    last = allocate("last", plane, np.int32)
    views = _merge(lists.records, color, depth, transmittance, last)
    run_all(
        composite,
        [
            (views[0], lists.words, lists.tile_starts, *piece, _state(), background, *views[1:])
            for piece in _pieces(lists.tile_starts)
        ],
    )
    return color, depth, transmittance, last


class PairGradients(NamedTuple):
    """What flows to every (Gaussian, tile) pair, by slot."""

    grads: np.ndarray  # [pairs, 10]: of the first ten fields of a record
    sizes: np.ndarray | None  # [pairs, 2]: sums over pixels of the absolute gradients of x and y


def render_backward(
    scene: SplatArrays,
    lists: TileLists,
    background: np.ndarray,
    outputs: tuple[np.ndarray, ...],
    on_screen: bool = False,
) -> tuple[np.ndarray, ...]:
    """Gradients of means, scales, rotations, harmonics, opacities, cameras and centres.

    With ``on_screen`` also what flows to the projected means, in pixels, which growing a scene
    needs: [scenes, views, gaussians, 4], the gradients of x and y, then the sums over pixels of
    their absolute values (AbsGS, Ye et al. 2024).

    ``outputs``: gradients of color, depth and transmittance, then transmittance and last position.
    """
    pairs = composite_gradients(lists, background, outputs, on_screen)
    (scenes, gaussians), count = scene.means.shape[:2], lists.records.shape[1]
    chunks = chunks_of(gaussians)
    grads = tuple(np.empty_like(array) for array in scene[:5])
    grad_cameras = np.zeros((scenes, len(chunks), count, CAMERA))
    screen = np.empty((scenes, count, gaussians, SCREEN), np.float32) if on_screen else None
    run_all(
        project_backward,
        [
            (
                *scene, s, *chunk, lists.records, lists.slots, *pairs, *grads, grad_cameras[s, c],
                screen, np.empty(25, np.float32), np.empty(25, np.float32), np.empty(PAIR + 12),
            )
            for s in range(scenes)
            for c, chunk in enumerate(chunks)
        ],
    )  # fmt: skip
    of_cameras = camera_gradients(grad_cameras)
    return (*grads, *of_cameras) if screen is None else (*grads, *of_cameras, screen)


def composite_gradients(
    lists: TileLists,
    background: np.ndarray,
    outputs: tuple[np.ndarray | None, ...],
    sizes: bool = False,
    allocate: Allocate = fresh,
) -> PairGradients:
    """Gradients of the pairs; ``outputs`` as in :func:`render_backward`.

    Gradients of depth and transmittance may be None: zero.
    """
    records, _, words, tile_starts = lists
    pair_grads = allocate("pair gradients", (len(words), PAIR), np.float32)
    pair_sizes = allocate("pair sizes", (len(words), 2), np.float32) if sizes else None
    views = _merge(records, *outputs)
    run_all(
        composite_backward,
        [
            (
                views[0], words, tile_starts, *piece, _state(), background, *views[1:],
                pair_grads, pair_sizes,
            )
            for piece in _pieces(tile_starts)
        ],
    )  # fmt: skip
    return PairGradients(pair_grads, pair_sizes)


def camera_gradients(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of cameras [scenes, views, 3, 4] and centres; ``shares`` [scenes, chunks, views, 15]."""
    summed = shares.sum(axis=1)
    return summed[..., :12].reshape(*summed.shape[:2], 3, 4), summed[..., 12:]


def _merge(*arrays: np.ndarray | None) -> list[np.ndarray | None]:
    """Scenes and views as one leading dimension."""
    return [
        array if array is None else array.reshape(math.prod(array.shape[:2]), *array.shape[2:])
        for array in arrays
    ]


def chunks_of(gaussians: int) -> list[tuple[int, int]]:
    """Ranges of Gaussians that are worked on separately."""
    size = max(CHUNK, -(-gaussians // PIECES))
    return [(a, min(a + size, gaussians)) for a in range(0, max(gaussians, 1), size)]


def _state() -> np.ndarray:
    """Scratch for compositing a tile."""
    return fresh("state", (PLANES * PLANE,))


def _longest(tile_starts: np.ndarray, first: int, last: int) -> int:
    return int(np.diff(tile_starts[first : last + 1]).max())


def _pieces(tile_starts: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of tiles with about equal work; empty tiles cost a little too."""
    work = tile_starts + 16 * np.arange(len(tile_starts))
    pieces = min(max(int(work[-1]) // PIECE, 1), PIECES)
    cuts = np.searchsorted(work, np.linspace(0, work[-1], pieces + 1))
    cuts[-1] = len(tile_starts) - 1
    return [(int(a), int(b)) for a, b in pairwise(cuts) if a < b]
