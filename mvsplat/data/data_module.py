"""The data module: scenes in, every stage's batches out."""

import logging
from collections import Counter
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import Dataset, IterableDataset

from mvsplat.data.evaluation_index import view_sampler  # noqa: F401  (a YAML file can name it)
from mvsplat.data.generated import varied_scenes  # noqa: F401  (a YAML file can name its class)
from mvsplat.data.loading import spread_views  # noqa: F401  (a YAML file can name its class)
from mvsplat.data.loading.augmentation import Augmentation
from mvsplat.data.loading.examples import Examples, ExampleSettings, SceneExamples
from mvsplat.data.loading.loaders import (
    BatchLoader,
    ExampleBatches,
    LoaderSettings,
)
from mvsplat.data.loading.mixture import MixedExamples, MixedSource, Mixture
from mvsplat.data.loading.shapes import StepShapes
from mvsplat.data.loading.skips import SkippedScene, SkipReport
from mvsplat.data.loading.stream_position import StreamPosition
from mvsplat.data.loading.streams import (
    BatchPlan,
    EndlessPlan,
    ExactlyOncePlan,
    FixedPlan,
    InOrder,
    RankShare,
    SampleOrder,
    ShuffledOrder,
    combined_seed,
)
from mvsplat.data.loading.user_datasets import IterableBatches, MapExamples
from mvsplat.data.loading.view_samplers import BoundedViewSampler, MiddleViewSampler, ViewSampler
from mvsplat.data.readers import opening  # noqa: F401  (a YAML file can name its classes)
from mvsplat.data.scene import SceneSource
from mvsplat.data.storage.cache import FileCache

Stage = Literal["train", "val", "test", "predict"]
_STAGES: tuple[Stage, ...] = ("train", "val", "test", "predict")
# What Lightning calls what it runs, and the stages' data it needs for that.
_STAGES_OF = {"fit": ("train", "val"), "validate": ("val",)}

_log = logging.getLogger("mvsplat.data")


