"""Points of a scene that has none, triangulated from a few of its pictures, made small.

Which pictures suit depends on how far away things are: a first few are chosen as if the scene were
as deep as its cameras let one guess, or several times nearer or farther, until some match; what
they show then tells which ones suit. All of it takes well under a second on one core.
"""

import io

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mvsplat.data.faults import DECODING_ERRORS
from mvsplat.data.scene import Scene
from mvsplat.geometry.depth_bounds import bounds_from_cameras, bounds_from_points, spread_cameras
from mvsplat.geometry.overlap import compare_views, frustum_points
from mvsplat.geometry.plane_sweep import SweptPoints, sweep_points
from mvsplat.geometry.view_choice import pair_quality

_SIDE = 80  # pixels of the longer side of the small pictures
_LEAST_SIDE = 16
_MOST_CAMERAS = 40
_GUESSES = (1.0, 0.25, 4.0, 0.06)  # how much nearer or farther than the cameras say
_FIRST, _THEN = 3, 6  # pictures whose depth is looked for
_ENOUGH_POINTS, _ENOUGH_SHARE = 50, 0.03  # of all patches with texture: wrong cameras give less


def points_from_pictures(scene: Scene) -> Float[Tensor, "p 3"] | None:
    """World positions of what several of a scene's pictures surely show.

    Pictures that cannot be read are left out.

    Returns:
        The points; None if there are too few to trust, as the pictures do not match, show no
        texture, or are all taken from one place.
    """
    if len(spread_cameras(scene.extrinsics[:, :3, 3], 2)) < 2:
        return None
    try:
        near, far = bounds_from_cameras(scene.extrinsics, scene.intrinsics)
    except ValueError:  # the cameras look away from each other
        return None
    pictures = _SmallPictures(scene)
    for factor in _GUESSES:
        points = pictures.points((factor * near, factor * far), _FIRST, partners=1)
        if points is not None:
            break
    else:
        return None
    bounds = bounds_from_points(points, scene.extrinsics, scene.intrinsics)
    if bounds is None:
        return None
    better = pictures.points(bounds, _THEN, partners=2)
    return points if better is None else better


class _SmallPictures:
    """A scene's pictures, grey and small, each decoded at most once.

    Args:
        scene: The scene; of more than 40 frames, 40 evenly spaced ones are used.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        count = min(len(scene), _MOST_CAMERAS)
        self.frames = torch.linspace(0, len(scene) - 1, count).round().long()
        self.extrinsics = scene.extrinsics[self.frames]
        self.intrinsics = scene.intrinsics[self.frames]
        self._read: dict[int, Float[Tensor, "h w"] | None] = {}

    def points(
        self, bounds: tuple[float, float], count: int, partners: int
    ) -> Float[Tensor, "p 3"] | None:
        """Points of some evenly spread views, each with partners that suit the bounds."""
        shown = frustum_points(self.extrinsics, self.intrinsics, *bounds)
        quality = pair_quality(compare_views(shown, self.extrinsics, self.intrinsics))
        views = torch.linspace(0, len(self.frames) - 1, min(count, len(self.frames))).round()
        swept: list[SweptPoints] = []
        for view in views.long().unique().tolist():
            group = self._group(view, quality[view].clone(), partners)
            pictures = [self._picture(member) for member in group]
            shown_by_all = [picture for picture in pictures if picture is not None]
            if 1 < len(shown_by_all) == len(group):
                cameras = self.extrinsics[group], self.intrinsics[group]
                swept.append(sweep_points(shown_by_all, *cameras))
        count = sum(len(part.positions) for part in swept)
        textured = sum(part.textured for part in swept)
        if count < max(_ENOUGH_POINTS, _ENOUGH_SHARE * textured):
            return None
        return torch.cat([part.positions for part in swept])

    def _group(self, view: int, suits: Float[Tensor, " n"], partners: int) -> list[int]:
        """A view and its best readable partners, which stand apart from each other, too."""
        group = [view]
        centres = self.extrinsics[:, :3, 3].double()
        while len(group) <= partners:
            partner = int(suits.argmax())
            if suits[partner] <= 0:
                break
            if self._picture(partner) is not None:
                group.append(partner)
                apart = (centres - centres[partner]).norm(dim=-1)
                suits = suits * (apart / apart[view]).clamp(max=1)
            suits[partner] = 0
        return group

    def _picture(self, view: int) -> Float[Tensor, "h w"] | None:
        """A grey, small picture in [0, 1]; None if it cannot be read."""
        if view not in self._read:
            try:
                self._read[view] = _read_small(self.scene, int(self.frames[view]))
            except DECODING_ERRORS:
                self._read[view] = None
        return self._read[view]


def _read_small(scene: Scene, frame: int) -> Float[Tensor, "h w"]:
    encoded = scene.encoded(frame)
    if encoded is None:
        picture = scene.image(frame)
    else:
        picture = Image.open(io.BytesIO(encoded))
        picture.draft("L", (2 * _SIDE, 2 * _SIDE))  # a JPEG is decoded at a part of its size
    grey = picture.convert("L")
    scale = min(1.0, _SIDE / max(grey.size))
    width, height = (max(_LEAST_SIDE, round(side * scale)) for side in grey.size)
    small = grey.resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)
