"""From numbers a pixel to Gaussians in the world."""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.geometry.harmonics_rotation import harmonics_rotation
from mvsplat.geometry.numbers_beside import numbers_beside
from mvsplat.geometry.projection import camera_rays, pixel_centers
from mvsplat.geometry.rotations import matrix_to_quaternion, quaternion_product
from mvsplat.types import Gaussians, Views

# Channels of the raw parameters: sub-pixel offset, scale, rotation, then the harmonics.
OFFSET, SCALE, ROTATION = 2, 3, 4
# The first basis function, 1 / (2 sqrt(pi)).
SH_CONSTANT = 0.28209479177387814
# Released DepthSplat's scales start at softplus of this.
SCALE_SHIFT = -4.0


class GaussianAdapter(nn.Module):
    """Turns raw parameters of each pixel, its disparities and opacities into Gaussians.

    * Centre: depth along the ray through the pixel's centre moved by sigmoid - 0.5 pixels.
    * Scale: between the bounds of ``scale_range``, times depth, times a tenth of the sum of a
      pixel's width and height at depth 1. With ``world_scales``: softplus, shifted, clamped to the
      bounds, in the scene's unit.
    * Rotation (w, x, y, z): normalised, then turned by the camera's.
    * Harmonics: degree l times 0.1 x 0.25^l (degree 0 times 1), then turned by the camera's
      rotation. A colour, if given, is added.

    Args:
        sh_degree: Degree of the spherical harmonics.
        scale_range: Bounds of the scale.
        ray_depth: Measure depth along the ray instead of the optical axis.
        mirrored_harmonics: Turn harmonics by S R S, S = diag(-1, 1, -1), instead of R.
        world_scales: Scales in the scene's unit, whatever the depth.
    """

    def __init__(
        self,
        sh_degree: int,
        scale_range: tuple[float, float],
        ray_depth: bool,
        mirrored_harmonics: bool,
        world_scales: bool = False,
    ):
        super().__init__()
        self.harmonics_factors: Tensor
        self.sh_degree = sh_degree
        self.scale_range = scale_range
        self.ray_depth = ray_depth
        self.mirrored_harmonics = mirrored_harmonics
        self.world_scales = world_scales
        factors = torch.cat(
            [torch.full((2 * n + 1,), 0.1 * 0.25**n if n else 1.0) for n in range(sh_degree + 1)]
        )
        self.register_buffer("harmonics_factors", factors, persistent=False)

    @property
    def channels(self) -> int:
        """How many raw parameters a pixel has."""
        return OFFSET + SCALE + ROTATION + 3 * (self.sh_degree + 1) ** 2

    def forward(
        self,
        raw: Float[Tensor, "n c h w"],
        depth: Float[Tensor, "n g h w"],
        opacity: Float[Tensor, "n g h w"],
        views: Views,
        color: Float[Tensor, "n 3 h w"] | None = None,
    ) -> tuple[Gaussians, Float[Tensor, "n g h w"]]:
        """The Gaussians, and their centres' depth along the optical axis.

        ``color`` is what the Gaussians show in all directions where the raw parameters are zero.
        """
        with torch.autocast(raw.device.type, enabled=False):
            gaussians, depth = self._adapt(raw.float(), depth, opacity, views)
            if color is not None:
                constant = rearrange(color, "(b v) c h w -> b (v h w) c", b=len(views.near))
                gaussians.harmonics[..., 0] += (constant.float() - 0.5) / SH_CONSTANT
            return gaussians, depth

    def _adapt(
        self, raw: Tensor, depth: Tensor, opacity: Tensor, views: Views
    ) -> tuple[Gaussians, Tensor]:
        scenes, (height, width) = len(views.near), raw.shape[2:]
        per_pixel = depth.shape[1]
        raw = rearrange(raw, "n c h w -> n (h w) c")
        offset, scale, rotation, harmonics = raw.split(
            [OFFSET, SCALE, ROTATION, raw.shape[-1] - OFFSET - SCALE - ROTATION], dim=-1
        )
        pose = views.extrinsics.flatten(0, 1).float()
        intrinsics = views.intrinsics.flatten(0, 1).float()
        pixel = 1 / numbers_beside(raw, width, height)
        centers = pixel_centers(height, width, raw.device).flatten(0, 1)
        rays = camera_rays(centers + (offset.sigmoid() - 0.5) * pixel, intrinsics)
        if self.ray_depth:
            rays = rays / rays.norm(dim=-1, keepdim=True)
        depth = rearrange(depth, "n g h w -> n (h w) g 1")
        means = depth * (rays @ pose[:, :3, :3].mT)[:, :, None] + pose[:, None, None, :3, 3]

        rotation = F.normalize(rotation, dim=-1)
        rotation = quaternion_product(matrix_to_quaternion(pose[:, None, :3, :3]), rotation)
        harmonics = self._turn(harmonics, pose[:, :3, :3])

        def flat(x: Tensor) -> Tensor:
            return x.reshape(scenes, -1, *x.shape[3:])

        def shared(x: Tensor) -> Tensor:
            return flat(repeat(x, "n p ... -> n p g ...", g=per_pixel))

        gaussians = Gaussians(
            means=flat(means),
            scales=flat(self._scales(scale[:, :, None], depth, intrinsics, pixel)),
            rotations=shared(rotation),
            harmonics=shared(harmonics),
            opacities=flat(rearrange(opacity, "n g h w -> n (h w) g") / per_pixel),
        )
        axis_depth = depth * rays[:, :, None, 2:]
        return gaussians, rearrange(axis_depth, "n (h w) g 1 -> n g h w", h=height)

    def _scales(
        self,
        raw: Float[Tensor, "n p 1 3"],
        depth: Float[Tensor, "n p g 1"],
        intrinsics: Float[Tensor, "n 3 3"],
        pixel: Float[Tensor, " 2"],
    ) -> Float[Tensor, "n p g 3"]:
        low, high = self.scale_range
        if self.world_scales:
            world = F.softplus(raw + SCALE_SHIFT).clamp(low, high)
            return world.expand(-1, -1, depth.shape[2], -1)
        # inv would wait for an accelerator to say that there is an inverse; views are checked.
        footprint = 0.1 * (torch.linalg.inv_ex(intrinsics[:, :2, :2]).inverse @ pixel).sum(-1)
        return (low + (high - low) * raw.sigmoid()) * footprint[:, None, None, None] * depth

    def _turn(
        self, harmonics: Float[Tensor, "n p ck"], rotation: Float[Tensor, "n 3 3"]
    ) -> Float[Tensor, "n p c k"]:
        """Scale each degree and turn it into the world frame."""
        if self.mirrored_harmonics:
            mirror = torch.diag(numbers_beside(rotation, -1, 1, -1))
            rotation = mirror @ rotation @ mirror
        turn = harmonics_rotation(rotation, self.sh_degree) * self.harmonics_factors
        coefficients = rearrange(harmonics, "n p (c k) -> n (p c) k", c=3)
        return rearrange(coefficients @ turn.mT, "n (p c) k -> n p c k", c=3)
