"""Gaussians that cover by themselves what the decoder of their training filled.

A model that is trained with a decoder which fills what no Gaussian covers (``SplattingDecoder``'s
``fill``) may leave its Gaussians faint: colours are right all the same. No viewer fills, and shows
such a scene far too dark. So opacities and sizes are fitted until the scene looks, unfilled, as its
own decoder shows it, from the cameras of its photographs and between them. Photographs are not
compared with; places, orientations and colours stay.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise, product

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.decoder import SplattingDecoder
from mvsplat.decoder.widening import pixel_size, widened_by_variance
from mvsplat.geometry.trajectories import through_cameras
from mvsplat.refinement.engine import Engine, masked_mse
from mvsplat.refinement.engines import engine_for
from mvsplat.refinement.parameters import Parameters, Rates
from mvsplat.refinement.photographs import Photograph
from mvsplat.types import Gaussians, Views

# First all Gaussians alike: how many times each is laid over itself, and how far it is widened, in
# pixels; as suits so many of the pictures.
_LAYERS, _WIDER, _SAMPLE = (1.0, 1.5, 2.5, 4.0), (0.0, 0.3, 0.5, 0.7, 1.0), 4
# Then each one: looks at every picture, steps at most, Gaussians in all of them at most (a few
# seconds' work), and rates, which fall to a tenth.
_LOOKS, _MOST, _WORK = 20, 300, 15_000_000
_SCALES, _OPACITIES, _LEFT = 2e-2, 1e-1, 0.1
# Where a Gaussian could show anything: opaque and widened by so many pixels, it shows this much.
_SOLID, _THERE = 0.5, 0.5
# Cameras on the way from one photograph's to another's: a quarter, a half, three quarters of it.
_STOPS = 5

Progress = Callable[[int, int], None]
"""Is told how many steps are done, and of how many."""


def cameras_between(
    extrinsics: Float[Tensor, "v 4 4"],
    intrinsics: Float[Tensor, "v 3 3"],
    pairs: Iterable[tuple[int, int]],
) -> tuple[Float[Tensor, "c 4 4"], Float[Tensor, "c 3 3"]]:
    """The cameras themselves, and some on the way from one to another of every pair.

    Args:
        extrinsics: Camera-to-world matrices.
        intrinsics: Normalised intrinsics.
        pairs: Which cameras to go between.
    """
    poses, lenses = [extrinsics.double()], [intrinsics.double()]
    for pair in pairs:
        way = through_cameras(extrinsics[list(pair)], intrinsics[list(pair)], _STOPS)[1:-1]
        poses.append(way.extrinsics.double())
        lenses.append(way.intrinsics.double())
    return torch.cat(poses), torch.cat(lenses)


def covered(
    gaussians: Gaussians,
    decoder: SplattingDecoder,
    cameras: tuple[Float[Tensor, "c 4 4"], Float[Tensor, "c 3 3"]],
    pixel: Float[Tensor, " g"],
    near: float,
    shape: tuple[int, int],
    holes: bool = True,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
    engine: Engine | None = None,
) -> Gaussians:
    """The Gaussians with opacities and scales with which they need no filling.

    Args:
        gaussians: A batch of one scene.
        decoder: The decoder of their training, which fills.
        cameras: From where they are to look right; see :func:`cameras_between`.
        pixel: How large a pixel is at each Gaussian's place, in the scene's unit.
        near: Nearest depth of the scene.
        shape: Height and width of pictures for which the Gaussians are.
        holes: Whether what lies between Gaussians is covered, too, by those around it. It must not
            be where pixels of the photographs do not count.
        seed: Of the order of the cameras.
        progress: Is told how far it is, and may raise what ends the work.
        engine: What makes the steps; None takes the fastest.
    """
    engine = engine or engine_for(gaussians.means.device)
    pixel = pixel.to(gaussians.scales)
    solid = None
    if not holes:
        ones = torch.ones_like(gaussians.opacities)
        solid = replace(widened_by_variance(gaussians, (_SOLID * pixel).square()), opacities=ones)
    places = list(zip(*cameras, strict=True))
    total = min(_LOOKS * len(places), _MOST, max(1, _WORK // gaussians.means.shape[1]))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(places), generator=generator).tolist()
    pictures = [
        _picture(gaussians, solid, decoder, places[place], near, shape) for place in order[:total]
    ]
    start = _covered_alike(gaussians, pictures, pixel, near, engine)
    parameters = Parameters.from_gaussians(start)
    order = []
    for step in range(total):
        order = order or torch.randperm(len(pictures), generator=generator).tolist()
        fading = _LEFT ** (step / total)
        rates = Rates(0.0, fading * _SCALES, 0.0, 0.0, 0.0, fading * _OPACITIES)
        engine.step(parameters, pictures[order.pop()], rates, near, parameters.degree)
        progress(step + 1, total)
    fitted = parameters.to_gaussians()
    return replace(gaussians, scales=fitted.scales, opacities=fitted.opacities)


@torch.inference_mode(False)  # a trainer predicts in it, but TorchEngine's steps need autograd
def covered_scenes(gaussians: Gaussians, decoder: SplattingDecoder, views: Views) -> Gaussians:
    """Each scene of a batch, :func:`covered` for the views that it was predicted from.

    Args:
        gaussians: The scenes.
        decoder: The decoder of their training, which fills.
        views: What the encoder saw.
    """
    scenes = []
    for number in range(len(gaussians.means)):
        one, seen = gaussians.part(number), views.part(number)
        poses, lenses = seen.extrinsics[0].cpu(), seen.intrinsics[0].cpu()
        scenes.append(
            covered(
                one,
                decoder,
                cameras_between(poses, lenses, pairwise(range(len(poses)))),
                pixel_size(one.means[0], seen),
                float(seen.near.min()),
                (views.image.shape[-2], views.image.shape[-1]),
            )
        )
    opacities = torch.cat([scene.opacities for scene in scenes])
    return replace(gaussians, scales=torch.cat([s.scales for s in scenes]), opacities=opacities)


@torch.no_grad()
def _picture(
    gaussians: Gaussians,
    solid: Gaussians | None,
    decoder: SplattingDecoder,
    camera: Sequence[Tensor],
    near: float,
    shape: tuple[int, int],
) -> Photograph:
    """What the decoder shows; to be compared where ``solid`` Gaussians show anything, if given."""
    extrinsics, intrinsics = (
        matrix[None, None].to(gaussians.means.device).float() for matrix in camera
    )
    unit = gaussians.means.new_full((1, 1), near)
    view = extrinsics, intrinsics, unit, unit, shape
    pixels = (255 * decoder(gaussians, *view).color[0, 0].clamp(0, 1)).round().to(torch.uint8)
    pose, lens = (matrix.cpu().double() for matrix in camera)
    there = None if solid is None else (decoder(solid, *view).alpha[0, 0] >= _THERE).cpu()
    return Photograph("", pixels.cpu(), pose, lens, there)


def _covered_alike(
    gaussians: Gaussians,
    pictures: Sequence[Photograph],
    pixel: Float[Tensor, " g"],
    near: float,
    engine: Engine,
) -> Gaussians:
    """The Gaussians as suits most of the pictures best, all changed in the same way."""
    sample = pictures[:_SAMPLE]

    def error(candidate: Gaussians) -> float:
        parameters = Parameters.from_gaussians(candidate)
        shown = (engine.render(parameters, p, near, parameters.degree).cpu() for p in sample)
        return sum(
            masked_mse(color, picture.pixels / 255, picture.mask)
            for color, picture in zip(shown, sample, strict=True)
        )

    candidates = (
        replace(
            widened_by_variance(gaussians, (wider * pixel).square()),
            opacities=1 - (1 - gaussians.opacities) ** layers,
        )
        for layers, wider in product(_LAYERS, _WIDER)
    )
    return min(candidates, key=error)
