"""From Gaussians to pictures: gsplat on CUDA, our own rasterizer on the CPU."""

from mvsplat.decoder.splatting_decoder import SplattingDecoder

__all__ = ["SplattingDecoder"]
