"""A viewer in the browser: splats, the cameras around them, a run's scores; needs ``view``."""

from mvsplat.viewer.library import Item, find_items
from mvsplat.viewer.server import Viewer

__all__ = ["Item", "Viewer", "find_items"]
