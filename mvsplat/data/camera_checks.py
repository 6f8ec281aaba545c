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

    for number, problem in camera_problems(extrinsics, intrinsics).items():
        frame = number if names is None else repr(names[number])
        raise ValueError(f"the camera of frame {frame} {problem}")


def camera_problems(
    extrinsics: Float[Tensor, "n 4 4"], intrinsics: Float[Tensor, "n 3 3"]
) -> dict[int, str]:
    """What is wrong with cameras, by frame number; frames in order, only those that are wrong.

    Args:
        extrinsics: Camera-to-world or world-to-camera matrices.
        intrinsics: Intrinsics, normalised or in pixels.
    """
    numbers = torch.cat([extrinsics.flatten(1).double(), intrinsics.flatten(1).double()], 1)
    focal = intrinsics[:, [0, 1], [0, 1]]
    rotation = extrinsics[:, :3, :3].double()
    skew = (rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs().amax((1, 2))
    proper = (skew < _ROTATION_TOLERANCE) & (torch.linalg.det(rotation) > 0)
    last_row = extrinsics.new_tensor([0.0, 0.0, 0.0, 1.0])
    proper &= (extrinsics[:, 3] - last_row).abs().amax(-1) < _ROTATION_TOLERANCE
    checks = (
        (numbers.isfinite().all(-1), "has a number that is not finite"),
        ((focal > 0).all(-1), "has a focal length that is not positive"),
        (proper, "is no rotation and translation"),
    )
    problems: dict[int, str] = {}
    for good, problem in checks:
        for number in (~good).nonzero()[:, 0].tolist():
            problems.setdefault(number, problem)
    return dict(sorted(problems.items()))
