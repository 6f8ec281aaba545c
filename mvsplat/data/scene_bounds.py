"""The depth bounds of a source's scenes, each found once, whichever process comes first."""

import logging
from collections.abc import Iterable
from math import isnan, nan
from typing import Literal

import torch

from mvsplat.data.bounds import ESTIMATES, Bounds, find_bounds
from mvsplat.data.scene import Scene

_log = logging.getLogger("mvsplat.data")

_ADVICE = {
    "sparse points": "",
    "pictures": ", as it has no sparse points",
    "cameras": " alone, as its pictures do not match: a guess that may be far off",
}


class SceneBounds:
    """Looks up bounds, estimates those that are missing, and says so once a kind.

    What was estimated is kept in memory that loader workers share: an estimate from pictures takes
    as long as some samples.

    Args:
        keys: The scenes that may be asked for.
        near: Nearest depth of all scenes; auto finds each one's own.
        far: Farthest depth; as for near.
    """

    def __init__(
        self, keys: Iterable[str], near: float | Literal["auto"], far: float | Literal["auto"]
    ) -> None:
        self.near = None if near == "auto" else near
        self.far = None if far == "auto" else far
        self._number = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        # Near (written last: a row without it is not complete), far, and the number of the origin.
        self._estimated = torch.full((len(self._number), 3), nan, dtype=torch.float64)
        self._estimated.share_memory_()

    def find(self, key: str, scene: Scene) -> Bounds:
        """The bounds of a scene.

        Args:
            key: One of the keys.
            scene: The scene of this key.

        Raises:
            ValueError: As for :func:`mvsplat.data.bounds.find_bounds`.
        """
        row = self._estimated[self._number[key]]
        near, far, origin = row.tolist()
        if not isnan(near):
            return Bounds(near, far, ESTIMATES[int(origin)])
        bounds = find_bounds(scene, self.near, self.far)
        if bounds.origin in ESTIMATES:
            self._keep(row, key, bounds)
        return bounds

    def _keep(self, row: torch.Tensor, key: str, bounds: Bounds) -> None:
        number = ESTIMATES.index(bounds.origin)
        if not bool((self._estimated[:, 2] == number).any()):
            _log.warning(
                "%s: no depth bounds of its own; %.3g to %.3g estimated from its %s%s (near and "
                "far of the data give them, mvsplat convert stores estimates for good)",
                *(key, bounds.near, bounds.far, bounds.origin, _ADVICE[bounds.origin]),
            )
        row[2], row[1] = number, bounds.far
        row[0] = bounds.near
