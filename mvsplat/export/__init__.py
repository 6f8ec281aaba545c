"""Files made from Gaussians and renderings."""

from mvsplat.export.images import color_depth, color_error, save_png, sheet
from mvsplat.export.ply import load_ply, save_ply

__all__ = ["color_depth", "color_error", "load_ply", "save_ply", "save_png", "sheet"]
