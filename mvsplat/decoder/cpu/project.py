"""Kernel: project every Gaussian into every view, colour it, and count the tiles it touches."""

import numpy as np

from mvsplat.decoder.cpu import footprint as fp
from mvsplat.decoder.cpu.harmonics import fill_basis, unit_direction
from mvsplat.decoder.cpu.tiles import count_tiles
from mvsplat.kernels import inlined, kernel


@inlined
def _write_color(record, harmonics, basis, coefficients):
    red, green, blue = np.float32(0.5), np.float32(0.5), np.float32(0.5)
    for k in range(coefficients):
        red += basis[k] * harmonics[0, k]
        green += basis[k] * harmonics[1, k]
        blue += basis[k] * harmonics[2, k]
    record[fp.RED] = max(red, np.float32(0))
    record[fp.GREEN] = max(green, np.float32(0))
    record[fp.BLUE] = max(blue, np.float32(0))


@kernel
def project(
    means, scales, rotations, harmonics, opacities, cameras, centers, lenses, height, width,
    degree, antialiased, scene, start, stop, records, counts, basis,
):  # fmt: skip
    """Write ``records[view, g]`` for Gaussians start..stop of a scene; count tiles in ``counts``.

    ``cameras`` [scenes, views, 3, 4], ``centers`` [scenes, views, 3] and ``lenses``
    [scenes, views, 8] (fx, fy, cx, cy in pixels; least and greatest x / z and y / z in the
    Jacobian) are float64; ``records`` is [scenes, views, gaussians, 16] and ``counts``
    [views, tiles], this chunk's own; ``basis`` [25] is scratch.
    """
    coefficients = (degree + 1) ** 2
    for g in range(start, stop):
        mean = means[scene, g]
        axes = fp.principal_axes(rotations[scene, g], scales[scene, g])
        for view in range(cameras.shape[1]):
            camera, lens = cameras[scene, view], lenses[scene, view]
            record = records[scene, view, g]
            # An empty box: not drawn, unless the footprint fills it.
            record[fp.Y_LAST] = 0.0
            record[fp.Y_FIRST] = 0.0
            x, y, z = fp.to_camera(camera, mean)
            if not (fp.NEAR_PLANE <= z <= fp.FAR_PLANE):
                continue
            nearer = 1 / z
            u, v = x * nearer, y * nearer
            rows = fp.projected_rows(camera, lens, u, v, nearer)
            xx, xy, yy, determinant, sharp = fp.covariance(fp.projected_axes(rows, axes))
            opacity = float(opacities[scene, g])
            if antialiased:
                opacity *= np.sqrt(sharp / determinant)
            px, py = lens[0] * u + lens[2], lens[1] * v + lens[3]
            if not fp.write_footprint(
                record, px, py, xx, xy, yy, determinant, opacity, height, width
            ):
                record[fp.Y_LAST] = record[fp.Y_FIRST]
                continue
            record[fp.DEPTH] = z
            dx, dy, dz, _ = unit_direction(mean, centers[scene, view])
            fill_basis(basis, dx, dy, dz, degree)
            _write_color(record, harmonics[scene, g], basis, coefficients)
            count_tiles(record, width, counts[view])
