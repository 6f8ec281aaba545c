"""What comes out of a reconstruction: the Gaussians, the cameras, pictures, scores."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.bounds import Bounds
from mvsplat.data.transforms import Shape
from mvsplat.evaluation.metric_table import DESCRIPTIONS, STANDARD
from mvsplat.export.cameras import Cameras, Frame
from mvsplat.geometry.trajectories import CameraPath, through_cameras, visiting_order
from mvsplat.reconstruction.checkpoint import TrainedModel
from mvsplat.reconstruction.diagnosis import all_warnings, measure_pairs
from mvsplat.reconstruction.frames import CroppedFrame, as_views, shown_shape
from mvsplat.reconstruction.inputs import SceneInput
from mvsplat.reconstruction.stages import Stages
from mvsplat.reconstruction.widening import widened
from mvsplat.types import Gaussians, Rendering

FRAMES_A_STRETCH, MOST_FRAMES = 45, 450


@dataclass
class Score:
    """How well the scene shows a photograph it was not made from.

    Args:
        frame: The photograph.
        picture: The scene, rendered from the same camera.
        values: Its scores by the metric's name: psnr and ssim.
        covered: Share of its view that the photographs used show, too.
    """

    frame: CroppedFrame
    picture: Float[Tensor, "3 h w"]
    values: dict[str, float]
    covered: float

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB."""
        return self.values["psnr"]

    @property
    def ssim(self) -> float:
        """Structural similarity."""
        return self.values["ssim"]


def average(scores: list[Score]) -> dict[str, float]:
    """The mean of every metric."""
    return {name: fmean(score.values[name] for score in scores) for name in scores[0].values}


def in_words(values: dict[str, float]) -> str:
    """``PSNR 23.83 dB, SSIM 0.771``."""
    return ", ".join(DESCRIPTIONS[name].sentence(value) for name, value in values.items())


