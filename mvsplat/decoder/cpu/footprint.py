"""From a 3-D Gaussian and a camera to its footprint on the image; helpers of the kernels.

Pixels: the centre of column i is at i + 0.5.  A footprint with covariance (xx, xy; xy, yy) and
centre (x, y) is stored row by row, as the horizontal Gaussian it is in every image row:

    exponent(px, py) = spread_y (py - y)^2 + spread_x (px - centre(py))^2,
    centre(py) = x + slope (py - y),
    slope = xy / yy,  spread_x = yy / (2 det),  spread_y = 1 / (2 yy)

which, unlike the usual quadratic form of the inverse covariance, is a sum of positive terms: no
cancellation for needle-thin or huge footprints.  Nor is there any in the determinant, a sum of
squares (Cauchy-Binet) for J S J^T + 0.3 I.  This geometry is computed in float64.
"""

import math

from mvsplat.kernels import inlined

BLUR = 0.3
NEAR_PLANE = 0.2
FAR_PLANE = 1e10
ALPHA_CUT = 1.0 / 255.0
EXPONENT_CUT = math.log(255.0)
LARGEST = 1e9  # pixels; no single-precision arithmetic makes sense of more

# Fields of a record: 16 float32, one cache line.
X, Y, SLOPE, SPREAD_X, SPREAD_Y, OPACITY, RED, GREEN, BLUE, DEPTH = range(10)
# The point of the line centre(py) that is in the image's rows, where it is most accurate.
X_INSIDE, Y_INSIDE = 10, 11
# First and last pixel (exclusive) that can receive a contribution.
X_FIRST, X_LAST, Y_FIRST, Y_LAST = 12, 13, 14, 15
RECORD = 16


@inlined
def principal_axes(rotation, scale):
    """Columns of R diag(s), row by row, for the quaternion (w, x, y, z) of any length."""
    w, x, y, z = (
        float(rotation[0]), float(rotation[1]), float(rotation[2]), float(rotation[3]),
    )  # fmt: skip
    inverse = 1 / max(math.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    w, x, y, z = w * inverse, x * inverse, y * inverse, z * inverse
    s0, s1, s2 = float(scale[0]), float(scale[1]), float(scale[2])
    return (
        (1 - 2 * (y * y + z * z)) * s0, 2 * (x * y - w * z) * s1, 2 * (x * z + w * y) * s2,
        2 * (x * y + w * z) * s0, (1 - 2 * (x * x + z * z)) * s1, 2 * (y * z - w * x) * s2,
        2 * (x * z - w * y) * s0, 2 * (y * z + w * x) * s1, (1 - 2 * (x * x + y * y)) * s2,
    )  # fmt: skip


@inlined
def to_camera(camera, mean):
    """The centre in camera coordinates; ``camera`` is world-to-camera, 3 x 4."""
    m0, m1, m2 = float(mean[0]), float(mean[1]), float(mean[2])
    return (
        camera[0, 0] * m0 + camera[0, 1] * m1 + camera[0, 2] * m2 + camera[0, 3],
        camera[1, 0] * m0 + camera[1, 1] * m1 + camera[1, 2] * m2 + camera[1, 3],
        camera[2, 0] * m0 + camera[2, 1] * m1 + camera[2, 2] * m2 + camera[2, 3],
    )


@inlined
def projected_rows(camera, lens, u, v, nearer):
    """The two rows of the projection's Jacobian times the camera's rotation.

    ``u`` and ``v`` are x / z and y / z, here clamped to the bounds that follow the lens's first
    four numbers; ``nearer`` is 1 / z.
    """
    fx, fy = lens[0] * nearer, lens[1] * nearer
    u, v = min(lens[5], max(lens[4], u)), min(lens[7], max(lens[6], v))
    return (
        fx * (camera[0, 0] - u * camera[2, 0]),
        fx * (camera[0, 1] - u * camera[2, 1]),
        fx * (camera[0, 2] - u * camera[2, 2]),
        fy * (camera[1, 0] - v * camera[2, 0]),
        fy * (camera[1, 1] - v * camera[2, 1]),
        fy * (camera[1, 2] - v * camera[2, 2]),
    )


@inlined
def projected_axes(rows, axes):
    """Images of the three principal axes: their x, then their y coordinates, in pixels."""
    p0, p1, p2, q0, q1, q2 = rows
    a0, a1, a2, b0, b1, b2, c0, c1, c2 = axes
    return (
        p0 * a0 + p1 * b0 + p2 * c0, p0 * a1 + p1 * b1 + p2 * c1, p0 * a2 + p1 * b2 + p2 * c2,
        q0 * a0 + q1 * b0 + q2 * c0, q0 * a1 + q1 * b1 + q2 * c1, q0 * a2 + q1 * b2 + q2 * c2,
    )  # fmt: skip


@inlined
def covariance(image_axes):
    """xx, xy, yy and determinant of the dilated covariance, and the determinant before dilation."""
    x0, x1, x2, y0, y1, y2 = image_axes
    xx = x0 * x0 + x1 * x1 + x2 * x2
    xy = x0 * y0 + x1 * y1 + x2 * y2
    yy = y0 * y0 + y1 * y1 + y2 * y2
    m0, m1, m2 = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
    sharp = m0 * m0 + m1 * m1 + m2 * m2
    return xx + BLUR, xy, yy + BLUR, sharp + BLUR * (xx + yy) + BLUR * BLUR, sharp


@inlined
def write_footprint(record, x, y, xx, xy, yy, determinant, opacity, height, width):
    """Fill the geometric fields; False if no pixel of the image can receive a contribution."""
    record[Y_LAST] = 0.0
    record[Y_FIRST] = 0.0
    # Written so that NaN, which overflow may have made, fails the conditions.
    if not (opacity >= ALPHA_CUT and max(xx, yy) < LARGEST * LARGEST):
        return False
    if not (abs(x) < LARGEST and abs(y) < LARGEST):
        return False
    # A little more than needed: what counts is decided a pixel at a time, in float32.
    reach = math.sqrt(2 * min(math.log(opacity * 255.0), EXPONENT_CUT)) * 1.0001 + 1e-3
    reach_x, reach_y = reach * math.sqrt(xx) + 1e-6 * abs(x), reach * math.sqrt(yy) + 1e-6 * abs(y)
    if not (x + reach_x > 0 and x - reach_x < width and y + reach_y > 0 and y - reach_y < height):
        return False
    inside = min(max(y, 0.0), float(height))
    record[X], record[Y] = x, y
    inverse = 1 / yy
    slope = xy * inverse
    record[SLOPE] = slope
    record[SPREAD_X] = 0.5 * yy / determinant
    record[SPREAD_Y] = 0.5 * inverse
    record[OPACITY] = opacity
    record[X_INSIDE] = x + slope * (inside - y)
    record[Y_INSIDE] = inside
    record[X_FIRST] = max(0.0, math.ceil(x - reach_x - 0.5))
    record[X_LAST] = min(float(width), math.floor(x + reach_x - 0.5) + 1)
    record[Y_FIRST] = max(0.0, math.ceil(y - reach_y - 0.5))
    record[Y_LAST] = min(float(height), math.floor(y + reach_y - 0.5) + 1)
    return record[X_FIRST] < record[X_LAST] and record[Y_FIRST] < record[Y_LAST]
