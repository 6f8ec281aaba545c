"""A scene in the middle of its refinement, written now and then for those who watch it."""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from mvsplat.export.cameras import Cameras, save_cameras
from mvsplat.export.splats import save_splat
from mvsplat.reconstruction.output import CAMERAS, OutputFolder
from mvsplat.types import Gaussians

_PAUSE = 10.0
"""Seconds between two files."""
_LARGEST_SHARE = 0.02
"""Of the time that writing may take, for large scenes and slow formats."""
_log = logging.getLogger("mvsplat.reconstruction")


class Previews:
    """Replaces a splat by a scene's latest state, and writes its cameras beside it once.

    What cannot be written is said once; that the scene cannot be watched is no reason to end.

    Args:
        splat: The file that will hold the finished scene.
        cameras: That of its cameras.
        output: The folder that both are in, if it is to hold more.

    Attributes:
        written: Whether there is an unfinished scene in the file.
    """

    def __init__(self, splat: Path, cameras: Path, output: OutputFolder | None = None):
        self._splat, self._cameras, self._output = splat, cameras, output
        self._next = -math.inf
        self.written = False

    @classmethod
    def into(cls, output: OutputFolder) -> "Previews":
        """Those of the scene that a folder will hold."""
        return cls(output.path / output.splat, output.path / CAMERAS, output)

    def __call__(self, scene: Callable[[], Gaussians], cameras: Cameras) -> None:
        """Write the scene, if it is time to."""
        begun = time.monotonic()
        if begun < self._next:
            return
        try:
            self._write(scene(), cameras)
        except (OSError, ValueError) as error:
            _log.warning("the scene cannot be watched while it is refined: %s", error)
            self._next = math.inf
            return
        now = time.monotonic()
        self._next = now + max(_PAUSE, (now - begun) / _LARGEST_SHARE)

    def _write(self, gaussians: Gaussians, cameras: Cameras) -> None:
        if self._output is not None:
            self._output.begin()
        save_splat(gaussians, self._splat)
        if self.written:
            return
        self.written = True
        if self._output is not None:
            self._output.remove_earlier()
        save_cameras(cameras, self._cameras)