class ReconstructedScene:
    """A 3-D scene made from photographs, in memory.

    Everything is in the frame and unit of the cameras that came with the photographs or were
    estimated, whatever the model needed inside.

    Attributes:
        gaussians: The scene: a batch of one, as the model predicts it for pictures of its own
            size; :meth:`gaussians_for` has those of other sizes.
        source: The input: all frames with cameras, what was dropped and why.
        context: The photographs it was made from.
        bounds: Depth bounds, and what they rest on.
        shape: Height and width at which the model saw the photographs.
        seconds: How long each stage took.
    """

    def __init__(
        self,
        gaussians: Gaussians,
        model: TrainedModel,
        source: SceneInput,
        context: list[CroppedFrame],
        left_out: list[int],
        bounds: Bounds,
        shape: Shape,
        stages: Stages,
        work: "TemporaryDirectory[str] | None" = None,
    ) -> None:
        self.gaussians = gaussians
        self.model = model
        self.source = source
        self.context = context
        self.bounds = bounds
        self.shape = shape
        self.stages = stages
        self._left_out = left_out
        self._work = work  # keeps the working folder until nobody needs the photographs any more

    @property
    def seconds(self) -> dict[str, float]:
        """How long each stage took, by its title."""
        return self.stages.seconds

    @cached_property
    def left_out(self) -> list[CroppedFrame]:
        """Photographs the scene was not made from, to compare it with."""
        return self.source.readable(self._left_out, self.shape)

    @cached_property
    def cameras(self) -> Cameras:
        """Cameras of the photographs used, then of those left out, each along a short way."""
        return self.cameras_with({})

    @cached_property
    def depth(self) -> Float[Tensor, "v h w"] | None:
        """Estimated depth of the context photographs along the optical axis."""
        estimate = self.gaussians.estimate
        return None if estimate is None else estimate.depth[0].cpu()

    @cached_property
    def warnings(self) -> list[str]:
        """What makes these photographs a poor scene, in sentences."""
        return all_warnings(self.context, self.left_out, self.bounds, self.depth)

    @cached_property
    def scores(self) -> list[Score]:
        """How well the scene shows the photographs left out."""
        if not self.left_out:
            return []
        views = as_views(self.left_out, self.bounds.near, self.bounds.far)
        pictures = self.render(views.extrinsics[0], views.intrinsics[0], self.shape).color[0]
        pictures = pictures.clamp(0, 1).cpu()
        of_metrics = {
            metric.name: metric.score(pictures[None], views.image)[0].tolist()
            for metric in STANDARD
            if not metric.needs_depth
        }
        of_photos = [
            dict(zip(of_metrics, values, strict=True))
            for values in zip(*of_metrics.values(), strict=True)
        ]
        rows = zip(self.left_out, pictures, of_photos, self._covered().tolist(), strict=True)
        return [Score(*row) for row in rows]

    @torch.no_grad()
    def render(
        self,
        extrinsics: Float[Tensor, "*v 4 4"],
        intrinsics: Float[Tensor, "*v 3 3"] | None = None,
        size: Shape | None = None,
    ) -> Rendering:
        """Pictures of the scene, as a batch of one: ``color`` is [1, v, 3, h, w].

        Args:
            extrinsics: Camera-to-world matrices, one or several.
            intrinsics: Normalised intrinsics; by default the first photograph's.
            size: Height and width in pixels; by default the model's, enlarged to about 512.
        """
        extrinsics = extrinsics.reshape(1, -1, 4, 4).float()
        count = extrinsics.shape[1]
        intrinsics = self.context[0].intrinsics if intrinsics is None else intrinsics
        intrinsics = intrinsics.reshape(1, -1, 3, 3).float().expand(1, count, 3, 3)
        bounds = [torch.full((1, count), x) for x in (self.bounds.near, self.bounds.far)]
        cameras = [x.to(self.gaussians.means.device) for x in (extrinsics, intrinsics, *bounds)]
        size = size or shown_shape(self.shape)
        gaussians = self.gaussians_for(size)
        return self.model.decoder(gaussians, *cameras, size)

    def gaussians_for(self, size: Shape | None = None) -> Gaussians:
        """The Gaussians for pictures of a size, or (as in ``scene.ply``) of any size.

        They are widened so that larger pictures show the scene as the model's own size does,
        without gaps; see :mod:`mvsplat.reconstruction.widening`.

        Args:
            size: Height and width of the pictures; none for any.
        """
        views = as_views(self.context, self.bounds.near, self.bounds.far)
        enlargement = float("inf")
        if size is not None:
            enlargement = max(a / b for a, b in zip(size, self.shape, strict=True))
        return widened(self.gaussians, views, enlargement)

    def path(self) -> CameraPath:
        """A smooth way past the context photographs and back, for a film in a loop."""
        extrinsics = torch.stack([frame.extrinsics for frame in self.context])
        intrinsics = torch.stack([frame.intrinsics for frame in self.context])
        order = visiting_order(extrinsics)
        frames = min(FRAMES_A_STRETCH * (len(order) - 1) + 1, MOST_FRAMES)
        path = through_cameras(extrinsics[order], intrinsics[order], frames, ease=True)
        return path.there_and_back()

    def cameras_with(self, files: dict[int, Path]) -> Cameras:
        """:attr:`cameras`, with the files of their photographs by frame number."""
        frames = [*_on_the_way(self.context), *_on_the_way(self.left_out)]
        listed = [
            Frame(
                name=frame.name,
                extrinsics=frame.extrinsics,
                intrinsics=frame.intrinsics,
                width=frame.shown.shape[-1],
                height=frame.shown.shape[-2],
                image=files.get(frame.index),
            )
            for frame in frames
        ]
        return Cameras(listed, self.bounds.near, self.bounds.far, dilated=True)

    def _covered(self) -> Float[Tensor, " n"]:
        count = len(self.context)
        pairs = measure_pairs([*self.context, *self.left_out], self.bounds)
        return pairs.overlap[count:, :count].amax(dim=-1)


def _on_the_way(frames: list[CroppedFrame]) -> list[CroppedFrame]:
    """Photographs in the order of a short way past their cameras."""
    if not frames:
        return []
    return [frames[i] for i in visiting_order(torch.stack([frame.extrinsics for frame in frames]))]
