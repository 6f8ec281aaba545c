"""What each pixel sees: exact intersections of rays with walls and bodies.

Rays are scaled so that their component along the optical axis is 1: the ray parameter *is* the
depth. Where a pixel's centre and corners show one surface, that is all there is in it; otherwise
nine rays on a regular 3 x 3 grid, whose middle is the centre, find what is. Rays that hit the same
surface are merged into one *fragment*, which is shaded once.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np

from mvsplat.data.generated.world import BOX, ELLIPSOID, Solids, Walls
from mvsplat.kernels import allocating_kernel, kernel

_FACES = 8  # surface number = body * 8 + face; walls come first and have one face
_FAR = 1e9
_TINY = 1e-100  # instead of a direction's 0, whose inverse would turn products into nan
_IN_FRONT = 0.05  # metres before the camera that a body must stay to be bounded in the picture
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
_OFFSETS = np.array([[0, 0], [-1, -1], [0, -1], [1, -1], [-1, 0], [1, 0], [-1, 1], [0, 1], [1, 1]])
_OFFSETS = _OFFSETS / 3.0  # of a pixel, its centre first


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


@kernel
def _enter_box(ox, oy, oz, dx, dy, dz, hx, hy, hz):
    """Ray parameter and face of the entry into a box around the origin."""
    ix, iy, iz = 1.0 / (dx or _TINY), 1.0 / (dy or _TINY), 1.0 / (dz or _TINY)
    sx, sy, sz = abs(ix) * hx, abs(iy) * hy, abs(iz) * hz
    mx, my, mz = -ox * ix, -oy * iy, -oz * iz
    near, face = mx - sx, 0 if dx > 0 else 1
    if my - sy > near:
        near, face = my - sy, 2 if dy > 0 else 3
    if mz - sz > near:
        near, face = mz - sz, 4 if dz > 0 else 5
    far = min(mx + sx, min(my + sy, mz + sz))
    return (near, face) if near <= far and near > 0 else (_FAR, 0)


@kernel
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


@kernel
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


class _Stage(NamedTuple):
    """Walls and bodies as one camera meets them.

    inverse_depth [w, 3]: a wall's inverse depth along the ray (x, y, 1) is its product with the
    ray; kind [s]; half [s, 3]; origin [s, 3] and turn [s, 3, 3]: the camera's centre and rays in
    the frame of a body; bounds [s, 4]: the least x, least y, largest x and largest y it covers.
    """

    inverse_depth: np.ndarray
    kind: np.ndarray
    half: np.ndarray
    origin: np.ndarray
    turn: np.ndarray
    bounds: np.ndarray


def _set_stage(walls: Walls, solids: Solids, pose: np.ndarray) -> _Stage:
    rotation, centre = pose[:3, :3], pose[:3, 3]
    inverse_depth = walls.normal @ rotation / (walls.offset - walls.normal @ centre)[:, None]
    turn = solids.axes @ rotation
    origin = -np.einsum("sij,sj->si", solids.axes, solids.centre - centre)
    corners = _CORNERS * solids.half[:, None] - origin[:, None]
    corners = corners @ turn  # [s, 8, 3] in the camera's frame
    ahead = corners[..., 2].min(1) > _IN_FRONT
    spots = corners[..., :2] / np.maximum(corners[..., 2:], _IN_FRONT)
    bounds = np.concatenate([spots.min(1), spots.max(1)], axis=1)
    bounds[~ahead] = (-np.inf, -np.inf, np.inf, np.inf)
    bounds[corners[..., 2].max(1) <= 0.0] = (np.inf, np.inf, -np.inf, -np.inf)
    return _Stage(inverse_depth, solids.kind, solids.half, origin, turn, bounds)


@kernel
def _meets(stage, candidates, low, high):
    """Fills ``candidates`` with the bodies that reach between two heights; returns how many."""
    count = 0
    for i in range(len(stage.kind)):
        if stage.bounds[i, 1] <= high and stage.bounds[i, 3] >= low:
            candidates[count] = i
            count += 1
    return count


@kernel
def _cast(stage, candidates, count, x, y):
    """Depth and surface number of the first thing on the ray (x, y, 1) from the camera."""
    closest, surface = 0.0, -1
    walls = len(stage.inverse_depth)
    for i in range(walls):
        w = stage.inverse_depth
        inverse = w[i, 0] * x + w[i, 1] * y + w[i, 2]
        if inverse > closest:
            closest, surface = inverse, i * _FACES
    best = 1.0 / closest if closest > 0 else _FAR
    for c in range(count):
        i = candidates[c]
        b = stage.bounds
        if x < b[i, 0] or y < b[i, 1] or x > b[i, 2] or y > b[i, 3]:
            continue
        m, o, h = stage.turn, stage.origin, stage.half
        dx = m[i, 0, 0] * x + m[i, 0, 1] * y + m[i, 0, 2]
        dy = m[i, 1, 0] * x + m[i, 1, 1] * y + m[i, 1, 2]
        dz = m[i, 2, 0] * x + m[i, 2, 1] * y + m[i, 2, 2]
        ox, oy, oz = o[i, 0], o[i, 1], o[i, 2]
        if stage.kind[i] == BOX:
            t, face = _enter_box(ox, oy, oz, dx, dy, dz, h[i, 0], h[i, 1], h[i, 2])
        elif stage.kind[i] == ELLIPSOID:
            t, face = _enter_ellipsoid(ox, oy, oz, dx, dy, dz, h[i, 0], h[i, 1], h[i, 2])
        else:
            t, face = _enter_cylinder(ox, oy, oz, dx, dy, dz, h[i, 0], h[i, 2])
        if t < best:
            best, surface = t, (walls + i) * _FACES + face
    return best, surface


@kernel
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


@allocating_kernel
def _depth(stage, focal, height, width):
    depth = np.empty((height, width))
    candidates = np.empty(len(stage.kind), np.int64)
    for row in range(height):
        y = ((row + 0.5) / height - focal[3]) / focal[1]
        count = _meets(stage, candidates, y, y)
        for column in range(width):
            x = ((column + 0.5) / width - focal[2]) / focal[0]
            depth[row, column], _ = _cast(stage, candidates, count, x, y)
    return depth


@kernel
def _cast_corners(stage, candidates, count, y, focal, width, surface):
    """Surface numbers [width + 1] at the pixels' corners along one line."""
    for column in range(width + 1):
        x = (column / width - focal[2]) / focal[0]
        _, surface[column] = _cast(stage, candidates, count, x, y)


