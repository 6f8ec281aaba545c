"""What every engine relies on, checked before it runs: shapes, finite values, sensible cameras."""

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from mvsplat.geometry.projection import well_formed

GAUSSIANS = ("means", "scales", "rotations", "harmonics", "opacities")
"""Fields of Gaussians that are rendered."""

# Shapes by letter: s scenes, v views, g Gaussians, k coefficients.
_SHAPES = {
    "means": "sg3",
    "scales": "sg3",
    "rotations": "sg4",
    "harmonics": "sg3k",
    "opacities": "sg",
    "extrinsics": "sv44",
    "intrinsics": "sv33",
    "near": "sv",
}
_MEANING = {"s": "scenes", "v": "views", "g": "gaussians", "k": "coefficients"}


class GaussiansNotFinite(ValueError):
    """Gaussians have NaN or infinite values: a training that diverged makes such ones."""


def check_inputs(
    named: Mapping[str, Tensor],
    image_shape: tuple[int, int],
    is_finite: Callable[[Tensor], Tensor | bool],
    unread: Collection[str] = (),
) -> None:
    """Check Gaussians and cameras; on an accelerator, in a single wait for it.

    Args:
        named: Gaussians' fields, extrinsics, intrinsics and near, by name.
        image_shape: Height and width in pixels.
        is_finite: Whether a tensor has no NaN and no infinity; the answer may be on its device.
        unread: Names of tensors whose values another check reads.

    Raises:
        GaussiansNotFinite: NaN or infinite values of Gaussians.
        ValueError: A shape that does not fit the others, tensors on several devices, NaN or
            infinite values, or a camera that cannot be one.
    """
    check_shapes({name: named[name] for name in _SHAPES}, _SHAPES)
    if min(image_shape) < 1:
        raise ValueError(f"image shape: {tuple(image_shape)} found, expected positive numbers")
    device = named["means"].device
    for name, tensor in named.items():
        if tensor.device != device:
            raise ValueError(f"{name}: on {tensor.device}, expected {device}, where the means are")
    read = {name: tensor for name, tensor in named.items() if name not in unread}
    good = [torch.as_tensor(is_finite(tensor), device=device) for tensor in read.values()]
    right_lens, right_pose = _cameras(named)
    if bool(torch.stack([*good, right_lens.all(), right_pose.all()]).all()):
        return
    for (name, tensor), fine in zip(read.items(), good, strict=True):
        if not fine:
            raise not_finite(name, tensor)
    if not right_lens.all():
        index = _first(~right_lens)
        raise ValueError(
            f"intrinsics: {named['intrinsics'][index].tolist()} found at index {index}, expected "
            "[[fx, skew, cx], [0, fy, cy], [0, 0, 1]] with a positive focal length fx and fy"
        )
    raise ValueError(
        f"extrinsics or near: a camera mirrors the world, the first at index "
        f"{_first(~right_pose)} (near must be positive, and the extrinsics' upper left 3 x 3 a "
        "rotation)"
    )


def _cameras(named: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Which views' intrinsics [s, v], and which extrinsics with near, can be rendered."""
    x, y, z = named["extrinsics"][..., :3, :3].unbind(-1)
    determinant = (torch.linalg.cross(x, y) * z).sum(-1)
    return well_formed(named["intrinsics"]), (determinant > 0) & (named["near"] > 0)


def check_shapes(named: Mapping[str, Tensor], shapes: Mapping[str, str]) -> None:
    """Check that shapes, given by a letter or digit an axis, fit each other.

    Raises:
        ValueError: Names the first that does not, and what was expected.
    """
    sizes: dict[str, int] = {}
    for name, letters in shapes.items():
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


def _known(sizes: Mapping[str, int], letter: str) -> str:
    return f" = {sizes[letter]}" if letter in sizes else ""


def is_finite(tensor: Tensor) -> Tensor:
    """Whether there is no NaN and no infinity, without a temporary tensor of the same size."""
    if tensor.numel() == 0:
        return torch.ones((), dtype=torch.bool, device=tensor.device)
    # Both hand on NaN.
    return torch.stack(tensor.detach().aminmax()).isfinite().all()


def not_finite(name: str, tensor: Tensor) -> ValueError:
    """What to raise for a tensor that is not finite."""
    bad = ~torch.isfinite(tensor)
    kind = GaussiansNotFinite if name in GAUSSIANS else ValueError
    return kind(
        f"{name}: {int(bad.sum())} of {tensor.numel()} values are NaN or infinite, the first at "
        f"index {_first(bad)}; usually the training diverged (lower the learning rate)"
    )


def _first(mask: Tensor) -> tuple[int, ...]:
    return tuple(mask.nonzero()[0].tolist())
