"""From numbers a pixel to Gaussians in the world."""

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.geometry.harmonics_rotation import harmonics_rotation
from mvsplat.geometry.projection import camera_rays, pixel_centers
from mvsplat.geometry.rotations import matrix_to_quaternion, quaternion_product
from mvsplat.types import Gaussians, Views

# Channels of the raw parameters: sub-pixel offset, scale, rotation, then the harmonics.
OFFSET, SCALE, ROTATION = 2, 3, 4


class GaussianAdapter(nn.Module):
    """Turns raw parameters of each pixel, its disparities and opacities into Gaussians.

    * Centre: depth along the ray through the pixel's centre moved by sigmoid - 0.5 pixels.
    * Scale: between the bounds of ``scale_range``, times depth, times a tenth of the sum of a
      pixel's width and height at depth 1.
    * Rotation (w, x, y, z): normalised, then turned by the camera's.
    * Harmonics: degree l times 0.1 x 0.25^l (degree 0 times 1), then turned by the camera's
      rotation.

    Args:
        sh_degree: Degree of the spherical harmonics.
        scale_range: Bounds of the scale.
        ray_depth: Measure depth along the ray instead of the optical axis.
        mirrored_harmonics: Turn harmonics by S R S, S = diag(-1, 1, -1), instead of R.
    """

    def __init__(
        self,
        sh_degree: int,
        scale_range: tuple[float, float],
        ray_depth: bool,
        mirrored_harmonics: bool,
    ):
        super().__init__()
        self.harmonics_factors: Tensor
        self.sh_degree = sh_degree
        self.scale_range = scale_range
        self.ray_depth = ray_depth
        self.mirrored_harmonics = mirrored_harmonics
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
    ) -> tuple[Gaussians, Float[Tensor, "n g h w"]]:
        """The Gaussians, and their centres' depth along the optical axis."""
        with torch.autocast(raw.device.type, enabled=False):
            return self._adapt(raw.float(), depth, opacity, views)

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
        pixel = 1 / raw.new_tensor([width, height])
        centers = pixel_centers(height, width, raw.device).flatten(0, 1)
        rays = camera_rays(centers + (offset.sigmoid() - 0.5) * pixel, intrinsics)
        if self.ray_depth:
            rays = rays / rays.norm(dim=-1, keepdim=True)
        depth = rearrange(depth, "n g h w -> n (h w) g 1")
        means = depth * (rays @ pose[:, :3, :3].mT)[:, :, None] + pose[:, None, None, :3, 3]

        low, high = self.scale_range
        # inv would wait for an accelerator to say that there is an inverse; views are checked.
        footprint = 0.1 * (torch.linalg.inv_ex(intrinsics[:, :2, :2]).inverse @ pixel).sum(-1)
        scale = (low + (high - low) * scale.sigmoid()) * footprint[:, None, None]
        rotation = torch.nn.functional.normalize(rotation, dim=-1)
        rotation = quaternion_product(matrix_to_quaternion(pose[:, None, :3, :3]), rotation)
        harmonics = self._turn(harmonics, pose[:, :3, :3])

        def flat(x: Tensor) -> Tensor:
            return x.reshape(scenes, -1, *x.shape[3:])

        def shared(x: Tensor) -> Tensor:
            return flat(repeat(x, "n p ... -> n p g ...", g=per_pixel))

        gaussians = Gaussians(
            means=flat(means),
            scales=flat(scale[:, :, None] * depth),
            rotations=shared(rotation),
            harmonics=shared(harmonics),
            opacities=flat(rearrange(opacity, "n g h w -> n (h w) g") / per_pixel),
        )
        axis_depth = depth * rays[:, :, None, 2:]
        return gaussians, rearrange(axis_depth, "n (h w) g 1 -> n g h w", h=height)

    def _turn(
        self, harmonics: Float[Tensor, "n p ck"], rotation: Float[Tensor, "n 3 3"]
    ) -> Float[Tensor, "n p c k"]:
        """Scale each degree and turn it into the world frame."""
        if self.mirrored_harmonics:
            mirror = torch.diag(rotation.new_tensor([-1.0, 1.0, -1.0]))
            rotation = mirror @ rotation @ mirror
        turn = harmonics_rotation(rotation, self.sh_degree) * self.harmonics_factors
        coefficients = rearrange(harmonics, "n p (c k) -> n (p c) k", c=3)
        return rearrange(coefficients @ turn.mT, "n (p c) k -> n p c k", c=3)
