"""From a camera as the package knows it to what engines render with, and its gradient back."""

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.geometry.numbers_beside import numbers_beside


def engine_cameras(
    extrinsics: Float[Tensor, "b v 4 4"],
    intrinsics: Float[Tensor, "b v 3 3"],
    near: Float[Tensor, "b v"],
    image_shape: tuple[int, int],
) -> tuple[Float[Tensor, "b v 3 4"], Float[Tensor, "b v 3"], Float[Tensor, "b v 4"]]:
    """World-to-camera rows in units of ``near``, camera centres, and lenses in pixels.

    Engines know focal lengths and principal points only: skew becomes a shear of the rows. Scaling
    the rows scales the scene without touching it. Differentiable.
    """
    height, width = image_shape
    # inv_ex, as inv would wait for an accelerator to say whether there is an inverse.
    x, y, z = torch.linalg.inv_ex(extrinsics)[0][..., :3, :].unbind(-2)
    rows = torch.stack([x + _shear(intrinsics)[..., None] * y, y, z], dim=-2)
    lenses = torch.stack(
        [intrinsics[..., i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))], dim=-1
    )
    lenses = lenses * numbers_beside(lenses, width, height, width, height)
    return rows / near[..., None, None], extrinsics[..., :3, 3], lenses


def extrinsics_gradient(
    extrinsics: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    near: float,
    of_rows: Float[Tensor, "3 4"],
    of_center: Float[Tensor, "3"],
) -> Float[Tensor, "4 4"]:
    """What autograd sends back through :func:`engine_cameras`, for a single camera."""
    x, y, z = (of_rows / near).unbind(0)
    inverse = torch.linalg.inv(extrinsics)
    of_inverse = torch.stack([x, y + _shear(intrinsics) * x, z, torch.zeros_like(x)])
    gradient = -inverse.T @ of_inverse @ inverse.T
    gradient[:3, 3] += of_center
    return gradient


def _shear(intrinsics: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
    return intrinsics[..., 0, 1] / intrinsics[..., 0, 0]
