"""Samples of one scene: chosen views, cropped pictures, cameras, bounds."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from mvsplat.data.bounds import Bounds, UnknownBounds
from mvsplat.data.camera_checks import check_cameras
from mvsplat.data.faults import UnsuitableScene, faults_are
from mvsplat.data.loading.augmentation import Augmentation, Place
from mvsplat.data.loading.shapes import StepShapes
from mvsplat.data.loading.streams import make_generator
from mvsplat.data.loading.view_samplers import SampleChoice, ViewSampler
from mvsplat.data.scene import Scene, SceneSource, Split
from mvsplat.data.scene_bounds import SceneBounds
from mvsplat.data.transforms import (
    Shape,
    crop_depth,
    crop_image,
    crop_intrinsics,
    flip_batch,
    stack_images,
    window_depth,
    window_image,
    window_intrinsics,
)
from mvsplat.data.wording import few
from mvsplat.types import Batch, Views


class Examples(Dataset, ABC):
    """What loaders draw from: one sample an index, a pure function of its arguments."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of indices."""

    @abstractmethod
    def sample(self, index: int, step: int, generator: torch.Generator) -> Batch:
        """A batch of one scene.

        Args:
            index: From 0 to the length.
            step: The optimizer step the sample will be used in (0 in evaluation).
            generator: The only source of randomness.

        Raises:
            UnsuitableScene: It cannot be used; the message is the reason it is counted under.
        """

    def expect(self, upcoming: Iterable[int]) -> None:
        """Told in each process which samples it will make next, in order; they may be prepared."""

    def groups(self) -> list[list[int]]:
        """Indices that are best read one after the other."""
        return [list(range(len(self)))]

    def name(self, index: int) -> str:
        """What to call an index in messages."""
        return f"sample {index}"


@dataclass(frozen=True)
class ExampleSettings:
    """What every stage does to a scene's views; see :class:`mvsplat.data.SceneDataModule`."""

    image_shape: Shape = (256, 256)
    near: float | Literal["auto"] = "auto"
    far: float | Literal["auto"] = "auto"
    frame_shape: Shape | None = None
    max_field_of_view: float | None = 100.0
    min_baseline: float | None = None
    max_baseline: float | None = None

    def __post_init__(self) -> None:
        if min(self.image_shape) < 1:
            raise ValueError(f"image_shape is {list(self.image_shape)}; expected height and width")
        for name in ("near", "far"):
            bound = getattr(self, name)
            if bound != "auto" and not 0 < bound < float("inf"):
                raise ValueError(f"{name} is {bound}; expected a positive number or auto")
        if self.near != "auto" and self.far != "auto" and self.near >= self.far:
            raise ValueError(f"near is {self.near} and far is {self.far}; expected near < far")


class _CroppedFrame(NamedTuple):
    """A cropped frame."""

    pixels: UInt8[Tensor, "3 h w"]
    intrinsics: Float[Tensor, "3 3"]
    depth: Float[Tensor, "h w"] | None


