"""The cost volume: how well each pixel matches the other views at each candidate depth."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.encoder.cpu.correlation import correlate_at_points, correlate_with_samples
from mvsplat.encoder.networks.neighbours import checked, neighbours
from mvsplat.geometry.numbers_beside import numbers_beside
from mvsplat.geometry.projection import plane_sweep_coordinates
from mvsplat.types import Views


class CostVolume(nn.Module):
    """Plane-sweep correlation of each view with others (MVSplat, section 3.1).

    Its output is the volume, which a forward hook replaces for the ablation.

    Args:
        nearest_views: How many others, see :func:`neighbours`; None for all.
    """

    def __init__(self, nearest_views: int | None = None):
        super().__init__()
        self.nearest_views = checked(nearest_views)

    def forward(
        self,
        features: Float[Tensor, "n c h w"],
        views: Views,
        disparities: Float[Tensor, "n d"] | Float[Tensor, "n d h w"],
    ) -> Float[Tensor, "n d h w"]:
        """Correlation / sqrt(c), the mean over the other views, at each candidate disparity.

        Args:
            features: All views of all scenes, n = b * v.
            views: Their cameras.
            disparities: Candidates of all pixels of a view, or of each.
        """
        count, (channels, height, width) = views.image.shape[1], features.shape[1:]
        # Of few candidates a pixel, sampling features reads less than a whole correlation map.
        correlate = correlate_at_points if disparities.ndim == 2 else correlate_with_samples
        depths = 1 / disparities.detach().float().reshape(*disparities.shape[:2], -1).mT
        # In float32: correlations of neighbouring planes differ by less than bf16 resolves.
        with torch.autocast(features.device.type, enabled=False):
            maps = features.float().permute(0, 2, 3, 1).contiguous()
            reference = maps.flatten(1, 2)
            scenes = torch.arange(len(views.image), device=maps.device)[:, None]
            others = neighbours(views, self.nearest_views)
            volume = 0
            # Each view against one of its neighbours, all views at once.
            for other in others.unbind(-1):
                grid = self._grid(views, depths, (scenes, other), height, width)
                other_maps = maps.unflatten(0, (-1, count))[scenes, other].flatten(0, 1)
                volume = volume + correlate(reference, other_maps, grid)
            volume = volume / (channels**0.5 * others.shape[-1])
        return volume.unflatten(1, (height, width)).permute(0, 3, 1, 2)

    @staticmethod
    @torch.no_grad()
    def _grid(
        views: Views, depths: Tensor, other: tuple[Tensor, Tensor], height: int, width: int
    ) -> Tensor:
        """Where other views (an index) see each candidate, for ``grid_sample``."""
        poses, lenses = views.extrinsics.float(), views.intrinsics.float()
        other_poses, other_lenses = poses[other], lenses[other]
        pixels = plane_sweep_coordinates(
            (poses.flatten(0, 1), lenses.flatten(0, 1)),
            (other_poses.flatten(0, 1), other_lenses.flatten(0, 1)),
            depths,
            height,
            width,
        )
        # With aligned corners -1 and 1 are the centres of the first and the last pixel.
        return pixels * (2 / numbers_beside(pixels, width - 1, height - 1)) - 1
