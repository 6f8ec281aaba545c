"""gsplat's ``rasterization`` without CUDA: its kernels replaced by PyTorch functions.

Projection and spherical harmonics are gsplat's own (``gsplat.cuda._torch_impl``); tiles are left
out and the compositor is the dense reference's. So the engine's call of gsplat, with everything
that gsplat itself checks and rearranges on the way, is tested on any machine.
"""

import torch
from torch import Tensor

from mvsplat.decoder import reference


class DenseKernels:
    """Stands in for the CUDA functions that ``gsplat.rendering`` imports, by their names."""

    names = (
        "fully_fused_projection",
        "isect_offset_encode",
        "isect_tiles",
        "rasterize_to_pixels",
        "spherical_harmonics",
    )

    def __init__(self, torch_impl):
        self.torch_impl = torch_impl
        self.visible = torch.empty(0)
        self.most_coefficients = 0

    def fully_fused_projection(
        self, means, covars, quats, scales, viewmats, Ks, width, height, *, eps2d, packed,
        near_plane, far_plane, calc_compensations, **unused,
    ):  # fmt: skip
        assert covars is None and not packed
        covars, _ = self.torch_impl._quat_scale_to_covar_preci(quats, scales, True, False)
        radii, *rest = self.torch_impl._fully_fused_projection(
            means, covars, viewmats, Ks, width, height, eps2d, near_plane, far_plane,
            calc_compensations,
        )  # fmt: skip
        self.visible = (radii > 0).all(-1)
        return radii, *rest

    def spherical_harmonics(self, degree, directions, coefficients, masks=None):
        self.most_coefficients = max(self.most_coefficients, coefficients.numel())
        masks = torch.ones_like(directions[..., 0], dtype=torch.bool) if masks is None else masks
        assert directions[masks].any(-1).all()  # the CUDA kernel divides by their lengths
        colors = self.torch_impl._spherical_harmonics(degree, directions, coefficients)
        return colors.where(masks[..., None], torch.nan)  # where it leaves what was in memory

    def isect_tiles(self, *arguments, **settings):
        return None, None, None

    def isect_offset_encode(self, isect_ids, images, tile_width, tile_height):
        return torch.zeros(images * tile_height * tile_width)

    def rasterize_to_pixels(
        self, means2d, conics, colors, opacities, width, height, *arguments, backgrounds, **settings
    ):
        leading = means2d.shape[:2]
        assert colors.shape == (*means2d.shape[:3], 4) and opacities.shape == means2d.shape[:3]
        assert backgrounds.shape == (*leading, 4)
        images = [
            self._image(
                self.visible[b, v], means2d[b, v], conics[b, v], colors[b, v], opacities[b, v],
                backgrounds[b, v], height, width,
            )
            for b in range(leading[0])
            for v in range(leading[1])
        ]  # fmt: skip
        color, alpha = (torch.stack(parts).unflatten(0, leading) for parts in zip(*images))
        return color, alpha[..., None]

    def _image(
        self, visible, xy, conics, colors, opacities, background, height, width
    ) -> tuple[Tensor, Tensor]:
        order = visible.nonzero()[:, 0]
        order = order[torch.sort(colors[order, 3], stable=True).indices]
        a, b, c = conics[order].unbind(-1)
        cov = torch.linalg.inv(torch.stack([a, b, b, c], -1).unflatten(-1, (2, 2)).double())
        alphas = reference.alphas(xy[order].double(), cov, opacities[order].double(), height, width)
        weights, through = reference.composite(alphas)
        image = torch.einsum("ghw,gc->hwc", weights, colors[order].double())
        image = image + through[..., None] * background
        return image.float(), (1 - through).float()
