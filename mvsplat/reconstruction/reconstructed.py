"""What comes out of a reconstruction: the Gaussians, the cameras, pictures, scores."""

from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.data.bounds import Bounds
from mvsplat.data.transforms import Shape
from mvsplat.decoder import SplattingDecoder
from mvsplat.export.cameras import Cameras
from mvsplat.geometry.overlap import ViewPairs
from mvsplat.geometry.spherical_harmonics import MAX_DEGREE
from mvsplat.geometry.trajectories import CameraPath, through_cameras, visiting_order
from mvsplat.reconstruction.diagnosis import all_warnings, measure_pairs
from mvsplat.reconstruction.frames import UsedPhoto, cameras_of_photos, spread
from mvsplat.reconstruction.refinement import Refinement
from mvsplat.reconstruction.scene_input import SceneInput
from mvsplat.reconstruction.scores import Scores, score
from mvsplat.reconstruction.stages import Stages
from mvsplat.reconstruction.unrefined import Unrefined
from mvsplat.types import Gaussians, Rendering

FRAMES_A_STRETCH, MOST_FRAMES = 45, 180
_MOST_CAMERAS = 12
_DRAWN = 0.5


class ReconstructedScene:
    """A 3-D scene made from photographs, in memory.

    Everything is in the frame and unit of the cameras that came with the photographs or were
    estimated, whatever a model needed inside.

    Attributes:
        before: The scene before refinement.
        refinement: How it was refined; None where it was not.
        source: The input: all frames with cameras, what was dropped and why.
        context: The photographs it was made from, with their cameras, corrected by refinement.
        left_out: The photographs held out, which it is compared with.
        bounds: Depth bounds, and what they rest on.
        stages: The stages of the work and their times.
    """

    def __init__(
        self,
        before: Unrefined,
        source: SceneInput,
        context: list[UsedPhoto],
        left_out: list[UsedPhoto],
        bounds: Bounds,
        stages: Stages,
        refinement: Refinement | None = None,
        work: "TemporaryDirectory[str] | None" = None,
    ) -> None:
        self.before, self.refinement = before, refinement
        self.source, self.context, self.left_out = source, context, left_out
        self.bounds, self.stages = bounds, stages
        self._work = work  # keeps the working folder until nobody needs the photographs any more
        if refinement is not None and refinement.kept:
            moved = zip(context, refinement.result.extrinsics, strict=True)
            self.context = [photo.moved_to(extrinsics) for photo, extrinsics in moved]

    @property
    def gaussians(self) -> Gaussians:
        """The scene: a batch of one. If it was not refined, as the model predicts it for pictures
        of its own size; :meth:`gaussians_for` has those of other sizes."""
        return self.before.gaussians if self._refined is None else self._refined

    @property
    def is_refined(self) -> bool:
        """Whether the scene is a refined one, better than before."""
        return self._refined is not None

    @property
    def _refined(self) -> Gaussians | None:
        refinement = self.refinement
        return refinement.result.gaussians if refinement is not None and refinement.kept else None

    @property
    def decoder(self) -> SplattingDecoder:
        """What renders the scene."""
        return self.before.decoder if self._refined is None else self._plain_decoder

    @cached_property
    def _plain_decoder(self) -> SplattingDecoder:
        """Renders as refinement did."""
        return SplattingDecoder(sh_degree=MAX_DEGREE).eval()

    @property
    def seconds(self) -> dict[str, float]:
        """How long each stage took, by its title."""
        return self.stages.seconds

    @property
    def picture_size(self) -> Shape:
        """Height and width of the film, and of other pictures by default: the first photograph's,
        at the size at which photographs are compared."""
        return self.context[0].photograph.shape

    @cached_property
    def cameras(self) -> Cameras:
        """Cameras of the photographs used, then of those left out, each along a short way."""
        return self.cameras_with({})

    @cached_property
    def pairs(self) -> ViewPairs:
        """Overlap and parallax of the photographs used and, after them, of those left out."""
        return measure_pairs([*self.context, *self.left_out], self.bounds)

    @cached_property
    def warnings(self) -> list[str]:
        """What makes these photographs a poor scene, in sentences."""
        notes = [] if self.refinement is None else self.refinement.result.notes
        found = all_warnings(
            self.context, self.left_out, self.pairs, self.bounds, self.before.depth
        )
        return [*notes, *found]

    @cached_property
    def scores(self) -> Scores:
        """How well the scene shows the photographs left out, before and after refinement."""
        count = len(self.context)
        covered = self.pairs.overlap[count:, :count].amax(dim=-1).tolist()

        def before(photo: UsedPhoto) -> Tensor:
            return self.before.render(photo.photograph, self.bounds)

        def after(photo: UsedPhoto) -> Tensor:
            size = photo.photograph.shape
            return self.render(photo.extrinsics, photo.intrinsics, size).color[0, 0]

        first = score(self.left_out, before, covered)
        if self._refined is not None:
            return Scores(first, score(self.left_out, after, covered), kept=True)
        return Scores(first, None if self.refinement is None else first, kept=False)

    def depth_of(self, photo: UsedPhoto, size: Shape | None = None) -> Float[Tensor, "h w"]:
        """Depth of the scene from a photograph's camera, along the optical axis; 0 where there is
        hardly anything.

        Args:
            photo: A photograph, whose whole frame is shown.
            size: Height and width; by default those at which it is compared.
        """
        seen = self.render(photo.extrinsics, photo.intrinsics, size or photo.photograph.shape)
        return torch.where(seen.alpha[0, 0] >= _DRAWN, seen.depth[0, 0], 0).cpu()

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
            size: Height and width in pixels; by default :attr:`picture_size`.
        """
        size = size or self.picture_size
        lenses = self.context[0].intrinsics if intrinsics is None else intrinsics
        extrinsics = extrinsics.reshape(1, -1, 4, 4).float()
        count = extrinsics.shape[1]
        lenses = lenses.reshape(1, -1, 3, 3).float().expand(1, count, 3, 3)
        bounds = [torch.full((1, count), x) for x in (self.bounds.near, self.bounds.far)]
        gaussians = self.gaussians_for(size)
        cameras = [x.to(gaussians.means.device) for x in (extrinsics, lenses, *bounds)]
        return self.decoder(gaussians, *cameras, size)

    def gaussians_for(self, size: Shape | None = None) -> Gaussians:
        """The Gaussians for pictures of a size, or (as in ``scene.ply``) of any size.

        Those of a refined scene are always the same, as they were optimised.

        Args:
            size: Height and width of the pictures; none for any.
        """
        return self.before.gaussians_for(size) if self._refined is None else self._refined

    def path(self) -> CameraPath:
        """A smooth way past some of the photographs used and back, for a film in a loop."""
        photos = spread(self.context, _MOST_CAMERAS)
        extrinsics = torch.stack([photo.extrinsics for photo in photos])
        intrinsics = torch.stack([photo.intrinsics for photo in photos])
        order = visiting_order(extrinsics)
        frames = min(FRAMES_A_STRETCH * (len(order) - 1) + 1, MOST_FRAMES)
        path = through_cameras(extrinsics[order], intrinsics[order], frames, ease=True)
        return path.there_and_back()

    def cameras_with(self, files: dict[int, Path]) -> Cameras:
        """:attr:`cameras`, with the files of their photographs by frame number."""
        cameras = cameras_of_photos(self.context, self.bounds, self.left_out, files)
        cameras.dilated = self._refined is None and self.before.is_dilated
        return cameras