class SceneDataModule(LightningDataModule):
    """Batches of context and target views from posed photographs.

    Training is an endless, shuffled stream, in which the views, flips and order of the samples
    depend on the seed and the sample's position alone: not on workers, and after a resume the
    stream goes on where it was. Ranks take different samples. Validation is a fixed number of test
    scenes; test and prediction take every test scene once. Scenes that cannot be used, because they
    are damaged, say, are counted by reason, named on the console and kept in ``skipped``: training
    takes other ones instead, the other stages leave them out (see :meth:`left_out`).

    Args:
        source: Where the scenes come from; null generates some.
        mixture: Several data sets in place of source, by names of yours. Each optimizer step draws
            one of them, each validation sample, too; test and prediction take all scenes of all,
            whose names then begin with the data set's.
        image_shape: Height and width of the views; frames are resized to cover it and cropped.
        near: Nearest depth to consider; auto takes each scene's own or, where it has none,
            estimates it: from the scene's sparse points, else from its pictures, and if these do
            not match, from its cameras alone.
        far: Farthest depth to consider; auto as for near.
        train_views: Chooses views for training; null: BoundedViewSampler with the published gap.
        val_views: Chooses views for validation; null: MiddleViewSampler.
        test_views: Chooses views for testing; null: MiddleViewSampler.
        predict_views: Chooses views for prediction; null: MiddleViewSampler.
        flip_probability: How often a training sample is mirrored left and right.
        train_shapes: Shapes to train on in place of image_shape, one drawn every optimizer step:
            from a height and width (64x96) to how often it is drawn, relative to the others.
        augmentation: How training samples are changed besides: other crops, bounds that are off,
            context views that differ as photographs do; null changes nothing.
        frame_shape: Skip scenes whose frames have another height and width; null takes all.
        max_field_of_view: Skip scenes with a wider field of view, in degrees; null takes all.
        min_baseline: Skip samples whose context cameras are all closer together than this.
        max_baseline: Skip samples with context cameras farther apart than this.
        overfit: Train and validate on this one training scene.
        val_scenes: Scenes a validation, over all devices (fewer if there are not as many).
        val_same_scenes: Validate on the same scenes every time, instead of on others each time.
        shuffle_groups: Chunks whose scenes are shuffled with one another; keep it at or below
            the source's open_chunks.
        seed: Another seed is another order, other views and other flips.
        cache: Where chunks from object storage are kept on this machine, and up to what size.
        train_loader: How training batches are loaded.
        val_loader: How validation batches are loaded.
        test_loader: How test batches are loaded.
        predict_loader: How prediction batches are loaded.
        train_dataset: Your own torch Dataset of one-scene mvsplat.types.Batch items, map-style or
            iterable, in place of the source; it is shuffled, repeated and split over devices here.
        val_dataset: The same for validation; its first val_scenes samples (of a map-style one, a
            fixed random choice).
        test_dataset: The same for testing; every sample once.
        predict_dataset: The same for prediction; every sample once.
    """

    def __init__(
        self,
        source: SceneSource | None = None,
        image_shape: tuple[int, int] = (256, 256),
        near: float | Literal["auto"] = "auto",
        far: float | Literal["auto"] = "auto",
        train_views: ViewSampler | None = None,
        val_views: ViewSampler | None = None,
        test_views: ViewSampler | None = None,
        predict_views: ViewSampler | None = None,
        flip_probability: float = 0.5,
        train_shapes: dict[str, float] | None = None,
        augmentation: Augmentation | None = None,
        frame_shape: tuple[int, int] | None = None,
        max_field_of_view: float | None = 100.0,
        min_baseline: float | None = None,
        max_baseline: float | None = None,
        overfit: str | None = None,
        val_scenes: int = 64,
        val_same_scenes: bool = True,
        shuffle_groups: int = 8,
        seed: int = 0,
        train_loader: LoaderSettings = LoaderSettings(batch_size=14, num_workers=4),
        val_loader: LoaderSettings = LoaderSettings(num_workers=1),
        test_loader: LoaderSettings = LoaderSettings(num_workers=2),
        predict_loader: LoaderSettings = LoaderSettings(num_workers=2),
        train_dataset: Dataset | None = None,
        val_dataset: Dataset | None = None,
        test_dataset: Dataset | None = None,
        predict_dataset: Dataset | None = None,
        mixture: dict[str, MixedSource] | None = None,
        cache: FileCache = FileCache(),
    ) -> None:
        super().__init__()
        if not 0 <= flip_probability <= 1:
            raise ValueError(f"flip_probability is {flip_probability}; expected 0 to 1")
        for name, value in (("val_scenes", val_scenes), ("shuffle_groups", shuffle_groups)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must not be negative")
        if overfit is not None and mixture is not None:
            raise ValueError("overfit is for one source; set mixture to null and give that source")
        self.source = source if source is not None or mixture else _generated_scenes()
        self.mixture = None if mixture is None else Mixture(mixture, combined_seed(seed, 4))
        for each in self._sources():
            each.cache = cache
        self.settings = ExampleSettings(
            image_shape=(image_shape[0], image_shape[1]),
            near=near,
            far=far,
            frame_shape=None if frame_shape is None else (frame_shape[0], frame_shape[1]),
            max_field_of_view=max_field_of_view,
            min_baseline=min_baseline,
            max_baseline=max_baseline,
        )
        self.views: dict[Stage, ViewSampler] = {
            "train": train_views or BoundedViewSampler(),
            "val": val_views or MiddleViewSampler(),
            "test": test_views or MiddleViewSampler(),
            "predict": predict_views or MiddleViewSampler(),
        }
        self.loaders = dict(
            zip(_STAGES, (train_loader, val_loader, test_loader, predict_loader), strict=True)
        )
        self.datasets = dict(
            zip(_STAGES, (train_dataset, val_dataset, test_dataset, predict_dataset), strict=True)
        )
        self.flip_probability = flip_probability
        self.train_shapes = StepShapes(train_shapes) if train_shapes else None
        self.augmentation = augmentation
        self.overfit = overfit
        self.val_scenes = val_scenes
        self.val_same_scenes = val_same_scenes
        self.shuffle_groups = shuffle_groups
        self.seed = seed
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self._loaders_in_use: dict[Stage, BatchLoader] = {}
        self._stream = StreamPosition(train_loader.batch_size)

    @property
    def skipped(self) -> dict[Stage, Counter[str]]:
        """How many scenes this process has skipped in each stage, by reason."""
        return {stage: loader.report.counts for stage, loader in self._loaders_in_use.items()}

    def left_out(self, stage: Stage) -> list[SkippedScene]:
        """The scenes that this process was to use in a stage and could not, so far: which and why.

        Scenes that an evaluation index does not have, or has as null, are not among them.
        """
        loader = self._loaders_in_use.get(stage)
        return [] if loader is None else list(loader.report.skipped.values())

    def view_notes(self, stage: Stage, name: str) -> dict[str, float | str]:
        """What the stage's view sampler knows of a sample; see :meth:`ViewSampler.notes`."""
        own = None if self.mixture is None else self.mixture.find(name)
        if own is None:
            return self.views[stage].notes(name)
        part, name = own
        return (part.views(stage) or self.views[stage]).notes(name)

    def training_samples(self) -> int | None:
        """How many samples training draws from, usually scenes; None where nobody knows."""
        examples = self._examples("train")
        return len(examples) if isinstance(examples, Examples) else None

    def prepare_data(self) -> None:
        for source in self._sources() if self._stages_from_source() else ():
            source.prepare()

    def setup(self, stage: str) -> None:
        for name in self._stages_from_source():
            for source in self._sources():
                source.keys(self._split(name))  # raises early where the data is missing

    def train_dataloader(self) -> BatchLoader:
        if getattr(self.trainer, "overfit_batches", 0):
            raise ValueError("overfit_batches does not work with this data; set overfit to a scene")
        return self._loader("train")

    def val_dataloader(self) -> BatchLoader:
        return self._loader("val")

    def test_dataloader(self) -> BatchLoader:
        return self._loader("test")

    def predict_dataloader(self) -> BatchLoader:
        return self._loader("predict")

    def teardown(self, stage: str) -> None:
        for name, loader in self._loaders_in_use.items():
            loader.close()
            loader.report.summarize()
            if stage != "fit" and (count := len({skip.name for skip in self.left_out(name)})):
                _log.warning("INCOMPLETE: %s left out %d of its scenes", loader.report.stage, count)

    def on_exception(self, exception: BaseException) -> None:
        for loader in self._loaders_in_use.values():
            loader.close()

    def state_dict(self) -> dict[str, Any]:
        """Where the training stream is, by the batches that whole optimizer steps have used.

        Batches that were only loaded ahead do not count, nor those of a step that is not complete:
        their gradients are in no checkpoint.
        """
        state = {"position": self._stream.after_whole_steps(self.trainer), "seed": self.seed}
        if self.mixture is not None:
            world = self.trainer.world_size if self.trainer is not None else 1
            batch = self.loaders["train"].batch_size * world
            state |= self.mixture.state(self._step(), batch * self._accumulate())
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._stream.resume_at(state_dict["position"])
        if self.mixture is not None:
            self.mixture.resume(state_dict)
        if state_dict["seed"] != self.seed:
            _log.warning(
                "the checkpoint was trained with data seed %s, this run goes on with seed %s: "
                "the order of the scenes changes",
                state_dict["seed"],
                self.seed,
            )

    def _loader(self, stage: Stage) -> BatchLoader:
        self._loaders_in_use[stage] = loader = self._make_loader(stage)
        return loader

    def _make_loader(self, stage: Stage) -> BatchLoader:
        settings, fitting = self.loaders[stage], stage in _STAGES_OF["fit"]
        rank, world = (
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        )
        share = RankShare(settings.batch_size, rank, world)
        report = SkipReport(stage if world == 1 else f"{stage} (rank {rank} of {world})")
        replace = stage == "train" or stage == "val" and not self._only_validates()
        seed = combined_seed(self.seed, _STAGES.index(stage))
        examples = self._examples(stage)
        if not isinstance(examples, Examples):
            repeated = IterableBatches(examples, seed, shuffle=stage == "train", repeat=fitting)
            return BatchLoader(self._plan(stage, share, None), repeated, settings, report)
        if isinstance(examples, (SceneExamples, MixedExamples)):
            report.add_choice(examples.choice, is_first_process=rank == 0)
        order = self._shuffled(examples, seed) if fitting else InOrder(len(examples))
        batches = ExampleBatches(examples, order, seed, replace_skipped=replace)
        plan = self._plan(stage, share, len(examples))
        return BatchLoader(plan, batches, settings, report, require_some=world == 1)

    def _shuffled(self, examples: Examples, seed: int) -> SampleOrder:
        if isinstance(examples, MixedExamples):
            return examples.shuffled(self.shuffle_groups, seed)
        return ShuffledOrder(examples.groups(), self.shuffle_groups, seed)

    def _plan(self, stage: Stage, share: RankShare, size: int | None) -> BatchPlan:
        """Which batches of the stage this process takes; ``size`` is the number of samples."""
        mixture = self.mixture if self.datasets[stage] is None else None
        if stage == "train":
            plan = EndlessPlan(share, self._accumulate(), lambda: self._stream.start(self.trainer))
            return plan if mixture is None else mixture.train_plan(plan)
        if stage == "val":
            count = self.val_scenes if size is None else min(self.val_scenes, size)
            fixed = FixedPlan(
                share, count, lambda: 0 if self.val_same_scenes else self._step() * count
            )
            return fixed if mixture is None else mixture.val_plan(fixed)
        return ExactlyOncePlan(share, size)

    def _examples(self, stage: Stage) -> Examples | Dataset:
        """The stage's samples; those of a user's iterable dataset as they are."""
        dataset = self.datasets[stage]
        if dataset is not None:
            return dataset if isinstance(dataset, IterableDataset) else MapExamples(dataset)
        if self.mixture is None:
            assert self.source is not None
            return self._scene_examples(stage, self.source, self.settings)
        return MixedExamples(
            {
                name: self._scene_examples(stage, part.source, part.settings(self.settings), part)
                for name, part in self.mixture.parts.items()
            }
        )

    def _scene_examples(
        self,
        stage: Stage,
        source: SceneSource,
        settings: ExampleSettings,
        part: MixedSource | None = None,
    ) -> SceneExamples:
        fitting, training = stage in _STAGES_OF["fit"], stage == "train"
        one_shape = part is not None and part.image_shape is not None
        return SceneExamples(
            source,
            self._split(stage),
            (part and part.views(stage)) or self.views[stage],
            settings,
            flip_probability=self.flip_probability if training else 0.0,
            shapes=self.train_shapes if training and not one_shape else None,
            augmentation=self.augmentation if training else None,
            only=self.overfit if fitting else None,
            seed=combined_seed(self.seed, _STAGES.index(stage)),
        )

    def _sources(self) -> list[SceneSource]:
        if self.mixture is not None:
            return [part.source for part in self.mixture.parts.values()]
        assert self.source is not None
        return [self.source]

    def _only_validates(self) -> bool:
        """Whether it is not training that validates: there, all need the same number of batches."""
        return self.trainer is not None and self.trainer.state.fn == TrainerFn.VALIDATING

    def _split(self, stage: Stage) -> Literal["train", "test"]:
        overfitting = self.overfit is not None and stage == "val"
        return "train" if stage == "train" or overfitting else "test"

    def _stages_from_source(self) -> list[Stage]:
        """The stages that are about to run and take their scenes from the source."""
        function = self.trainer.state.fn if self.trainer is not None else None
        needed = _STAGES if function is None else _STAGES_OF.get(function.value, (function.value,))
        return [stage for stage in _STAGES if stage in needed and self.datasets[stage] is None]

    def _accumulate(self) -> int:
        return self.trainer.accumulate_grad_batches if self.trainer is not None else 1

    def _step(self) -> int:
        return self.trainer.global_step if self.trainer is not None else 0


def _generated_scenes() -> SceneSource:
    from mvsplat.data.generated.generated_scenes import GeneratedScenes

    return GeneratedScenes()
