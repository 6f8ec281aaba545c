"""How much light falls on a surface: lamps with soft shadows, and shaded ambient light.

Shadows are free of noise: bodies are convex, so along the ray to the lamp the ratio of a body's
signed distance to the length travelled has a single minimum; that minimum, compared with the
lamp's angular radius, says how much of the lamp is hidden.
"""

from math import sqrt

import numpy as np

from mvsplat.data.generated.world import BOX, ELLIPSOID, Lights, Solids, Walls
from mvsplat.kernels import allocating_kernel, kernel

_GOLDEN = 0.6180339887498949
_ROUNDS = 6  # of golden-section search; leaves 6 % of the interval, where the ratio is flat
_REACHES = (0.12, 0.4)  # metres over which nearby surfaces dim the ambient light


@kernel
def _distance(solids, i, x, y, z):
    """Signed distance from a world point to a body (of an ellipsoid: first order)."""
    m, h = solids.axes[i], solids.half[i]
    x, y, z = x - solids.centre[i, 0], y - solids.centre[i, 1], z - solids.centre[i, 2]
    lx = abs(m[0, 0] * x + m[0, 1] * y + m[0, 2] * z)
    ly = abs(m[1, 0] * x + m[1, 1] * y + m[1, 2] * z)
    lz = abs(m[2, 0] * x + m[2, 1] * y + m[2, 2] * z)
    if solids.kind[i] == ELLIPSOID:
        lx, ly, lz = lx / h[0], ly / h[1], lz / h[2]
        level = sqrt(lx * lx + ly * ly + lz * lz)
        gx, gy, gz = lx / h[0], ly / h[1], lz / h[2]
        steepness = sqrt(gx * gx + gy * gy + gz * gz)
        return level * (level - 1.0) / max(steepness, 1e-9)
    if solids.kind[i] == BOX:
        qx, qy, qz = lx - h[0], ly - h[1], lz - h[2]
    else:
        qx, qy, qz = sqrt(lx * lx + ly * ly) - h[0], -1e9, lz - h[2]
    inside = min(max(qx, max(qy, qz)), 0.0)
    qx, qy, qz = max(qx, 0.0), max(qy, 0.0), max(qz, 0.0)
    return inside + sqrt(qx * qx + qy * qy + qz * qz)


@kernel
def _narrowest(solids, i, x, y, z, dx, dy, dz, low, high):
    """Least ratio of distance to length along a ray between two lengths."""
    a = high - _GOLDEN * (high - low)
    b = low + _GOLDEN * (high - low)
    at_a = _distance(solids, i, x + a * dx, y + a * dy, z + a * dz) / a
    at_b = _distance(solids, i, x + b * dx, y + b * dy, z + b * dz) / b
    for _ in range(_ROUNDS):
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - _GOLDEN * (high - low)
            at_a = _distance(solids, i, x + a * dx, y + a * dy, z + a * dz) / a
        else:
            low, a, at_a = a, b, at_b
            b = low + _GOLDEN * (high - low)
            at_b = _distance(solids, i, x + b * dx, y + b * dy, z + b * dz) / b
    return min(at_a, at_b)


@kernel
def _seen(solids, own, x, y, z, dx, dy, dz, length, spread):
    """Visible share of a lamp of angular radius ``spread`` at ``length`` in a direction."""
    share = 1.0
    for i in range(len(solids.kind)):
        if i == own:  # convex: never in its own light where it faces the lamp
            continue
        cx, cy, cz = solids.centre[i, 0] - x, solids.centre[i, 1] - y, solids.centre[i, 2] - z
        along = cx * dx + cy * dy + cz * dz
        r = solids.radius[i]
        if along < -r or along - r > length:
            continue
        aside2 = cx * cx + cy * cy + cz * cz - along * along
        reach = r + spread * min(max(along, 0.0) + r, length)
        if aside2 > reach * reach:
            continue
        low, high = max(along - reach, 0.01), min(along + reach, length)
        if low >= high:
            continue
        ratio = _narrowest(solids, i, x, y, z, dx, dy, dz, low, high)
        u = min(max(0.5 + 0.5 * ratio / spread, 0.0), 1.0)
        share *= u * u * (3.0 - 2.0 * u)
        if share == 0.0:
            break
    return share


@kernel
def _openness(walls, solids, x, y, z, nx, ny, nz):
    """Share of ambient light that nearby surfaces leave, from distances along the normal."""
    short, long = _REACHES
    near_x, near_y, near_z = x + short * nx, y + short * ny, z + short * nz
    far_x, far_y, far_z = x + long * nx, y + long * ny, z + long * nz
    at_short, at_long = short, long
    for i in range(len(walls.offset)):
        n = walls.normal
        here = n[i, 0] * x + n[i, 1] * y + n[i, 2] * z - walls.offset[i]
        rise = n[i, 0] * nx + n[i, 1] * ny + n[i, 2] * nz
        at_short = min(at_short, here + short * rise)
        at_long = min(at_long, here + long * rise)
    for i in range(len(solids.kind)):
        c = solids.centre
        cx, cy, cz = c[i, 0] - far_x, c[i, 1] - far_y, c[i, 2] - far_z
        reach = solids.radius[i] + long
        if cx * cx + cy * cy + cz * cz < reach * reach:
            at_short = min(at_short, _distance(solids, i, near_x, near_y, near_z))
            at_long = min(at_long, _distance(solids, i, far_x, far_y, far_z))
    return 1.0 - 0.35 * (2.0 - max(at_short, 0.0) / short - max(at_long, 0.0) / long)


@allocating_kernel
def irradiance(walls: Walls, solids: Solids, lights: Lights, ambient, body, point, normal):
    """Linear light [f, 3] that falls on fragments [f]; ambient [2, 3] from below and above."""
    light = np.empty((len(body), 3))
    count = len(walls.offset)
    for f in range(len(body)):
        x, y, z = point[f]
        nx, ny, nz = normal[f]
        openness = _openness(walls, solids, x, y, z, nx, ny, nz)
        up = 0.5 + 0.5 * nz
        for c in range(3):
            light[f, c] = openness * (ambient[0, c] * (1.0 - up) + ambient[1, c] * up)
        for k in range(len(lights.radius)):
            dx = lights.position[k, 0] - x
            dy = lights.position[k, 1] - y
            dz = lights.position[k, 2] - z
            length = sqrt(dx * dx + dy * dy + dz * dz)
            dx, dy, dz = dx / length, dy / length, dz / length
            facing = nx * dx + ny * dy + nz * dz
            if facing <= 0.0:
                continue
            share = 1.0
            if lights.radius[k] > 0.0:
                spread = lights.radius[k] / length
                own = body[f] - count
                share = _seen(solids, own, x, y, z, dx, dy, dz, length, spread)
            # Falls off with distance, gently: a room's walls send light back.
            power = share * facing / (0.35 + 0.065 * length * length)
            for c in range(3):
                light[f, c] += power * lights.color[k, c]
    return light
