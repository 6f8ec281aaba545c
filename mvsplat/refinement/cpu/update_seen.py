"""Kernel: from the gradients of (Gaussian, tile) pairs to one step of Adam.

A Gaussian's gradient exists only while it is used: it is chained to the parameters and the
Gaussian is updated at once, so that no gradients of all Gaussians are written and read again. The
numbers of a Gaussian are treated as one row of lanes: centre, logarithms of scales, quaternion and
opacity's logit in the first vector, harmonics in the others.
"""

import math

import numpy as np

from mvsplat.decoder.cpu import footprint as fp
from mvsplat.decoder.cpu.composite_backward import PAIR
from mvsplat.decoder.cpu.project_backward import gaussian_backward, rotation_backward
from mvsplat.decoder.cpu.simd import (
    WIDTH,
    both,
    fma,
    lane_numbers,
    root,
)
from mvsplat.decoder.cpu.simd_memory import load, load_where, store_where
from mvsplat.kernels import inlined, kernel

# Where a field begins in a row, and where the last one ends.
MEAN, LOG_SCALE, QUATERNION, LOGIT, END, HARMONICS = 0, 3, 6, 10, 11, WIDTH

FIRST_DECAY, SECOND_DECAY, EPSILON = np.float32(0.9), np.float32(0.999), 1e-15
# After that many updates nothing is left to correct, in single precision.
UPDATES = 20_000


def corrections() -> np.ndarray:
    """What Adam's corrections for moments that began at 0 come to, by the number of updates.

    A step is rate * pace * first / (root of second + epsilon): [UPDATES, 2], pace and epsilon.
    """
    count = np.maximum(np.arange(UPDATES), 1.0)
    spread = np.sqrt(1 - float(SECOND_DECAY) ** count)
    pace = spread / (1 - float(FIRST_DECAY) ** count)
    return np.stack([pace, EPSILON * spread], axis=1).astype(np.float32)


