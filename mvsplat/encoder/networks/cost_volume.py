"""The cost volume: how well each pixel matches the other views at each candidate depth."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.encoder.cpu.correlation import correlate_at_points
from mvsplat.geometry.projection import plane_sweep_coordinates
from mvsplat.types import Views


class CostVolume(nn.Module):
    """Plane-sweep correlation of each view with all others (MVSplat, section 3.1).

    Its output is the volume, which a forward hook replaces for the ablation.
    """

    def forward(
        self,
        features: Float[Tensor, "n c h w"],
        views: Views,
        disparities: Float[Tensor, "n d"],
    ) -> Float[Tensor, "n d h w"]:
        """Correlation / sqrt(c), the mean over the other views, at each candidate disparity."""
        count, (channels, height, width) = views.image.shape[1], features.shape[1:]
        # In float32: correlations of neighbouring planes differ by less than bf16 resolves.
        with torch.autocast(features.device.type, enabled=False):
            maps = features.float().permute(0, 2, 3, 1).contiguous()
            reference = maps.flatten(1, 2)
            volume = 0
            for offset in range(1, count):
                grid = self._grid(views, disparities, offset, height, width)
                # Each view against the one ``offset`` further on, all views at once.
                other = maps.unflatten(0, (-1, count)).roll(-offset, dims=1).flatten(0, 1)
                volume = volume + correlate_at_points(reference, other, grid)
            volume = volume / (channels**0.5 * (count - 1))
        return volume.unflatten(1, (height, width)).permute(0, 3, 1, 2)

    @staticmethod
    @torch.no_grad()
    def _grid(views: Views, disparities: Tensor, offset: int, height: int, width: int) -> Tensor:
        """Where the view ``offset`` further on sees each candidate, for ``grid_sample``."""
        poses, lenses = views.extrinsics.float(), views.intrinsics.float()
        other_poses, other_lenses = [x.roll(-offset, dims=1) for x in (poses, lenses)]
        pixels = plane_sweep_coordinates(
            (poses.flatten(0, 1), lenses.flatten(0, 1)),
            (other_poses.flatten(0, 1), other_lenses.flatten(0, 1)),
            1 / disparities,
            height,
            width,
        )
        # With aligned corners -1 and 1 are the centres of the first and the last pixel.
        return pixels * (2 / pixels.new_tensor([width - 1, height - 1])) - 1
