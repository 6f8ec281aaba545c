"""Files made from Gaussians and renderings."""

from mvsplat.export.cameras import Cameras, Frame, load_cameras, save_cameras
from mvsplat.export.depth import depth_unit, load_depth_png, save_depth_npy, save_depth_png
from mvsplat.export.images import color_depth, color_error, save_png, sheet
from mvsplat.export.ply import load_ply, save_ply
from mvsplat.export.splat_format import SplatFormat
from mvsplat.export.splats import load_splat, save_splat
from mvsplat.export.video import RenderedFrame, render_path, save_video

__all__ = [
    "Cameras",
    "Frame",
    "RenderedFrame",
    "SplatFormat",
    "color_depth",
    "color_error",
    "depth_unit",
    "load_cameras",
    "load_depth_png",
    "load_ply",
    "load_splat",
    "render_path",
    "save_cameras",
    "save_depth_npy",
    "save_depth_png",
    "save_ply",
    "save_png",
    "save_splat",
    "save_video",
    "sheet",
]
