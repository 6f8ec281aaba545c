"""The cameras of a scene as frusta in the page, with their photographs on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mvsplat.export.cameras import Frame
from mvsplat.viewer.scene import DISTANCE, quaternion_of

_COLOR = (255, 160, 60)
_THUMBNAIL = 320


class Frusta:
    """One frustum a camera; a click on it calls ``clicked`` with the camera's number.

    Args:
        scene: viser's interface of the page's scene.
        frames: Cameras in the page's frame.
        clicked: Called from viser's threads.
    """

    def __init__(self, scene: Any, frames: list[Frame], clicked: Callable[[int], None]):
        self._positions = torch.stack(
            [frame.extrinsics[:3, 3] for frame in frames] or [torch.zeros(3)]
        )[: len(frames)]
        self._size = _size(self._positions)
        self._handles = [self._add(scene, n, frame, clicked) for n, frame in enumerate(frames)]

    def _add(self, scene: Any, number: int, frame: Frame, clicked: Callable[[int], None]) -> Any:
        focal_x, focal_y = float(frame.intrinsics[0, 0]), float(frame.intrinsics[1, 1])
        handle = scene.add_camera_frustum(
            f"/cameras/{number}",
            fov=2 * float(np.arctan(0.5 / focal_y)),
            aspect=focal_y / focal_x,
            scale=self._size,
            thickness=self._size / 40,
            color=_COLOR,
            image=None if frame.image is None else _thumbnail(frame.image),
            wxyz=quaternion_of(frame.extrinsics),
            position=frame.extrinsics[:3, 3].double().numpy(),
        )
        handle.on_click(lambda _: clicked(number))
        return handle

    def declutter(self, show: bool, position: Float[Tensor, "3"]) -> None:
        """Show or hide all; hide them, too, where a camera stands, and those that are very near.

        A camera's view is to look like its photograph: other cameras would stand in the way.
        """
        distances = (self._positions - position).norm(dim=-1).tolist()
        show = show and min(distances, default=0) > 0.5 * self._size
        for handle, distance in zip(self._handles, distances, strict=True):
            visible = show and distance > 1.5 * self._size
            if handle.visible != visible:
                handle.visible = visible

    def remove(self) -> None:
        """Take them out of the page."""
        for handle in self._handles:
            handle.remove()


def _size(positions: Float[Tensor, "v 3"]) -> float:
    """Small beside the scene, and beside the distances between neighbouring cameras."""
    if len(positions) < 2:
        return 0.06 * DISTANCE
    distances = torch.cdist(positions, positions) + torch.eye(len(positions)) * torch.inf
    spacing = float(distances.nan_to_num(nan=torch.inf).amin(dim=-1).median())
    return min(max(0.7 * spacing, 0.01 * DISTANCE), 0.06 * DISTANCE)


def _thumbnail(path: Path) -> np.ndarray | None:
    """The photograph, small; nothing where it cannot be read, for the splat is what matters."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (_THUMBNAIL, _THUMBNAIL))
            small = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return np.asarray(small)
