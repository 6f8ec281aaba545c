"""What the kernels rely on, checked before they run."""

import numpy as np
from torch import Tensor

from mvsplat.decoder.checks import check_shapes, not_finite
from mvsplat.decoder.cpu.threads import run_all
from mvsplat.kernels import kernel

_SHAPES = {
    "means": "sg3",
    "scales": "sg3",
    "rotations": "sg4",
    "harmonics": "sg3k",
    "opacities": "sg",
    "cameras": "sv34",
    "camera centres": "sv3",
    "lenses": "sv4",
}


def check_operands(tensors: list[Tensor], degree: int) -> None:
    """Check the tensors of ``operator.splat``, in its order.

    This is where Gaussians' values are read, once: the decoder, which cannot look at values in a
    compiled graph, leaves that to the operator.

    Raises:
        GaussiansNotFinite: NaN or infinite values of Gaussians.
        ValueError: A shape does not fit the others, or cameras have such values.
    """
    named = dict(zip(_SHAPES, tensors))
    check_shapes(named, _SHAPES)
    if (degree + 1) ** 2 > named["harmonics"].shape[-1]:
        raise ValueError(f"harmonics: {named['harmonics'].shape[-1]} coefficients, degree {degree}")
    for name, tensor in named.items():
        if not is_finite(tensor):
            raise not_finite(name, tensor)


@kernel
def _is_finite(bits):
    """Whether none of these float32 values, seen as uint32, has the exponent of NaN."""
    exponent = np.uint32(0x7F800000)
    count = 0
    for i in range(bits.size):
        count += (bits[i] & exponent) == exponent
    return count == 0


def is_finite(tensor: Tensor) -> bool:
    """Whether there is no NaN and no infinity, as float32.

    Not by torch: its parallel reductions hang in a forked child whose parent has used them.
    """
    bits = tensor.detach().float().contiguous().numpy().reshape(-1).view(np.uint32)
    return all(run_all(_is_finite, [(part,) for part in _parts(bits)]))


def _parts(array: np.ndarray) -> list[np.ndarray]:
    size = 1 << 19
    return [array[start : start + size] for start in range(0, array.size, size)]
