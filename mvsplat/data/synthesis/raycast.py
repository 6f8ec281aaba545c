"""What each pixel sees: exact intersections of rays with walls and bodies.

Rays are scaled so that their component along the optical axis is 1: the ray parameter *is* the
depth. Nine rays a pixel, on a regular 3 x 3 grid whose middle is the pixel's centre, find the
surfaces in it; rays that hit the same surface are merged into one *fragment* that is shaded once.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
from numba import njit

from mvsplat.data.synthesis.world import BOX, ELLIPSOID, Solids, Walls

_FACES = 8  # surface number = body * 8 + face; walls come first and have one face
_FAR = 1e9
# Centre first, then corners: where these five agree, the other four are not cast.
_OFFSETS = np.array(
    [[0, 0], [-1, -1], [1, -1], [-1, 1], [1, 1], [0, -1], [-1, 0], [1, 0], [0, 1]]
) / 3.0


class Fragments(NamedTuple):
    """Pieces of surfaces in pixels.

    pixel [f]; weight [f], the share of the pixel; body [f] (walls first, then solids); point
    [f, 3]; normal [f, 3] towards the camera; footprint [f], a pixel's width on the surface.
    """

    pixel: np.ndarray
    weight: np.ndarray
    body: np.ndarray
    point: np.ndarray
    normal: np.ndarray
    footprint: np.ndarray


@njit(cache=True, nogil=True, error_model="numpy")
def _enter_box(ox, oy, oz, dx, dy, dz, hx, hy, hz):
    """Ray parameter and face of the entry into a box around the origin."""
    near, far, face = -_FAR, _FAR, 0
    for axis in range(3):
        o, d, h = (ox, dx, hx) if axis == 0 else ((oy, dy, hy) if axis == 1 else (oz, dz, hz))
        if abs(d) < 1e-12:
            if abs(o) > h:
                return _FAR, 0
            continue
        first, last = (-h - o) / d, (h - o) / d
        if first > last:
            first, last = last, first
        if first > near:
            near, face = first, 2 * axis + (1 if d < 0 else 0)
        far = min(far, last)
    return (near, face) if near <= far and near > 0 else (_FAR, 0)


@njit(cache=True, nogil=True, error_model="numpy")
def _enter_ellipsoid(ox, oy, oz, dx, dy, dz, hx, hy, hz):
    ox, oy, oz, dx, dy, dz = ox / hx, oy / hy, oz / hz, dx / hx, dy / hy, dz / hz
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - 1.0
    root = b * b - a * c
    if root < 0:
        return _FAR, 0
    t = (-b - sqrt(root)) / a
    return (t, 0) if t > 0 else (_FAR, 0)


@njit(cache=True, nogil=True, error_model="numpy")
def _enter_cylinder(ox, oy, oz, dx, dy, dz, r, h):
    """Faces: 0 the side, 4 and 5 the lower and upper end (as of a box)."""
    near, far, face = -_FAR, _FAR, 0
    a = dx * dx + dy * dy
    c = ox * ox + oy * oy - r * r
    if a > 1e-12:
        b = ox * dx + oy * dy
        root = b * b - a * c
        if root < 0:
            return _FAR, 0
        near, far = (-b - sqrt(root)) / a, (-b + sqrt(root)) / a
    elif c > 0:
        return _FAR, 0
    if abs(dz) > 1e-12:
        first, last = (-h - oz) / dz, (h - oz) / dz
        if first > last:
            first, last = last, first
        if first > near:
            near, face = first, 5 if dz < 0 else 4
        far = min(far, last)
    elif abs(oz) > h:
        return _FAR, 0
    return (near, face) if near <= far and near > 0 else (_FAR, 0)


@njit(cache=True, nogil=True, error_model="numpy")
def _cast(walls, solids, ox, oy, oz, dx, dy, dz):
    """Depth and surface number of the first hit."""
    best, surface = _FAR, -1
    count = len(walls.offset)
    for i in range(count):
        n = walls.normal[i]
        slope = n[0] * dx + n[1] * dy + n[2] * dz
        if slope < 0:
            t = (walls.offset[i] - n[0] * ox - n[1] * oy - n[2] * oz) / slope
            if t < best:
                best, surface = t, i * _FACES
    dd = dx * dx + dy * dy + dz * dz
    for i in range(len(solids.kind)):
        cx, cy, cz = (
            solids.centre[i, 0] - ox, solids.centre[i, 1] - oy, solids.centre[i, 2] - oz
        )
        along = cx * dx + cy * dy + cz * dz
        r2 = solids.radius[i] * solids.radius[i]
        if along < 0 or cx * cx + cy * cy + cz * cz - along * along / dd > r2:
            continue
        m = solids.axes[i]
        px = -(m[0, 0] * cx + m[0, 1] * cy + m[0, 2] * cz)
        py = -(m[1, 0] * cx + m[1, 1] * cy + m[1, 2] * cz)
        pz = -(m[2, 0] * cx + m[2, 1] * cy + m[2, 2] * cz)
        ex = m[0, 0] * dx + m[0, 1] * dy + m[0, 2] * dz
        ey = m[1, 0] * dx + m[1, 1] * dy + m[1, 2] * dz
        ez = m[2, 0] * dx + m[2, 1] * dy + m[2, 2] * dz
        hx, hy, hz = solids.half[i, 0], solids.half[i, 1], solids.half[i, 2]
        if solids.kind[i] == BOX:
            t, face = _enter_box(px, py, pz, ex, ey, ez, hx, hy, hz)
        elif solids.kind[i] == ELLIPSOID:
            t, face = _enter_ellipsoid(px, py, pz, ex, ey, ez, hx, hy, hz)
        else:
            t, face = _enter_cylinder(px, py, pz, ex, ey, ez, hx, hz)
        if t < best:
            best, surface = t, (count + i) * _FACES + face
    return best, surface


@njit(cache=True, nogil=True, error_model="numpy")
def _normal(walls, solids, surface, x, y, z):
    """Outward unit normal of a surface at a world point."""
    body, face = surface // _FACES, surface % _FACES
    if body < len(walls.offset):
        n = walls.normal[body]
        return n[0], n[1], n[2]
    i = body - len(walls.offset)
    m = solids.axes[i]
    lx, ly, lz = 0.0, 0.0, 0.0
    if solids.kind[i] == BOX or face >= 4:
        sign = 1.0 if face % 2 else -1.0
        row = m[face // 2]
        return sign * row[0], sign * row[1], sign * row[2]
    x, y, z = x - solids.centre[i, 0], y - solids.centre[i, 1], z - solids.centre[i, 2]
    h = solids.half[i]
    lx = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z) / (h[0] * h[0])
    ly = (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z) / (h[1] * h[1])
    if solids.kind[i] == ELLIPSOID:
        lz = (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z) / (h[2] * h[2])
    scale = 1.0 / sqrt(lx * lx + ly * ly + lz * lz)
    lx, ly, lz = lx * scale, ly * scale, lz * scale
    return (
        m[0, 0] * lx + m[1, 0] * ly + m[2, 0] * lz,
        m[0, 1] * lx + m[1, 1] * ly + m[2, 1] * lz,
        m[0, 2] * lx + m[1, 2] * ly + m[2, 2] * lz,
    )


@njit(cache=True, nogil=True, error_model="numpy")
def cast_depth(walls: Walls, solids: Solids, pose: np.ndarray, focal: np.ndarray, height, width):
    """Exact depth [height, width] along the optical axis at the pixels' centres.

    ``pose`` [4, 4] is camera-to-world, ``focal`` = (fx, fy, cx, cy) normalised.
    """
    depth = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            x = ((column + 0.5) / width - focal[2]) / focal[0]
            y = ((row + 0.5) / height - focal[3]) / focal[1]
            depth[row, column], _ = _cast(
                walls, solids, pose[0, 3], pose[1, 3], pose[2, 3],
                pose[0, 0] * x + pose[0, 1] * y + pose[0, 2],
                pose[1, 0] * x + pose[1, 1] * y + pose[1, 2],
                pose[2, 0] * x + pose[2, 1] * y + pose[2, 2],
            )
    return depth


@njit(cache=True, nogil=True, error_model="numpy")
def cast_fragments(
    walls: Walls, solids: Solids, pose: np.ndarray, focal: np.ndarray, height, width
):
    """The fields of :class:`Fragments`, and the depth of :func:`cast_depth`."""
    most = height * width * len(_OFFSETS)
    pixel, weight = np.empty(most, np.int64), np.zeros(most)
    surfaces, depths = np.empty(most, np.int64), np.zeros(most)
    point, normal = np.zeros((most, 3)), np.empty((most, 3))
    footprint = np.empty(most)
    depth = np.empty((height, width))
    ox, oy, oz = pose[0, 3], pose[1, 3], pose[2, 3]
    end = 0
    for index in range(height * width):
        row, column = index // width, index % width
        start = end
        for k in range(len(_OFFSETS)):
            if k == 5 and end == start + 1:
                break
            x = ((column + 0.5 + _OFFSETS[k, 0]) / width - focal[2]) / focal[0]
            y = ((row + 0.5 + _OFFSETS[k, 1]) / height - focal[3]) / focal[1]
            dx = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2]
            dy = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2]
            dz = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2]
            t, surface = _cast(walls, solids, ox, oy, oz, dx, dy, dz)
            if k == 0:
                depth[row, column] = t
            f = start
            while f < end and surfaces[f] != surface:
                f += 1
            if f == end:
                end += 1
                pixel[f], surfaces[f] = index, surface
            weight[f] += 1.0
            depths[f] += t
            point[f, 0] += ox + t * dx
            point[f, 1] += oy + t * dy
            point[f, 2] += oz + t * dz
        total = 0.0
        for f in range(start, end):
            total += weight[f]
        for f in range(start, end):
            px, py, pz = point[f] / weight[f]
            nx, ny, nz = _normal(walls, solids, surfaces[f], px, py, pz)
            point[f], normal[f] = (px, py, pz), (nx, ny, nz)
            vx, vy, vz = ox - px, oy - py, oz - pz
            facing = (nx * vx + ny * vy + nz * vz) / sqrt(vx * vx + vy * vy + vz * vz)
            # Seen at a slant a pixel is long; the geometric mean with its width, bounded.
            slant = 1.0 / sqrt(max(facing, 0.1))
            footprint[f] = depths[f] / weight[f] / (focal[0] * width) * slant
            weight[f] /= total
    body = surfaces[:end] // _FACES
    return (
        pixel[:end], weight[:end], body, point[:end], normal[:end], footprint[:end], depth
    )
