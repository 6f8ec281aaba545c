"""Kernel: from the gradients of the footprints to those of Gaussians and cameras."""

import math

import numpy as np

from mvsplat.decoder.cpu import footprint as fp
from mvsplat.decoder.cpu.composite_backward import PAIR
from mvsplat.decoder.cpu.harmonics import direction_gradient, fill_basis, unit_direction
from mvsplat.kernels import inlined, kernel

# Gradients of a camera: world-to-camera rows (12), camera centre (3).
CAMERA = 15
# What flows to a projected mean: gradients of x and y, sums of their pixels' absolute values.
SCREEN = 4


@inlined
def _covariance_gradient(grads, xx, xy, yy, determinant):
    """Gradients of xx, xy, yy from those of slope, spread_x and spread_y."""
    slope, spread_x, spread_y = grads[fp.SLOPE], grads[fp.SPREAD_X], grads[fp.SPREAD_Y]
    inverse, tilt, squeeze = 1 / yy, xy / determinant, yy / determinant
    to_xx = -0.5 * spread_x * squeeze * squeeze
    to_xy = slope * inverse + spread_x * tilt * squeeze
    to_yy = -(slope * xy + 0.5 * spread_y) * inverse * inverse - 0.5 * spread_x * tilt * tilt
    return to_xx, to_xy, to_yy


@inlined
def _compensation_gradient(grad, xx, xy, yy, determinant, sharp):
    """Gradients of xx, xy, yy from that of sqrt(sharp / determinant)."""
    ratio = sharp / determinant
    # As in gsplat: the root's slope is infinite for a footprint without width.
    half = 0.5 * grad / (math.sqrt(ratio) + 1e-6) / determinant
    return (
        half * (yy - fp.BLUR - ratio * yy),
        -2 * half * xy * (1 - ratio),
        half * (xx - fp.BLUR - ratio * xx),
    )


@inlined
def _color_backward(
    mean, harmonics, center, grads, record, degree, basis, weights,
    grad_harmonics, grad_mean, grad_camera,
):  # fmt: skip
    """Gradients of the coefficients and, through the direction, of the centre and the camera."""
    dx, dy, dz, distance = unit_direction(mean, center)
    coefficients = (degree + 1) ** 2
    fill_basis(basis, dx, dy, dz, degree)
    zero = np.float32(0)
    red = np.float32(grads[fp.RED]) if record[fp.RED] > 0 else zero
    green = np.float32(grads[fp.GREEN]) if record[fp.GREEN] > 0 else zero
    blue = np.float32(grads[fp.BLUE]) if record[fp.BLUE] > 0 else zero
    for k in range(coefficients):
        weights[k] = red * harmonics[0, k] + green * harmonics[1, k] + blue * harmonics[2, k]
        grad_harmonics[0, k] += red * basis[k]
        grad_harmonics[1, k] += green * basis[k]
        grad_harmonics[2, k] += blue * basis[k]
    gx, gy, gz = direction_gradient(weights, dx, dy, dz, degree)
    along = gx * dx + gy * dy + gz * dz
    nearer = 1 / distance
    moved = (gx - along * dx) * nearer, (gy - along * dy) * nearer, (gz - along * dz) * nearer
    for i in range(3):
        grad_mean[i] += moved[i]
        grad_camera[12 + i] -= moved[i]


@inlined
def _axes_gradient(rows, axes, to_xx, to_xy, to_yy, grad_axes):
    """Add to the world axes' gradients; return those of the projected rows."""
    x0, x1, x2, y0, y1, y2 = fp.projected_axes(rows, axes)
    gx0, gx1, gx2 = (
        2 * to_xx * x0 + to_xy * y0, 2 * to_xx * x1 + to_xy * y1, 2 * to_xx * x2 + to_xy * y2,
    )  # fmt: skip
    gy0, gy1, gy2 = (
        2 * to_yy * y0 + to_xy * x0, 2 * to_yy * y1 + to_xy * x1, 2 * to_yy * y2 + to_xy * x2,
    )  # fmt: skip
    for i in range(3):
        p, q = rows[i], rows[3 + i]
        grad_axes[3 * i] += p * gx0 + q * gy0
        grad_axes[3 * i + 1] += p * gx1 + q * gy1
        grad_axes[3 * i + 2] += p * gx2 + q * gy2
    a0, a1, a2, b0, b1, b2, c0, c1, c2 = axes
    return (
        a0 * gx0 + a1 * gx1 + a2 * gx2, b0 * gx0 + b1 * gx1 + b2 * gx2,
        c0 * gx0 + c1 * gx1 + c2 * gx2, a0 * gy0 + a1 * gy1 + a2 * gy2,
        b0 * gy0 + b1 * gy1 + b2 * gy2, c0 * gy0 + c1 * gy1 + c2 * gy2,
    )  # fmt: skip


