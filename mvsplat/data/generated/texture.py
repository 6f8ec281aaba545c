"""Solid textures: the colour of a point in space, never finer than a pixel can hold.

Noise is Perlin's gradient noise (SIGGRAPH 1985, 2002) summed over octaves; an octave whose
wavelength comes near the pixels' size fades out, and steps are widened to a pixel, so that one
sample a fragment is enough. Leaves lie on each other in all sizes, which gives the edges and the
spectrum of photographs ("dead leaves", Lee, Mumford and Huang, IJCV 2001).
"""

from math import floor, sin

import numpy as np

from mvsplat.data.generated.world import (
    CELLS,
    CLOUDS,
    GRAIN,
    LEAVES,
    PAINT,
    STRIPES,
    VEINS,
    WINDOWS,
    Materials,
)
from mvsplat.kernels import allocating_kernel, kernel

_OCTAVES = 6
_FADE_OUT, _FADE_IN = 4.0, 9.0  # wavelengths in pixels where an octave vanishes, is complete
_LEAF_SIZES = 7  # each half of the one before
_PANE = 0.24  # from a window's border to the middle between two windows


@kernel
def _hash(x, y, z):
    """32 well-mixed bits of three integers."""
    h = (x * 374761393 + y * 668265263 + z * 1103515245) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    h = ((h ^ (h >> 12)) * 0x297A2D39) & 0xFFFFFFFF
    return h ^ (h >> 15)


@kernel
def _unit(h):
    return (h & 0xFFFF) / 65535.0


@kernel
def _step(low, high, x):
    """Smooth step from 0 at ``low`` to 1 at ``high``."""
    u = min(max((x - low) / (high - low), 0.0), 1.0)
    return u * u * (3.0 - 2.0 * u)


@kernel
def _slope(h, x, y, z):
    """One of Perlin's twelve gradients, times a vector."""
    h &= 15
    u = x if h < 8 else y
    v = y if h < 4 else (x if h == 12 or h == 14 else z)
    return (u if h & 1 == 0 else -u) + (v if h & 2 == 0 else -v)


@kernel
def _noise(x, y, z):
    """Gradient noise, about -1 to 1, wavelengths of one unit and more."""
    i, j, k = int(floor(x)), int(floor(y)), int(floor(z))
    x, y, z = x - i, y - j, z - k
    u = x * x * x * (x * (x * 6.0 - 15.0) + 10.0)
    v = y * y * y * (y * (y * 6.0 - 15.0) + 10.0)
    w = z * z * z * (z * (z * 6.0 - 15.0) + 10.0)
    total = 0.0
    for corner in range(8):
        a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
        share = (u if a else 1.0 - u) * (v if b else 1.0 - v) * (w if c else 1.0 - w)
        total += share * _slope(_hash(i + a, j + b, k + c), x - a, y - b, z - c)
    return total


@kernel
def _octaves(x, y, z, footprint, gain):
    """Fractal sum of noise whose coarsest wavelength is one unit."""
    total, amplitude, wavelength = 0.0, 1.0, 1.0
    for _ in range(_OCTAVES):
        share = _step(_FADE_OUT * footprint, _FADE_IN * footprint, wavelength)
        if share == 0.0:
            break
        total += amplitude * share * _noise(x / wavelength, y / wavelength, z / wavelength)
        amplitude *= gain
        wavelength *= 0.5
        x, y, z = x + 17.3, y - 9.1, z + 5.7
    return total


