"""From views to Gaussians: backbone, cost volume, U-Nets, heads, adapter."""

from mvsplat.encoder.base import Encoder
from mvsplat.encoder.depthsplat import DepthSplatEncoder
from mvsplat.encoder.depthsplat_depth import DepthSplatDepth
from mvsplat.encoder.mvsplat import CostVolumeEncoder

__all__ = ["CostVolumeEncoder", "DepthSplatDepth", "DepthSplatEncoder", "Encoder"]
