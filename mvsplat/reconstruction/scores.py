"""How well a scene shows the photographs that it was not made from, on whole frames."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mvsplat.evaluation.metric_table import DESCRIPTIONS
from mvsplat.evaluation.metrics import psnr, ssim
from mvsplat.reconstruction.frames import UsedPhoto
from mvsplat.refinement.loss import WINDOW, ssim_map
from mvsplat.refinement.photographs import Photograph


@dataclass
class Score:
    """How well the scene shows a photograph it was not made from.

    Args:
        frame: The photograph.
        pixels: The scene, rendered from the same camera at the same size.
        values: Its scores by the metric's name: psnr and ssim.
        covered: Share of its view that the photographs used show, too.
    """

    frame: UsedPhoto
    pixels: UInt8[Tensor, "3 h w"]
    values: dict[str, float]
    covered: float

    @property
    def picture(self) -> Float[Tensor, "3 h w"]:
        """The scene, rendered from the same camera, with colours in [0, 1]."""
        return self.pixels.float() / 255

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB."""
        return self.values["psnr"]

    @property
    def ssim(self) -> float:
        """Structural similarity."""
        return self.values["ssim"]


@dataclass
class Scores:
    """Scores of the photographs held out, none if none was.

    Args:
        before: Of the scene before refinement.
        after: Of the refined scene; None where it was not refined.
        kept: Whether the refined scene is the one that is kept.
    """

    before: list[Score]
    after: list[Score] | None
    kept: bool

    @property
    def final(self) -> list[Score]:
        """Of the scene as it is now."""
        return self.after if self.after is not None and self.kept else self.before


def average(scores: Sequence[Score]) -> dict[str, float]:
    """The mean of every metric."""
    return {name: fmean(score.values[name] for score in scores) for name in scores[0].values}


def in_words(values: dict[str, float]) -> str:
    """``PSNR 23.83 dB, SSIM 0.771``."""
    return ", ".join(DESCRIPTIONS[name].sentence(value) for name, value in values.items())


def score(
    photos: Sequence[UsedPhoto],
    render: Callable[[UsedPhoto], Float[Tensor, "3 h w"]],
    covered: Sequence[float],
) -> list[Score]:
    """Scores of photographs.

    Args:
        photos: The photographs.
        render: The scene from a photograph's camera, at its size.
        covered: Of each photograph, the share of its view that the photographs used show.
    """
    found = []
    for photo, share in zip(photos, covered, strict=True):
        picture = render(photo).clamp(0, 1).cpu()
        values = compare(picture, photo.photograph)
        found.append(Score(photo, (picture * 255).round().to(torch.uint8), values, share))
    return found


def compare(picture: Float[Tensor, "3 h w"], photograph: Photograph) -> dict[str, float]:
    """PSNR and SSIM of a rendering, of the pixels that count.

    NaN where none do, and the SSIM of pictures that are smaller than its window.
    """
    truth, mask = photograph.pixels.float() / 255, photograph.mask
    if mask is not None:
        shown = psnr(picture[:, mask][..., None], truth[:, mask][..., None])
    else:
        shown = psnr(picture, truth)
    if min(photograph.shape) < WINDOW:
        return {"psnr": float(shown), "ssim": math.nan}
    if mask is None:
        return {"psnr": float(shown), "ssim": float(ssim(picture, truth))}
    edge = WINDOW // 2
    right_beside = torch.where(mask, picture.clamp(0, 1), truth).double()
    similar = ssim_map(right_beside, truth.double())[:, mask[edge:-edge, edge:-edge]]
    return {"psnr": float(shown), "ssim": float(similar.mean())}
