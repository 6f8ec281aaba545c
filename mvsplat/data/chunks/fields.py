"""How a chunk stores cameras, pictures and depth; the inverse functions side by side."""

import io

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mvsplat.data.camera_checks import check_cameras
from mvsplat.data.picture_formats import FORMATS, why_unreadable

_DEPTH_LEVELS = 65535
# In image widths; less moves no point by a tenth of a pixel.
_LARGEST_SKEW = 1e-4
_LEAST_DEGREES, _MOST_AWAY = 1.0, 5.0


def pack_cameras(
    extrinsics: Float[Tensor, "n 4 4"], intrinsics: Float[Tensor, "n 3 3"]
) -> Float[Tensor, "n 18"]:
    """Cameras as chunks store them, from camera-to-world matrices and normalised intrinsics.

    Raises:
        ValueError: A camera has skew, for which chunks have no place.
    """
    skewed = intrinsics[:, 0, 1].abs() > _LARGEST_SKEW
    if skewed.any():
        number = int(skewed.nonzero()[0])
        raise ValueError(
            f"the camera of frame {number} has a skew of {float(intrinsics[number, 0, 1]):g} image "
            "widths, which chunks cannot store; resample its picture to one without skew"
        )
    world_to_camera = torch.linalg.inv(extrinsics.double())[:, :3].flatten(1).float()
    fx, fy, cx, cy = (intrinsics[:, i, j].float() for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    zero = torch.zeros_like(fx)
    return torch.cat([torch.stack([fx, fy, cx, cy, zero, zero], -1), world_to_camera], -1)


def unpack_cameras(
    cameras: Float[Tensor, "n 18"],
) -> tuple[Float[Tensor, "n 4 4"], Float[Tensor, "n 3 3"]]:
    """Camera-to-world matrices and normalised intrinsics, the inverse of :func:`pack_cameras`.

    Raises:
        ValueError: A number is not finite, a focal length not positive, a matrix no rotation, or
            the intrinsics are not normalised.
    """
    world_to_camera = torch.eye(4, dtype=torch.float64).repeat(len(cameras), 1, 1)
    world_to_camera[:, :3] = cameras[:, 6:].double().unflatten(1, (3, 4))
    intrinsics = torch.eye(3).repeat(len(cameras), 1, 1)
    intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]] = cameras[:, :4].float()
    check_cameras(world_to_camera, intrinsics)
    _check_normalized(intrinsics)
    return torch.linalg.inv(world_to_camera).float(), intrinsics


def _check_normalized(intrinsics: Float[Tensor, "n 3 3"]) -> None:
    """Refuse what no camera has, but intrinsics in pixels do."""
    focal = intrinsics[:, [0, 1], [0, 1]].double()
    degrees = 2 * torch.rad2deg(torch.atan(0.5 / focal)).amin(-1)
    away = (intrinsics[:, :2, 2] - 0.5).abs().amax(-1)
    bad = ((degrees < _LEAST_DEGREES) | (away > _MOST_AWAY)).nonzero()
    if len(bad):
        frame = int(bad[0])
        x, y = intrinsics[frame, :2, 2].tolist()
        raise ValueError(
            f"the camera of frame {frame} has a field of view of {degrees[frame]:.2g} degrees and "
            f"its principal point at {x:g} picture widths and {y:g} heights: are the intrinsics in "
            "pixels? Expected are focal lengths and principal point divided by the picture's width "
            "(fx, cx) and height (fy, cy)"
        )


def encode_depth(depth: np.ndarray, near: float) -> UInt8[Tensor, " bytes"]:
    """Depth [h, w] along the optical axis as the PNG bytes of a chunk; 0 or inf where unknown.

    Raises:
        ValueError: Some depth is in front of ``near``, which the format cannot hold.
    """
    known = np.isfinite(depth) & (depth > 0)
    levels = np.zeros(depth.shape, dtype=np.float64)
    np.divide(_DEPTH_LEVELS * near, depth, out=levels, where=known)
    if levels.max(initial=0) > _DEPTH_LEVELS + 0.5:
        raise ValueError(f"a depth of {depth[known].min():g} is in front of near = {near:g}")
    buffer = io.BytesIO()
    Image.fromarray(np.rint(levels).astype(np.uint16)).save(buffer, "PNG")
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def decode_depth(encoded: UInt8[Tensor, " bytes"], near: float) -> np.ndarray:
    """Depth [h, w] in float32, 0 where unknown; the inverse of :func:`encode_depth`."""
    levels = np.asarray(decode_picture(encoded, ("PNG",)), dtype=np.float32)
    if levels.ndim != 2:
        raise ValueError("it is in colour, expected a 16-bit grey PNG")
    scale = np.float32(_DEPTH_LEVELS * near)
    return np.divide(scale, levels, out=np.zeros_like(levels), where=levels > 0)


def decode_picture(
    encoded: UInt8[Tensor, " bytes"], formats: tuple[str, ...] = FORMATS
) -> Image.Image:
    """A picture from its bytes, in any of the formats that are read.

    Raises:
        One of DECODING_ERRORS: It is damaged, of another kind, or has more pixels than PIL allows.
    """
    data = encoded.numpy().tobytes()
    try:
        picture = Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError as error:
        raise ValueError(why_unreadable(error, head=data[:16])) from error
    limit = Image.MAX_IMAGE_PIXELS
    if limit and picture.width * picture.height > limit:
        raise ValueError(f"{picture.width} x {picture.height} pixels are over the limit, {limit}")
    picture.load()
    return picture
