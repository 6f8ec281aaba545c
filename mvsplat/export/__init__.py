"""Files made from Gaussians and renderings."""

from mvsplat.export.cameras import Cameras, Frame, load_cameras, save_cameras
from mvsplat.export.images import color_depth, color_error, save_png, sheet
from mvsplat.export.ply import load_ply, save_ply

__all__ = [
    "Cameras",
    "Frame",
    "color_depth",
    "color_error",
    "load_cameras",
    "load_ply",
    "save_cameras",
    "save_ply",
    "save_png",
    "sheet",
]
