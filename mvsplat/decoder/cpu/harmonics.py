"""Spherical harmonics and their gradients, for kernels; the basis is stated in ``geometry``."""

import math
from collections.abc import Callable

import numpy as np

from mvsplat.geometry.spherical_harmonics import MAX_DEGREE, normalization
from mvsplat.kernels import inlined

_RANGE = range(MAX_DEGREE + 1)


def _table(entry: Callable[[int, int], float]) -> np.ndarray:
    """entry(level, order) for 0 <= order <= level, else 0."""
    rows = [[entry(level, m) if m <= level else 0 for m in _RANGE] for level in _RANGE]
    return np.array(rows, np.float32)


# Y(l, m) = FACTOR[l, m] D(l, m) Re or Im of (x + i y)^m;  D(m, m) = START[m] and
# D(l + 1, m) = RISE[l, m] z D(l, m) - FALL[l, m] D(l - 1, m).
FACTOR = _table(normalization)
RISE = _table(lambda level, order: (2 * level + 1) / (level + 1 - order))
FALL = _table(lambda level, order: (level + order) / (level + 1 - order))
START = np.array([math.prod(range(1, 2 * m, 2)) for m in _RANGE], dtype=np.float32)


@inlined
def unit_direction(mean, center):
    """Unit vector from the camera centre to the Gaussian, and the distance."""
    x, y, z = mean[0] - center[0], mean[1] - center[1], mean[2] - center[2]
    distance = max(math.sqrt(x * x + y * y + z * z), 1e-12)
    return np.float32(x / distance), np.float32(y / distance), np.float32(z / distance), distance


@inlined
def _fill_basis(basis, x, y, z, degree):
    cosine, sine = np.float32(1), np.float32(0)
    for order in range(degree + 1):
        below, legendre = np.float32(0), START[order]
        for level in range(order, degree + 1):
            middle = level * level + level
            scaled = FACTOR[level, order] * legendre
            basis[middle - order] = scaled * sine
            basis[middle + order] = scaled * cosine
            above = RISE[level, order] * z * legendre - FALL[level, order] * below
            below, legendre = legendre, above
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine


@inlined
def _direction_gradient(weights, x, y, z, degree):
    grad_x, grad_y, grad_z = np.float32(0), np.float32(0), np.float32(0)
    cosine, sine = np.float32(1), np.float32(0)
    cosine_below, sine_below = np.float32(0), np.float32(0)
    for order in range(degree + 1):
        below, legendre = np.float32(0), START[order]
        below_slope, slope = np.float32(0), np.float32(0)
        along_cosine, along_sine = np.float32(0), np.float32(0)
        for level in range(order, degree + 1):
            middle = level * level + level
            factor = FACTOR[level, order]
            w_cosine = factor * weights[middle + order]
            w_sine = factor * weights[middle - order] if order else np.float32(0)
            grad_z += slope * (w_cosine * cosine + w_sine * sine)
            along_cosine += legendre * w_cosine
            along_sine += legendre * w_sine
            rise, fall = RISE[level, order], FALL[level, order]
            above_slope = rise * (legendre + z * slope) - fall * below_slope
            above = rise * z * legendre - fall * below
            below, legendre, below_slope, slope = legendre, above, slope, above_slope
        grad_x += np.float32(order) * (along_cosine * cosine_below + along_sine * sine_below)
        grad_y += np.float32(order) * (along_sine * cosine_below - along_cosine * sine_below)
        cosine_below, sine_below = cosine, sine
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
    return grad_x, grad_y, grad_z


# With the degree a constant, the compiler unrolls all loops and folds the tables into the code.


@inlined
def fill_basis(basis, x, y, z, degree):
    """Write the (degree + 1)^2 basis functions at a unit direction."""
    if degree == 0:
        _fill_basis(basis, x, y, z, 0)
    elif degree == 1:
        _fill_basis(basis, x, y, z, 1)
    elif degree == 2:
        _fill_basis(basis, x, y, z, 2)
    elif degree == 3:
        _fill_basis(basis, x, y, z, 3)
    else:
        _fill_basis(basis, x, y, z, MAX_DEGREE)


@inlined
def direction_gradient(weights, x, y, z, degree):
    """Gradient of sum_k weights[k] basis[k] with respect to (x, y, z) as free variables."""
    if degree == 0:
        return np.float32(0), np.float32(0), np.float32(0)
    if degree == 1:
        return _direction_gradient(weights, x, y, z, 1)
    if degree == 2:
        return _direction_gradient(weights, x, y, z, 2)
    if degree == 3:
        return _direction_gradient(weights, x, y, z, 3)
    return _direction_gradient(weights, x, y, z, MAX_DEGREE)