@allocating_kernel
def _gather(stage, focal, height, width):
    """Pixel, surface number and sums of every fragment; depth at the pixels' centres.

    The sums are the number of rays, and their x, y and inverse depths: on a flat surface the mean
    inverse depth belongs to the mean place in the picture.
    """
    most = height * width * len(_OFFSETS)
    pixel, surface = np.empty(most, np.int64), np.empty(most, np.int64)
    sums = np.empty((most, 4))
    depth = np.empty((height, width))
    candidates = np.empty(len(stage.kind), np.int64)
    above, below = np.empty(width + 1, np.int64), np.empty(width + 1, np.int64)
    end = 0
    for row in range(height):
        top, bottom = (
            (row / height - focal[3]) / focal[1],
            ((row + 1) / height - focal[3]) / focal[1],
        )
        count = _meets(stage, candidates, top, bottom)
        if row == 0:
            _cast_corners(stage, candidates, count, top, focal, width, above)
        _cast_corners(stage, candidates, count, bottom, focal, width, below)
        for column in range(width):
            start = end
            for k in range(len(_OFFSETS)):
                x = ((column + 0.5 + _OFFSETS[k, 0]) / width - focal[2]) / focal[0]
                y = ((row + 0.5 + _OFFSETS[k, 1]) / height - focal[3]) / focal[1]
                t, hit = _cast(stage, candidates, count, x, y)
                f = start
                while f < end and surface[f] != hit:
                    f += 1
                if f == end:
                    end += 1
                    pixel[f], surface[f] = row * width + column, hit
                    sums[f] = 0.0
                sums[f, 0] += 1.0
                sums[f, 1] += x
                sums[f, 2] += y
                sums[f, 3] += 1.0 / t
                if k == 0:
                    depth[row, column] = t
                    if (
                        hit == above[column]
                        and hit == above[column + 1]
                        and hit == below[column]
                        and hit == below[column + 1]
                    ):
                        break
        above, below = below, above
    return pixel[:end], surface[:end], sums[:end], depth


@allocating_kernel
def _normals(walls, solids, surface, point):
    normal = np.empty((len(surface), 3))
    for f in range(len(surface)):
        normal[f] = _normal(walls, solids, surface[f], point[f, 0], point[f, 1], point[f, 2])
    return normal


def cast_depth(
    walls: Walls, solids: Solids, pose: np.ndarray, focal: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Exact depth [height, width] along the optical axis at the pixels' centres.

    ``pose`` [4, 4] is camera-to-world, ``focal`` is (fx, fy, cx, cy) normalised.
    """
    return _depth(_set_stage(walls, solids, pose), focal, height, width)


def cast_fragments(
    walls: Walls, solids: Solids, pose: np.ndarray, focal: np.ndarray, height: int, width: int
) -> tuple[Fragments, np.ndarray]:
    """Everything the camera sees, and the depth of :func:`cast_depth`."""
    stage = _set_stage(walls, solids, pose)
    pixel, surface, sums, depth = _gather(stage, focal, height, width)
    rays = sums[:, :1]
    z = rays / sums[:, 3:]
    ray = np.concatenate([sums[:, 1:3] / rays, np.ones_like(z)], axis=1)
    offset = (z * ray) @ pose[:3, :3].T
    point = pose[:3, 3] + offset
    normal = _normals(walls, solids, surface, point)
    facing = -np.einsum("fi,fi->f", normal, offset) / np.linalg.norm(offset, axis=1)
    # Seen at a slant a pixel is long; the geometric mean of its length and width, bounded.
    footprint = z[:, 0] / (focal[0] * width) / np.sqrt(np.maximum(facing, 0.1))
    weight = rays[:, 0] / np.bincount(pixel, rays[:, 0], height * width)[pixel]
    return Fragments(pixel, weight, surface // _FACES, point, normal, footprint), depth