@inlined
def _footprint_backward(rows, axes, opacity, antialiased, grads, grad_axes):
    """Add to the world axes' gradients; return those of the projected rows, and the opacity's."""
    xx, xy, yy, determinant, sharp = fp.covariance(fp.projected_axes(rows, axes))
    to_xx, to_xy, to_yy = _covariance_gradient(grads, xx, xy, yy, determinant)
    grad_opacity = grads[fp.OPACITY]
    if antialiased:
        a, b, c = _compensation_gradient(grad_opacity * opacity, xx, xy, yy, determinant, sharp)
        to_xx, to_xy, to_yy = to_xx + a, to_xy + b, to_yy + c
        grad_opacity *= math.sqrt(sharp / determinant)
    return _axes_gradient(rows, axes, to_xx, to_xy, to_yy, grad_axes), grad_opacity


@inlined
def _jacobian_backward(rows, grad_rows, camera, lens, u, v, nearer, grad_camera):
    """Add to the camera's gradients; return those of u, v (as clamped) and of -log z."""
    fx, fy = lens[0] * nearer, lens[1] * nearer
    grad_u, grad_v, grad_nearer = 0.0, 0.0, 0.0
    for i in range(3):
        p, q = grad_rows[i], grad_rows[3 + i]
        grad_camera[i] += fx * p
        grad_camera[4 + i] += fy * q
        grad_camera[8 + i] -= fx * u * p + fy * v * q
        grad_u -= fx * camera[2, i] * p
        grad_v -= fy * camera[2, i] * q
        grad_nearer += rows[i] * p + rows[3 + i] * q
    return grad_u, grad_v, grad_nearer


@inlined
def _geometry_backward(
    mean, axes, opacity, camera, lens, antialiased, grads,
    grad_mean, grad_axes, grad_camera,
):  # fmt: skip
    """Chain one view's footprint gradients to centre, axes and camera; returns the opacity's."""
    x, y, z = fp.to_camera(camera, mean)
    nearer = 1 / z
    free_u, free_v = x * nearer, y * nearer
    u, v = min(lens[5], max(lens[4], free_u)), min(lens[7], max(lens[6], free_v))
    rows = fp.projected_rows(camera, lens, free_u, free_v, nearer)
    grad_rows, grad_opacity = _footprint_backward(
        rows, axes, opacity, antialiased, grads, grad_axes
    )
    grad_u, grad_v, grad_nearer = _jacobian_backward(
        rows, grad_rows, camera, lens, u, v, nearer, grad_camera
    )
    # Where the Jacobian's u or v is clamped, it does not depend on the centre.
    grad_u = (grad_u if u == free_u else 0.0) + grads[fp.X] * lens[0]
    grad_v = (grad_v if v == free_v else 0.0) + grads[fp.Y] * lens[1]
    grad_x, grad_y = grad_u * nearer, grad_v * nearer
    grad_z = grads[fp.DEPTH] - (grad_nearer + grad_u * free_u + grad_v * free_v) * nearer
    for i in range(3):
        grad_mean[i] += camera[0, i] * grad_x + camera[1, i] * grad_y + camera[2, i] * grad_z
        grad_camera[i] += grad_x * mean[i]
        grad_camera[4 + i] += grad_y * mean[i]
        grad_camera[8 + i] += grad_z * mean[i]
    grad_camera[3] += grad_x
    grad_camera[7] += grad_y
    grad_camera[11] += grad_z
    return grad_opacity


