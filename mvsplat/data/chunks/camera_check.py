"""Do a scene's cameras fit its pictures? If not, how would they have to be read?

What two pictures both show must be on epipolar lines, in front of the cameras. Patches are matched
without regard to the cameras, and the share of them that is where the cameras say is compared with
the shares under the usual mistakes: inverted matrices, another program's axes, transposed
rotations. Matches that no motion explains tell nothing, and where cameras can be told from their
mistakes only by a hair, nothing is said.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mvsplat.data.scene import Scene
from mvsplat.geometry.matching import match_patches, supported
from mvsplat.geometry.projection import invert_rigid
from mvsplat.geometry.two_views import Matches, agreeing, depths, explained_by_one_motion

_SIDE = 96  # pixels of the longer side; the cost grows with its fourth power
_REFERENCES = 4
_ALIKE = 0.85  # normalised correlation from which on two patches show the same
_TOGETHER = 2.5  # pixels by which neighbours' movements may differ
_LEAST_MOVED, _MOVED = 3.0, 8.0  # pixels in the median: mistakes show the better, the more it is
_FEWEST, _FEWEST_PAIRS = 25, 2
_BESIDE = 2.0
# Right cameras reach shares of 0.88 to 1 on photographs and generated rooms, seldom under 0.95.
_FAILS, _FITS = 0.6, 0.85
_PARALLAX, _OFF = 4.0, 2.0  # pixels from which on depths are sure; a factor that is no error
_FAILS_BADLY, _ONE_MOTION = 0.4, 0.85

Poses = Float[Tensor, "n 4 4"]


class CameraFit(NamedTuple):
    """How well cameras fit pictures.

    Args:
        share: Share of the matches that are where the cameras say.
        matches: Number of matches.
        pairs: Number of pairs of pictures they are from.
        problem: What is wrong, in words; None if nothing is known to be wrong.
    """

    share: float
    matches: int
    pairs: int
    problem: str | None

    @property
    def tells(self) -> bool:
        """Whether there were enough matches to judge by."""
        return self.pairs >= _FEWEST_PAIRS


def _from_opengl(poses: Poses) -> Poses:
    return poses @ torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=poses.dtype))


def _mirrored(poses: Poses) -> Poses:
    mirror = torch.diag(torch.tensor([1.0, -1, 1, 1], dtype=poses.dtype))
    return mirror @ poses @ mirror


def _transposed(poses: Poses) -> Poses:
    top = torch.cat([poses[:, :3, :3].mT, poses[:, :3, 3:]], dim=-1)
    return torch.cat([top, poses[:, 3:]], dim=-2)


def _moved_to(poses: Poses, others: Poses) -> Poses:
    top = torch.cat([poses[:, :3, :3], others[:, :3, 3:]], dim=-1)
    return torch.cat([top, poses[:, 3:]], dim=-2)


# From camera-to-world matrices as they are read to what they should have been, and in words what
# the file would then hold in place of world-to-camera matrices with OpenCV axes.
_MISTAKES: tuple[tuple[str, Callable[[Poses], Poses]], ...] = (
    ("camera-to-world matrices", invert_rigid),
    ("matrices with OpenGL axes (y up, z backward)", _from_opengl),
    (
        "camera-to-world matrices with OpenGL axes (y up, z backward)",
        lambda p: _from_opengl(invert_rigid(p)),
    ),
    ("transposed rotations", lambda p: invert_rigid(_transposed(invert_rigid(p)))),
    ("transposed rotations of camera-to-world matrices", _transposed),
    (
        "world-to-camera rotations with the cameras' positions instead of translations",
        lambda p: _moved_to(p, invert_rigid(p)),
    ),
    ("matrices of a left-handed frame (y mirrored)", _mirrored),
)


def check_camera_fit(scene: Scene) -> CameraFit:
    """Compare a few pairs of a scene's pictures with its cameras; takes a second or two.

    Pictures that cannot be read are left out.
    """
    pairs = list(_pairs(scene))
    poses = scene.extrinsics.double()
    share = _share(pairs, poses)
    count = sum(len(matches.first) for _, _, matches in pairs)
    fit = CameraFit(share, count, len(pairs), None)
    if not fit.tells:
        return fit
    if share >= _FAILS:
        return fit._replace(problem=_scale_problem(scene, pairs))
    shares = {words: _share(pairs, change(poses)) for words, change in _MISTAKES}
    best = max(shares, key=lambda words: shares[words])
    if shares[best] >= _FITS:
        return fit._replace(
            problem=f"the cameras do not fit the pictures ({share:.0%} of {count} matching patches "
            f"are where the cameras say), but would ({shares[best]:.0%}) if the file held {best}; "
            "expected are world-to-camera matrices with OpenCV axes (x right, y down, z forward)"
        )
    generator = torch.Generator().manual_seed(0)
    explained = [explained_by_one_motion(m, _BESIDE, generator) for _, _, m in pairs]
    if share < _FAILS_BADLY and min(explained) >= _ONE_MOTION:
        return fit._replace(
            problem=f"the cameras do not fit the pictures: only {share:.0%} of {count} matching "
            "patches are where the cameras say, though a camera's movement explains them; do "
            "cameras and pictures belong together, in the same order, and is their scale one?"
        )
    return fit


Pair = tuple[int, int, Matches]


def _scale_problem(scene: Scene, pairs: list[Pair]) -> str | None:
    """Whether depths or bounds have another unit than cameras that fit."""
    found, stored = [], []
    for first, second, matches in pairs:
        pose = invert_rigid(scene.extrinsics[second].double()) @ scene.extrinsics[first].double()
        depth, parallax = depths(matches, pose)
        sure = agreeing(matches, pose, _BESIDE) & (parallax >= _PARALLAX)
        found.append(depth[sure])
        known = scene.depth(first)
        if known is not None:
            height, width = known.shape
            x, y = (matches.first[sure] * torch.tensor([width, height])).long().unbind(-1)
            stored.append(torch.from_numpy(known)[y, x].double())
    seen = torch.cat(found)
    if len(seen) < _FEWEST:
        return None
    typical = float(seen.median())
    near, far = scene.near, scene.far
    if near is not None and far is not None and not near / _OFF < typical < far * _OFF:
        return (
            f"half of what the pictures show is nearer than {typical:.3g} in the cameras' unit, "
            f"but near is {near:g} and far is {far:g}: have they another unit than the cameras?"
        )
    truth = torch.cat(stored) if len(stored) == len(pairs) else torch.zeros_like(seen)
    if int((truth > 0).sum()) < _FEWEST:
        return None
    ratio = float((truth / seen)[truth > 0].median())
    if not 1 / _OFF < ratio < _OFF:
        return (
            f"the depths are {ratio:.3g} times what the cameras and pictures say: have depths and "
            "cameras another unit?"
        )
    return None


def _share(pairs: list[Pair], poses: Poses) -> float:
    """The share of matches, over all pairs, that are where cameras say."""
    good, total = 0, 0
    for first, second, matches in pairs:
        pose = invert_rigid(poses[second]) @ poses[first]
        good += int(agreeing(matches, pose, _BESIDE).sum())
        total += len(matches.first)
    return good / max(total, 1)


def _pairs(scene: Scene) -> Iterator[Pair]:
    """A few pairs of pictures with matches that moved, each some frames apart."""
    pictures = _Pictures(scene)
    last = len(scene) - 1
    for first in torch.linspace(0, last, min(_REFERENCES, last)).round().long().tolist():
        best, most, step = None, _LEAST_MOVED, 1
        while step <= last and most < _MOVED:
            second = first + step if first + step <= last else first - step
            matches = pictures.matches(first, second) if second >= 0 else None
            if matches is None:
                break
            moved = (matches.second - matches.first) * matches.size
            if (median := float(moved.norm(dim=-1).median())) > most:
                best, most = (first, second, matches), median
            step *= min(max(2, int(_MOVED / max(median, 1.0))), 8)
        if best is not None:
            yield best


class _Pictures:
    """A scene's pictures, small, each decoded once."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._read: dict[int, Image.Image | None] = {}

    def matches(self, first: int, second: int) -> Matches | None:
        """What two pictures surely both show; None if that is little."""
        pair = [self._picture(first), self._picture(second)]
        if pair[0] is None or pair[1] is None:
            return None
        images = torch.stack([_pixels(picture, pair[0].size) for picture in (pair[0], pair[1])])
        frames = [first, second]
        intrinsics = self.scene.intrinsics[frames]
        found = match_patches(images, self.scene.extrinsics[frames], intrinsics)
        alike, place = found.alike.max(dim=-1)
        good = found.returning(found.textured & (alike > _ALIKE), place)
        good = supported(good, found.movement(place), found.raster, _TOGETHER)
        if int(good.sum()) < _FEWEST:
            return None
        return Matches(found.start[good], found.positions[place[good]], intrinsics, found.size)

    def _picture(self, index: int) -> Image.Image | None:
        if index not in self._read:
            try:
                picture = self.scene.image(index)
                scale = _SIDE / max(picture.size)
                width, height = (max(1, round(side * scale)) for side in picture.size)
                small = picture.resize((width, height), Image.Resampling.BOX)
                self._read[index] = small if scale < 1 else picture
            except (ValueError, OSError):
                self._read[index] = None
        return self._read[index]


def _pixels(picture: Image.Image, size: tuple[int, int]) -> Float[Tensor, "3 h w"]:
    """In [0, 1], at a size."""
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BOX)
    return torch.from_numpy(np.array(picture, dtype=np.float32)).permute(2, 0, 1) / 255