class SceneExamples(Examples):
    """Samples from the scenes of a source.

    Args:
        source: Where the scenes come from.
        split: Which of its scenes.
        views: Chooses the views.
        settings: Crop, bounds and filters.
        flip_probability: How often a sample is mirrored left and right.
        only: Take this scene alone.
        seed: With the optimizer step, seeds what all samples of a step share.
        shapes: Draws the shape of an optimizer step's pictures; None: it is the settings' one.
        augmentation: How samples are changed besides.

    Raises:
        ValueError: There are no scenes, or none is called ``only``.
    """

    def __init__(
        self,
        source: SceneSource,
        split: Split,
        views: ViewSampler,
        settings: ExampleSettings,
        flip_probability: float = 0.0,
        only: str | None = None,
        seed: int = 0,
        shapes: StepShapes | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.shapes = shapes
        self.augmentation = augmentation
        self.source = source
        self.split = split
        self.views = views
        self.settings = settings
        self.flip_probability = flip_probability
        self.seed = seed
        keys = source.keys(split)
        if not keys:
            raise ValueError(f"the source has no {split} scenes")
        if only is not None:
            _check_known(only, keys, split)
            keys = [only]
        self.choice = views.choose(keys)
        if not self.choice.samples:
            raise ValueError(_nothing_chosen(self.choice, len(keys), split))
        # Laid out group by group, so that reading in order opens each chunk once.
        names: dict[str, list[str]] = {}
        for name, key in self.choice.samples.items():
            names.setdefault(key, []).append(name)
        groups = [
            [(name, key) for key in group for name in names.get(key, [])]
            for group in source.groups(split)
        ]
        self._group_sizes = [len(group) for group in groups if group]
        self._samples = [sample for group in groups for sample in group]
        self._scene_bounds = SceneBounds(self.choice.samples.values(), settings.near, settings.far)

    def __len__(self) -> int:
        return len(self._samples)

    def groups(self) -> list[list[int]]:
        return [part.tolist() for part in torch.arange(len(self)).split(self._group_sizes)]

    def expect(self, upcoming: Iterable[int]) -> None:
        self.source.expect(self.split, (self._samples[index][1] for index in upcoming))

    def name(self, index: int) -> str:
        return self._samples[index][0]

    def sample(self, index: int, step: int, generator: torch.Generator) -> Batch:
        name, key = self._samples[index]
        with faults_are("damaged", reading=True):
            scene = self.source.scene(self.split, key)
        if name != key:
            scene = copy(scene)  # a source may hand out the same object again
            scene.key = name
        with faults_are("unusable cameras"):
            context, target = self._choose_views(scene, step, generator)
        chosen = {*context.tolist(), *target.tolist()}
        shape = self._shape(step)
        place = self.augmentation.place(generator) if self.augmentation else None
        frames = {frame: self._frame(scene, frame, shape, place) for frame in chosen}
        bounds = self._bounds(key, scene)
        batch = Batch(
            self._views(scene, context, frames, bounds),
            self._views(scene, target, frames, bounds),
            [name],
        )
        if self.augmentation is not None:
            batch = self.augmentation.change(batch, generator)
        flip = torch.rand((), generator=generator) < self.flip_probability
        return flip_batch(batch) if flip else batch

    def _shape(self, step: int) -> Shape:
        """Height and width of all pictures of an optimizer step."""
        if self.shapes is None:
            return self.settings.image_shape
        # Not the generator that the number of views is drawn from: sizes are drawn besides it.
        return self.shapes.draw(make_generator(self.seed, step, 1))

    def _choose_views(
        self, scene: Scene, step: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, " context"], Int[Tensor, " target"]]:
        """Context and target views, with cameras that can be used."""
        self._check_field_of_view(scene)
        views = self.views.for_step(make_generator(self.seed, step))
        context, target = views.sample(scene, step, generator)
        chosen = sorted({*context.tolist(), *target.tolist()})
        if chosen[0] < 0 or chosen[-1] >= len(scene):
            problem = ValueError(f"frames {chosen} of {scene.key!r}, which has {len(scene)} frames")
            raise UnsuitableScene("views beyond its end") from problem
        cameras = (scene.extrinsics[chosen], scene.intrinsics[chosen])
        check_cameras(*cameras, [str(frame) for frame in chosen])
        self._check_baseline(scene, context)
        return context, target

    def _frame(self, scene: Scene, index: int, shape: Shape, place: Place | None) -> _CroppedFrame:
        """Read a frame and crop its centre, or another place."""
        with faults_are("damaged", reading=True):
            image, depth = scene.image(index), scene.depth(index)
        size = (image.height, image.width)
        if self.settings.frame_shape not in (None, size):
            height, width = self.settings.frame_shape
            raise UnsuitableScene(f"frames are not {height} pixels high and {width} wide")
        if place is not None:
            window = place.window(size, shape)
            return _CroppedFrame(
                window_image(image, window, shape),
                window_intrinsics(scene.intrinsics[index], size, window),
                None if depth is None else window_depth(depth, window, shape),
            )
        return _CroppedFrame(
            crop_image(image, shape),
            crop_intrinsics(scene.intrinsics[index], size, shape),
            None if depth is None else crop_depth(depth, shape),
        )

    def _views(
        self,
        scene: Scene,
        index: Int[Tensor, " v"],
        frames: Mapping[int, _CroppedFrame],
        bounds: Bounds,
    ) -> Views:
        chosen = [frames[frame] for frame in index.tolist()]
        depths = [frame.depth for frame in chosen if frame.depth is not None]
        return Views(
            image=stack_images([frame.pixels for frame in chosen])[None],
            extrinsics=scene.extrinsics[index][None],
            intrinsics=torch.stack([frame.intrinsics for frame in chosen])[None],
            near=torch.full((1, len(index)), bounds.near),
            far=torch.full((1, len(index)), bounds.far),
            index=index[None],
            depth=torch.stack(depths)[None] if len(depths) == len(chosen) else None,
        )

    def _bounds(self, key: str, scene: Scene) -> Bounds:
        with faults_are("depth bounds that do not fit", reading=True):
            try:
                return self._scene_bounds.find(key, scene)
            except UnknownBounds as error:
                raise UnsuitableScene("no depth bounds") from error

    def _check_field_of_view(self, scene: Scene) -> None:
        limit = self.settings.max_field_of_view
        if limit is not None and field_of_view(scene.intrinsics).max() > limit:
            raise UnsuitableScene(f"field of view over {limit:g} degrees")

    def _check_baseline(self, scene: Scene, context: Int[Tensor, " v"]) -> None:
        low, high = self.settings.min_baseline, self.settings.max_baseline
        if low is None and high is None:
            return
        centres = scene.extrinsics[context, :3, 3]
        baseline = float(torch.cdist(centres, centres).max())
        if low is not None and baseline < low:
            raise UnsuitableScene(f"baseline under {low:g}")
        if high is not None and baseline > high:
            raise UnsuitableScene(f"baseline over {high:g}")


def field_of_view(intrinsics: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 2"]:
    """Horizontal and vertical field of view in degrees, through the principal point."""
    focal = intrinsics[..., [0, 1], [0, 1]]
    centre = intrinsics[..., :2, 2]
    return torch.rad2deg(torch.atan2(centre, focal) + torch.atan2(1 - centre, focal))


def _nothing_chosen(choice: SampleChoice, count: int, split: Split) -> str:
    reasons = {**choice.left_out, **choice.unusable}
    found = ", ".join(f"{len(names)} {r} ({few(list(names))})" for r, names in reasons.items())
    return f"none of the {count} {split} scenes can be used: {found or 'the sampler chose none'}"


def _check_known(key: str, keys: Sequence[str], split: Split) -> None:
    if key not in keys:
        near = get_close_matches(key, keys, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f", which start with {list(keys[:3])}"
        raise ValueError(f"there is no scene {key!r} among the {len(keys)} {split} scenes{hint}")