@inlined
def rotation_backward(rotation, scale, g, grad_rotation, grad_scale):
    """From the gradients of R diag(s), row by row, to those of the quaternion and of s."""
    w, x, y, z = (
        float(rotation[0]), float(rotation[1]), float(rotation[2]), float(rotation[3]),
    )  # fmt: skip
    inverse = 1 / max(math.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    w, x, y, z = w * inverse, x * inverse, y * inverse, z * inverse
    grad_scale[0] = (
        (1 - 2 * (y * y + z * z)) * g[0] + 2 * (x * y + w * z) * g[3] + 2 * (x * z - w * y) * g[6]
    )
    grad_scale[1] = (
        2 * (x * y - w * z) * g[1] + (1 - 2 * (x * x + z * z)) * g[4] + 2 * (y * z + w * x) * g[7]
    )
    grad_scale[2] = (
        2 * (x * z + w * y) * g[2] + 2 * (y * z - w * x) * g[5] + (1 - 2 * (x * x + y * y)) * g[8]
    )
    a, b, c = float(scale[0]), float(scale[1]), float(scale[2])
    r00, r01, r02 = g[0] * a, g[1] * b, g[2] * c
    r10, r11, r12 = g[3] * a, g[4] * b, g[5] * c
    r20, r21, r22 = g[6] * a, g[7] * b, g[8] * c
    gw = 2 * (x * (r21 - r12) + y * (r02 - r20) + z * (r10 - r01))
    gx = 2 * (-2 * x * (r11 + r22) + y * (r01 + r10) + z * (r02 + r20) + w * (r21 - r12))
    gy = 2 * (-2 * y * (r00 + r22) + x * (r01 + r10) + z * (r12 + r21) + w * (r02 - r20))
    gz = 2 * (-2 * z * (r00 + r11) + x * (r02 + r20) + y * (r12 + r21) + w * (r10 - r01))
    along = gw * w + gx * x + gy * y + gz * z
    grad_rotation[0] = (gw - along * w) * inverse
    grad_rotation[1] = (gx - along * x) * inverse
    grad_rotation[2] = (gy - along * y) * inverse
    grad_rotation[3] = (gz - along * z) * inverse


@inlined
def _any(grads):
    found = False
    for i in range(PAIR):
        found |= grads[i] != 0
    return found


@inlined
def _sum_pairs(first, last, pair_grads, pair_sizes, grads, scene, view, g, screen_grads):
    """Sum a Gaussian's pairs in a view, in the order of their slots."""
    grads[:] = 0.0
    for slot in range(first, last):
        for i in range(PAIR):
            grads[i] += pair_grads[slot, i]
    if screen_grads is not None:
        flow = screen_grads[scene, view, g]
        flow[0], flow[1], flow[2], flow[3] = grads[fp.X], grads[fp.Y], 0.0, 0.0
        for slot in range(first, last):
            flow[2] += pair_sizes[slot, 0]
            flow[3] += pair_sizes[slot, 1]


@inlined
def gaussian_backward(
    scene, g, mean, axes, harmonics, opacity, cameras, centers, lenses, degree, antialiased,
    records, slots, pair_grads, pair_sizes,
    grad_mean, grad_axes, grad_harmonics, grad_cameras, screen_grads, basis, weights, grads,
):  # fmt: skip
    """Write one Gaussian's gradients, summed over the views of its scene; returns the opacity's.

    Arguments are those of ``kernel project_backward`` for one scene (but ``screen_grads``, which is
    of all of them), and one Gaussian's own:
    ``axes`` and ``grad_axes`` are R diag(s), row by row; ``grads`` [10] is scratch.
    """
    grad_mean[:], grad_axes[:], grad_harmonics[:], grad_opacity = 0.0, 0.0, 0.0, 0.0
    for view in range(cameras.shape[0]):
        first, last = slots[view, g], slots[view, g + 1]
        _sum_pairs(first, last, pair_grads, pair_sizes, grads, scene, view, g, screen_grads)
        if not _any(grads):  # out of the picture, or hidden
            continue
        _color_backward(
            mean, harmonics, centers[view], grads, records[view, g],
            degree, basis, weights, grad_harmonics, grad_mean, grad_cameras[view],
        )  # fmt: skip
        grad_opacity += _geometry_backward(
            mean, axes, opacity, cameras[view], lenses[view], antialiased, grads,
            grad_mean, grad_axes, grad_cameras[view],
        )  # fmt: skip
    return grad_opacity


@kernel
def project_backward(
    means, scales, rotations, harmonics, opacities, cameras, centers, lenses, height, width,
    degree, antialiased, scene, start, stop, records, slots, pair_grads, pair_sizes,
    grad_means, grad_scales, grad_rotations, grad_harmonics, grad_opacities, grad_cameras,
    screen_grads, basis, weights, scratch,
):  # fmt: skip
    """Write all gradients of Gaussians start..stop of a scene, summed over its views.

    ``grad_cameras`` [views, 15] is this chunk's own share, to be summed over chunks.
    ``screen_grads`` [scenes, views, gaussians, 4], None where ``pair_sizes`` is, receives what
    flows to the projected means: gradients of x and y, and sums of their pixels' absolute values.
    ``basis`` [25], ``weights`` [25] (float32) and ``scratch`` [22] (float64) are scratch.
    """
    grads, grad_mean, grad_axes = scratch[:PAIR], scratch[PAIR : PAIR + 3], scratch[PAIR + 3 :]
    for g in range(start, stop):
        axes = fp.principal_axes(rotations[scene, g], scales[scene, g])
        grad_opacities[scene, g] = gaussian_backward(
            scene, g, means[scene, g], axes, harmonics[scene, g], float(opacities[scene, g]),
            cameras[scene], centers[scene], lenses[scene], degree, antialiased,
            records[scene], slots[scene], pair_grads, pair_sizes,
            grad_mean, grad_axes, grad_harmonics[scene, g], grad_cameras,
            screen_grads, basis, weights, grads,
        )  # fmt: skip
        for i in range(3):
            grad_means[scene, g, i] = grad_mean[i]
        rotation_backward(
            rotations[scene, g], scales[scene, g], grad_axes,
            grad_rotations[scene, g], grad_scales[scene, g],
        )  # fmt: skip
