"""Checks of what a user hands to the encoder; cheap enough to be always on."""

import math

import torch
from torch import Tensor

from mvsplat.geometry.numbers_beside import numbers_beside
from mvsplat.geometry.projection import well_formed
from mvsplat.types import Views

# Rotations must be orthonormal to this; single precision and a file's six digits pass.
RIGID_TOLERANCE = 1e-2
# How far colours may leave [0, 1]: resampling filters overshoot.
COLOR_TOLERANCE = 0.05
# The smallest image whose feature map has two rows and columns.
MINIMUM_SIZE = 8


def check_views(views: Views, divisor: int, maximum_views: int | None = None) -> None:
    """Raise a ValueError that names the field and the offending element of unusable views."""
    _check_shapes(views)
    height, width = views.image.shape[-2:]
    count = views.image.shape[1]
    if count < 2 or (maximum_views is not None and count > maximum_views):
        expected = "2 or more" if maximum_views is None else f"2 to {maximum_views}"
        raise ValueError(f"views.image has {count} view(s) a scene: this encoder needs {expected}")
    if height % divisor or width % divisor or min(height, width) < MINIMUM_SIZE:
        least = math.lcm(divisor, MINIMUM_SIZE)
        fitting = [max(least, size // divisor * divisor) for size in (height, width)]
        raise ValueError(
            f"views.image is {height} x {width} pixels: height and width must be multiples of "
            f"{divisor} for this encoder; crop or resize to {fitting[0]} x {fitting[1]}, "
            "for example"
        )
    _check_values(views)


def _check_shapes(views: Views) -> None:
    if views.image.ndim != 5 or views.image.shape[2] != 3:
        raise ValueError(
            f"views.image has shape {tuple(views.image.shape)}: expected [batch, view, 3, h, w]"
        )
    leading = tuple(views.image.shape[:2])
    for name, trailing in (
        ("extrinsics", (4, 4)),
        ("intrinsics", (3, 3)),
        ("near", ()),
        ("far", ()),
    ):
        shape = tuple(getattr(views, name).shape)
        if shape != leading + trailing:
            raise ValueError(f"views.{name} has shape {shape}: expected {leading + trailing}")
    for name in ("image", "extrinsics", "intrinsics", "near", "far"):
        value = getattr(views, name)
        if not value.is_floating_point():
            hint = "; divide 8-bit images by 255" if name == "image" else ""
            raise ValueError(f"views.{name} is {value.dtype}: expected floating point{hint}")
        if value.device != views.image.device:
            raise ValueError(
                f"views.{name} is on {value.device} and views.image on {views.image.device}"
            )


def _check_values(views: Views) -> None:
    """All conditions are computed first and read together: one wait for an accelerator."""
    rotation = views.extrinsics[..., :3, :3].float()
    identity = torch.eye(3, device=rotation.device)
    deviation = (rotation @ rotation.mT - identity).abs().amax(dim=(-2, -1))
    expected = numbers_beside(identity, 0, 0, 0, 1)
    last_row = (views.extrinsics[..., 3, :] - expected).abs().amax(-1)
    low, high = views.image.flatten(2).aminmax(dim=2)
    # Comparisons are written so that NaN fails them.
    good = {
        "image": (low >= -COLOR_TOLERANCE) & (high <= 1 + COLOR_TOLERANCE),
        "extrinsics": views.extrinsics.isfinite().all(-1).all(-1)
        & (deviation < RIGID_TOLERANCE)
        & (torch.linalg.det(rotation) > 0)
        & (last_row < RIGID_TOLERANCE),
        "intrinsics": well_formed(views.intrinsics.float()),
        "near": (views.near > 0) & views.near.isfinite(),
        "far": (views.far > views.near) & views.far.isfinite(),
    }
    if bool(torch.stack(list(good.values())).all()):
        return
    for name, mask in good.items():
        if not bool(mask.all()):
            scene, view = (int(i) for i in (~mask).nonzero()[0])
            raise ValueError(
                f"views.{name}[{scene}, {view}]: {_complaint(name, views, scene, view)}"
            )


def _complaint(name: str, views: Views, scene: int, view: int) -> str:
    value: Tensor = getattr(views, name)[scene, view].detach().float().cpu()
    if not bool(value.isfinite().all()):
        where = (~value.isfinite()).nonzero()[0].tolist()
        return f"found {value[tuple(where)].item()} at {where}: expected finite numbers"
    if name == "image":
        return (
            f"colours from {value.min():.4g} to {value.max():.4g}: expected [0, 1]; "
            "divide 8-bit images by 255"
        )
    if name == "extrinsics":
        return (
            f"not a rigid camera-to-world matrix: {value.tolist()}; the upper-left 3x3 must be a "
            "rotation (orthonormal, determinant 1) and the last row 0, 0, 0, 1"
        )
    if name == "intrinsics":
        return (
            f"singular or disordered intrinsics {value.tolist()}: expected [[fx, skew, cx], "
            "[0, fy, cy], [0, 0, 1]], normalised, with focal lengths above zero"
        )
    near, far = (float(bound[scene, view]) for bound in (views.near, views.far))
    return f"near is {near:.6g} and far is {far:.6g}: expected 0 < near < far"
