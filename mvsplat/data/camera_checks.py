"""Whether cameras make sense, wherever they come from."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

# A rotation stored in float32 is orthogonal to 1e-6; data sets with rounded text reach 1e-3.
_ROTATION_TOLERANCE = 1e-2


def check_cameras(
    extrinsics: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
    names: Sequence[str] | None = None,
) -> None:
    """Check that every matrix is a rotation and translation, every focal length positive.

    Args:
        extrinsics: Camera-to-world or world-to-camera matrices.
        intrinsics: Intrinsics, normalised or in pixels.
        names: What to call the frames; by default their numbers.

    Raises:
        ValueError: Names the first frame that is wrong, and what is wrong with it.
    """

    def check(good: Tensor, problem: str) -> None:
        if not good.all():
            number = int((~good).nonzero()[0])
            frame = number if names is None else repr(names[number])
            raise ValueError(f"the camera of frame {frame} {problem}")

    numbers = torch.cat([extrinsics.flatten(1).double(), intrinsics.flatten(1).double()], 1)
    check(numbers.isfinite().all(-1), "has a number that is not finite")
    focal = intrinsics[:, [0, 1], [0, 1]]
    check((focal > 0).all(-1), "has a focal length that is not positive")
    rotation = extrinsics[:, :3, :3].double()
    skew = (rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs().amax((1, 2))
    proper = (skew < _ROTATION_TOLERANCE) & (torch.linalg.det(rotation) > 0)
    last_row = extrinsics.new_tensor([0.0, 0.0, 0.0, 1.0])
    proper &= (extrinsics[:, 3] - last_row).abs().amax(-1) < _ROTATION_TOLERANCE
    check(proper, "is no rotation and translation")