def row_length(coefficients: int) -> int:
    """Numbers in a row of lanes."""
    return HARMONICS + -(-3 * coefficients // WIDTH) * WIDTH


@inlined
def _between(first, last):
    return both(lane_numbers() >= first, lane_numbers() < last)


@inlined
def _gather(fields, g):
    """The first vector of a Gaussian's row."""
    means, log_scales, quaternions, _, logits = fields
    row = load_where(_between(MEAN, LOG_SCALE), means, 3 * g - MEAN, 0.0)
    row = load_where(_between(LOG_SCALE, QUATERNION), log_scales, 3 * g - LOG_SCALE, row)
    row = load_where(_between(QUATERNION, LOGIT), quaternions, 4 * g - QUATERNION, row)
    return load_where(_between(LOGIT, END), logits, g - LOGIT, row)


@inlined
def _scatter(fields, g, row):
    means, log_scales, quaternions, _, logits = fields
    store_where(_between(MEAN, LOG_SCALE), means, 3 * g - MEAN, row)
    store_where(_between(LOG_SCALE, QUATERNION), log_scales, 3 * g - LOG_SCALE, row)
    store_where(_between(QUATERNION, LOGIT), quaternions, 4 * g - QUATERNION, row)
    store_where(_between(LOGIT, END), logits, g - LOGIT, row)


@inlined
def _adam(value, first, second, gradient, rate, epsilon):
    first = fma(first - gradient, FIRST_DECAY, gradient)
    square = gradient * gradient
    second = fma(second - square, SECOND_DECAY, square)
    return value - rate * first / (root(second) + epsilon), first, second


@inlined
def _update(g, values, firsts, seconds, gradient, rates, pace, epsilon):
    """One step of Adam for all numbers of a Gaussian."""
    value, first, second = _adam(
        _gather(values, g), _gather(firsts, g), _gather(seconds, g),
        load(gradient, 0), load(rates, 0) * pace, epsilon,
    )  # fmt: skip
    _scatter(values, g, value)
    _scatter(firsts, g, first)
    _scatter(seconds, g, second)
    harmonics, harmonics_first, harmonics_second = values[3], firsts[3], seconds[3]
    size = harmonics.shape[1]
    for at in range(0, size, WIDTH):
        there, place = lane_numbers() < size - at, g * size + at
        value, first, second = _adam(
            load_where(there, harmonics, place, 0.0),
            load_where(there, harmonics_first, place, 0.0),
            load_where(there, harmonics_second, place, 0.0),
            load(gradient, HARMONICS + at), load(rates, HARMONICS + at) * pace, epsilon,
        )  # fmt: skip
        store_where(there, harmonics, place, value)
        store_where(there, harmonics_first, place, first)
        store_where(there, harmonics_second, place, second)


@inlined
def _radius(record):
    """Three standard deviations of a footprint along its longer axis, in pixels."""
    slope, down = float(record[fp.SLOPE]), 0.5 / float(record[fp.SPREAD_Y])
    across = 0.5 / float(record[fp.SPREAD_X]) + slope * slope * down
    middle, half, lean = 0.5 * (across + down), 0.5 * (across - down), slope * down
    return 3 * math.sqrt(middle + math.sqrt(half * half + lean * lean))


@inlined
def _chain(rotation, scale, opacity, grad_opacity, grad_mean, grad_axes, gradient):
    """Fill the first vector of a Gaussian's row of gradients."""
    gradient[MEAN], gradient[MEAN + 1], gradient[MEAN + 2] = grad_mean
    rotation_backward(
        rotation, scale, grad_axes, gradient[QUATERNION:LOGIT], gradient[LOG_SCALE:QUATERNION]
    )
    for i in range(3):
        gradient[LOG_SCALE + i] *= scale[i]
    gradient[LOGIT] = grad_opacity * opacity * (1 - opacity)


@kernel
def update_seen(
    means, scales, rotations, harmonics, opacities, cameras, centers, lenses, height, width,
    degree, antialiased, start, stop, records, slots, pair_grads, pair_sizes, screen_grads,
    values, firsts, seconds, updates, rates, corrections, grad_cameras,
    seen, signed, absolute, radii, gradient, grad_harmonics, basis, weights, scratch,
):  # fmt: skip
    """Update the Gaussians start..stop that a view saw: those whose opacity has a gradient.

    The first twelve arguments are the scene of one view as ``kernel project`` knows it, ``scales``
    and ``opacities`` computed from the parameters; ``records`` to ``screen_grads``, and
    ``grad_cameras``, are as in ``kernel project_backward``. ``values``, ``firsts`` and ``seconds``
    are the five parameters and their moments (all flat, but harmonics [gaussians, 3 k]),
    ``updates`` [gaussians] the number of updates that each Gaussian had; they change in place.
    ``rates`` is a row of lanes, ``corrections`` that of the function above. ``seen`` (bool),
    ``signed``, ``absolute`` and ``radii`` [gaussians] are zero, and written for Gaussians that were
    seen: lengths of the screen-space gradients in halves of the picture, radii in pixels.
    ``gradient`` is a row of zeros, ``grad_harmonics`` [3, k] its part from HARMONICS on; ``basis``,
    ``weights`` [25] (float32) and ``scratch`` [22] (float64) are scratch.
    """
    grads, grad_mean, grad_axes = scratch[:PAIR], scratch[PAIR : PAIR + 3], scratch[PAIR + 3 :]
    half_width, half_height = 0.5 * width, 0.5 * height
    for g in range(start, stop):
        if slots[0, 0, g] == slots[0, 0, g + 1]:
            continue
        rotation, scale, opacity = rotations[0, g], scales[0, g], float(opacities[0, g])
        grad_opacity = gaussian_backward(
            0, g, means[0, g], fp.principal_axes(rotation, scale), harmonics[0, g], opacity,
            cameras[0], centers[0], lenses[0], degree, antialiased,
            records[0], slots[0], pair_grads, pair_sizes,
            grad_mean, grad_axes, grad_harmonics, grad_cameras, screen_grads,
            basis, weights, grads,
        )  # fmt: skip
        if grad_opacity == 0:  # hidden behind others, or where nothing is compared
            continue
        _chain(rotation, scale, opacity, grad_opacity, grad_mean, grad_axes, gradient)
        if gradient[LOGIT] == 0:
            continue
        seen[g] = True
        x, y, size_x, size_y = screen_grads[0, 0, g]
        signed[g] = math.hypot(x * half_width, y * half_height)
        absolute[g] = math.hypot(size_x * half_width, size_y * half_height)
        radii[g] = _radius(records[0, 0, g])
        updates[g] += 1
        pace, epsilon = corrections[min(updates[g], UPDATES - 1)]
        _update(g, values, firsts, seconds, gradient, rates, pace, epsilon)
