"""Points matched between two pictures, and the cameras that they agree with."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvsplat.geometry.projection import homogeneous

_SAMPLES = 256


class Matches(NamedTuple):
    """Points that two pictures both show.

    Args:
        first: Normalised coordinates (x, y) in the first picture.
        second: In the second.
        intrinsics: Normalised intrinsics of both.
        size: Width and height of the pictures, in the pixels in which distances are measured.
    """

    first: Float[Tensor, "n 2"]
    second: Float[Tensor, "n 2"]
    intrinsics: Float[Tensor, "2 3 3"]
    size: Float[Tensor, "2"]


def agreeing(matches: Matches, pose: Float[Tensor, "4 4"], beside: float) -> Bool[Tensor, " n"]:
    """Which matches are where a static scene in front of both cameras can show them.

    They are beside their epipolar line, on the half of it that depths from zero to infinity make.

    Args:
        matches: The matches.
        pose: From the first camera's frame to the second's.
        beside: Pixels beside the line (or beyond its end at infinity) that still count.
    """
    infinite, epipole, there = _in_pixels(matches, pose)
    ahead = infinite[:, 2] > 0
    end = infinite[:, :2] / infinite[:, 2:].clamp(min=1e-9)
    moved = there - end
    # A nearer point lies farther along e - z a, which is where depth leads it.
    along = epipole[:2] - epipole[2] * end
    length = along.norm(dim=-1, keepdim=True)
    direction = along / length.clamp(min=1e-12)
    forward = (moved * direction).sum(-1)
    side = (moved - forward[:, None] * direction).norm(dim=-1)
    on_line = torch.where(length[:, 0] > 1e-9, side, moved.norm(dim=-1)) <= beside
    # The first camera is where depth zero is: where it is seen, the line ends there.
    end_at = torch.where(epipole[2] > 1e-9, length[:, 0] / epipole[2].clamp(min=1e-9), torch.inf)
    return ahead & on_line & (forward >= -beside) & (forward <= end_at + beside)


def depths(
    matches: Matches, pose: Float[Tensor, "4 4"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Depths in the first camera by the second picture's position, and the parallax in pixels."""
    infinite, epipole, there = _in_pixels(matches, pose)
    end = infinite[:, :2] / infinite[:, 2:].clamp(min=1e-9)
    along = epipole[:2] - epipole[2] * end
    moved = there - end
    # there = (depth * infinite + epipole) / (depth * infinite_z + epipole_z), along the line.
    squared = along.square().sum(-1).clamp(min=1e-20)
    share = (moved * along).sum(-1) / squared
    depth = (1 - share * epipole[2]) / (share * infinite[:, 2]).clamp(min=1e-12)
    return depth, moved.norm(dim=-1)


def explained_by_one_motion(matches: Matches, beside: float, generator: torch.Generator) -> float:
    """The largest share of matches that one fundamental matrix explains, whatever the cameras.

    Hartley's normalised eight-point algorithm on random samples.
    """
    size = matches.size.double()
    first, second = (homogeneous((p.double() - 0.5) * 2) for p in matches[:2])
    count = len(first)
    if count < 8:
        return 0.0
    weights = torch.rand(_SAMPLES, count, generator=generator)
    chosen = weights.topk(8, dim=-1).indices
    products = second[chosen][..., :, None] * first[chosen][..., None, :]
    _, _, vectors = torch.linalg.svd(products.flatten(2), full_matrices=True)
    matrices = vectors[:, -1].view(-1, 3, 3)
    lines = first @ matrices.mT
    residual = (lines * second).sum(-1).abs()
    slope = (lines[..., :2] * 2 / size).norm(dim=-1).clamp(min=1e-12)
    return float((residual / slope <= beside).double().mean(-1).max())


def _in_pixels(
    matches: Matches, pose: Float[Tensor, "4 4"]
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "3"], Float[Tensor, "n 2"]]:
    """In the second picture: the first one's points at infinity, the first camera, the matches."""
    pixels = torch.diag(torch.cat([matches.size.double(), torch.ones(1).double()]))
    first, second = matches.intrinsics.double()
    project = pixels @ second
    rays = homogeneous(matches.first.double()) @ torch.linalg.inv(first).mT
    infinite = rays @ (project @ pose[:3, :3].double()).mT
    return infinite, project @ pose[:3, 3].double(), matches.second.double() * matches.size
