"""What the kernels rely on, checked before they run: shapes, finite values, sensible cameras."""

import numpy as np
import torch
from torch import Tensor

from mvsplat.decoder.cpu.compilation import kernel
from mvsplat.decoder.cpu.threads import run_all

# Shapes by letter: s scenes, v views, g Gaussians, k coefficients.
_SHAPES = {
    "means": "sg3",
    "scales": "sg3",
    "rotations": "sg4",
    "harmonics": "sg3k",
    "opacities": "sg",
    "extrinsics or near": "sv34",
    "camera centres": "sv3",
    "intrinsics": "sv4",
}


def check_inputs(tensors: list[Tensor], height: int, width: int, degree: int) -> None:
    """Check the tensors of ``operator.splat``, in its order.

    Raises:
        ValueError: A shape that does not fit the others, NaN or infinite values, or a camera that
            cannot be one.
    """
    named = dict(zip(_SHAPES, tensors))
    _check_shapes(named)
    if height < 1 or width < 1:
        raise ValueError(f"image shape: {(height, width)} found, expected positive numbers")
    if (degree + 1) ** 2 > named["harmonics"].shape[-1]:
        raise ValueError(f"harmonics: {named['harmonics'].shape[-1]} coefficients, degree {degree}")
    for name, tensor in named.items():
        _check_finite(name, tensor)
    if not (named["intrinsics"][..., :2] > 0).all():
        raise ValueError("intrinsics: a focal length is not positive")
    if not (torch.linalg.det(named["extrinsics or near"][..., :3].float()) > 0).all():
        raise ValueError(
            "extrinsics or near: a camera mirrors the world (near must be positive, and the "
            "extrinsics' upper left 3 x 3 a rotation)"
        )


def _check_shapes(named: dict[str, Tensor]) -> None:
    sizes: dict[str, int] = {}
    for name, letters in _SHAPES.items():
        shape = tuple(named[name].shape)
        fits = len(shape) == len(letters) and all(
            size == (int(letter) if letter.isdigit() else sizes.setdefault(letter, size))
            for size, letter in zip(shape, letters)
        )
        if not fits:
            wanted = ", ".join(
                letter if letter.isdigit() else f"{_MEANING[letter]}{_known(sizes, letter)}"
                for letter in letters
            )
            raise ValueError(f"{name}: shape {shape} found, expected ({wanted})")


_MEANING = {"s": "scenes", "v": "views", "g": "gaussians", "k": "coefficients"}


def _known(sizes: dict[str, int], letter: str) -> str:
    return f" = {sizes[letter]}" if letter in sizes else ""


@kernel
def _count_not_finite(bits):
    """How many of these float32 values, seen as uint32, have the exponent of NaN and infinity."""
    count = 0
    exponent = np.uint32(0x7F800000)
    for i in range(bits.size):
        count += (bits[i] & exponent) == exponent
    return count


def _check_finite(name: str, tensor: Tensor) -> None:
    # Not by torch: its parallel reductions hang in a forked child whose parent has used them.
    bits = tensor.detach().float().contiguous().numpy().reshape(-1).view(np.uint32)
    count = sum(run_all(_count_not_finite, [(part,) for part in _parts(bits)]))
    if count:
        first = tuple((~torch.isfinite(tensor)).nonzero()[0].tolist())
        raise ValueError(
            f"{name}: {count} of {tensor.numel()} values are NaN or infinite, the first at index "
            f"{first}; usually the training diverged (lower the learning rate)"
        )


def _parts(array: np.ndarray) -> list[np.ndarray]:
    size = 1 << 19
    return [array[start : start + size] for start in range(0, array.size, size)]