@kernel
def _cell(x, y, z):
    """Worley's cells (SIGGRAPH 1996): a number of the nearest one, distance to its border."""
    i, j, k = int(floor(x)), int(floor(y)), int(floor(z))
    first, second, name = 1e9, 1e9, 0
    for n in range(27):
        a, b, c = i + n % 3 - 1, j + (n // 3) % 3 - 1, k + n // 9 - 1
        h = _hash(a, b, c)
        dx = a + (h & 1023) / 1023.0 - x
        dy = b + ((h >> 10) & 1023) / 1023.0 - y
        dz = c + ((h >> 20) & 1023) / 1023.0 - z
        d = dx * dx + dy * dy + dz * dz
        if d < first:
            first, second, name = d, first, h
        elif d < second:
            second = d
    return _unit(_hash(name, 1, 2)), second**0.5 - first**0.5


@kernel
def _brick(x, y, z, nx, ny, nz):
    """A number of the brick, distance to the nearest joint; the face's own axis has none."""
    flat_z = abs(nz) > 0.8
    k = int(nz > 0) if flat_z else int(floor(z))
    edge = 1.0 if flat_z else min(z - floor(z), 1.0 - (z - floor(z)))
    flat_y = abs(ny) > 0.8
    j = int(ny > 0) if flat_y else int(floor(y))
    edge = edge if flat_y else min(edge, min(y - floor(y), 1.0 - (y - floor(y))))
    if abs(nx) > 0.8:
        return _unit(_hash(int(nx > 0), j, k)), edge
    x = 0.5 * x + 0.5 * ((j + k) & 1)
    return (
        _unit(_hash(int(floor(x)), j, k)),
        min(edge, 2.0 * min(x - floor(x), 1.0 - (x - floor(x)))),
    )


@kernel
def _leaves(x, y, z, footprint, gain):
    """Balls and cubes, larger ones under smaller ones, each of a value of its own."""
    value = 0.5 + 0.5 * _noise(0.6 * x, 0.6 * y, 0.6 * z)
    size, amplitude = 1.0, 1.0
    for level in range(_LEAF_SIZES):
        pixels = footprint / size
        share = _step(1.0, 0.3, pixels)
        if share == 0.0:
            break
        u, v, w = x / size + 7.3 * level, y / size - 3.1 * level, z / size + 11.7 * level
        i, j, k = int(floor(u)), int(floor(v)), int(floor(w))
        for corner in range(8):
            a, b, c = i + (corner & 1), j + ((corner >> 1) & 1), k + (corner >> 2)
            h = _hash(a, b, c + 977 * level)
            if h & 1:  # an empty cell
                continue
            # No farther than 0.2 from the corner and within 0.7: never cut off by another cell.
            dx = abs(u - a + 0.4 * ((h >> 2) & 255) / 255.0 - 0.2)
            dy = abs(v - b + 0.4 * ((h >> 10) & 255) / 255.0 - 0.2)
            dz = abs(w - c + 0.4 * ((h >> 18) & 255) / 255.0 - 0.2)
            h = _hash(h, level, 5)
            reach = 0.3 + 0.4 * _unit(h)
            if h & (1 << 20):
                distance = max(dx, max(dy, dz))
            else:
                distance = (dx * dx + dy * dy + dz * dz) ** 0.5
            edge = max(0.5 * pixels, 0.01)
            cover = share * _step(reach + edge, reach - edge, distance)
            if cover > 0.0:
                value += cover * amplitude * (_unit(h >> 3) - value)
        size *= 0.5
        amplitude *= gain
    return value


@kernel
def _window(x, y, z, nx, ny, nz, f):
    """Value of a front with a window in each unit cube; none on what is level."""
    edge = 0.5
    i, j, k = int(floor(x)), int(floor(y)), int(floor(z))
    if abs(nx) < 0.8:
        edge = min(edge, min(x - i, i + 1.0 - x))
    if abs(ny) < 0.8:
        edge = min(edge, min(y - j, j + 1.0 - y))
    if abs(nz) > 0.8:
        return 0.8
    edge = min(edge, 0.75 * min(z - k, k + 1.0 - z))
    soft = max(0.7 * f, 0.01)
    pane = _step(_PANE - soft, _PANE + soft, edge) * _step(1.2, 0.5, 3.0 * f)
    frame = _step(_PANE + 0.04 + soft, _PANE + 0.04 - soft, edge)
    glass = 0.05 + 0.6 * _unit(_hash(i, j, k)) * (z - k) + 0.9 * frame
    wall = 0.7 + 0.2 * _unit(_hash(k, 3, 1))
    return wall + pane * (min(glass, 1.0) - wall)


@kernel
def _pattern(kind, x, y, z, nx, ny, nz, f, gain):
    """Place in the palette (0 to 1), width of the palette's steps, and 0 in joints, else 1."""
    if kind == CLOUDS:
        return 0.5 + 0.9 * _octaves(x, y, z, f, gain), 0.5, 1.0
    if kind == GRAIN:
        return 0.5 + 0.9 * _octaves(0.22 * x, y, z, f, gain), 0.3, 1.0
    if kind == VEINS:
        wave = sin(3.5 * x + 4.0 * _octaves(0.7 * x, 0.7 * y, 0.7 * z, f, gain))
        return 0.5 + 0.5 * wave * _step(2.5, 1.0, 3.0 * f), 0.4, 1.0
    if kind == STRIPES:
        return 0.5 + 1.3 * _octaves(1.2 * x, 0.12 * y + 0.2 * x, 0.12 * z, f, gain), 0.12, 1.0
    if kind == PAINT:
        wx = x + 0.9 * _noise(0.6 * y, 0.6 * z, 0.6 * x)
        wy = y + 0.9 * _noise(0.6 * z + 31.0, 0.6 * x, 0.6 * y)
        return 0.5 + 1.1 * _octaves(0.8 * wx, 0.8 * wy, 0.8 * z, f, gain), 0.1, 1.0
    if kind == LEAVES:
        return _leaves(x, y, z, f, gain), 0.5, 1.0
    if kind == WINDOWS:
        return _window(x, y, z, nx, ny, nz, f), 0.5, 1.0
    if kind == CELLS:
        value, edge = _cell(x, y, z)
    else:
        value, edge = _brick(x, y, z, nx, ny, nz)
    return value, 0.5, _step(0.0, max(0.1, 1.5 * f), edge)


@allocating_kernel
def albedo(materials: Materials, material, point, normal, footprint):
    """Linear colour [f, 3] of fragments [f] with a pixel's width [f] on the surface."""
    color = np.empty((len(material), 3))
    for f in range(len(material)):
        m = material[f]
        axes, size = materials.axes[m], materials.size[m]
        p = (point[f] - materials.origin[m]) / size
        x = axes[0, 0] * p[0] + axes[0, 1] * p[1] + axes[0, 2] * p[2]
        y = axes[1, 0] * p[0] + axes[1, 1] * p[1] + axes[1, 2] * p[2]
        z = axes[2, 0] * p[0] + axes[2, 1] * p[1] + axes[2, 2] * p[2]
        n = normal[f]
        nx = axes[0, 0] * n[0] + axes[0, 1] * n[1] + axes[0, 2] * n[2]
        ny = axes[1, 0] * n[0] + axes[1, 1] * n[1] + axes[1, 2] * n[2]
        nz = axes[2, 0] * n[0] + axes[2, 1] * n[1] + axes[2, 2] * n[2]
        step = footprint[f] / size * materials.softness[m]
        gain, contrast = materials.gain[m], materials.contrast[m]
        value, width, solid = _pattern(materials.pattern[m], x, y, z, nx, ny, nz, step, gain)
        place = 3.0 * min(max(value, 0.0), 0.9999)
        entry = int(place)
        width = min(width + 1.5 * step, 0.5)
        mix = _step(0.5 - width, 0.5 + width, place - entry)
        # Nothing repeats: brightness drifts over metres and grains within each patch.
        drift = 1.0 + 0.35 * contrast * _noise(0.31 * x + 3.1, 0.31 * y, 0.31 * z)
        grain = 1.0 + 0.4 * contrast * _octaves(0.9 * x + 40.0, 0.9 * y, 0.9 * z, step, gain)
        joint = 0.45 + 0.55 * solid
        scale = max(drift * grain, 0.15) * joint
        for c in range(3):
            a, b = materials.palette[m, entry, c], materials.palette[m, entry + 1, c]
            color[f, c] = (a + mix * (b - a)) * scale
    return color
