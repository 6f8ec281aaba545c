"""What a training will take, said before it begins: ``fit --plan``."""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from mvsplat.data.data_module import SceneDataModule
from mvsplat.progress import duration, log_line
from mvsplat.training.memory import StepMemory
from mvsplat.types import Batch, Views

# Steps of one scene (which makes the optimizer's state), of one and of two for the memory, one of
# whole batches that makes what is made once, and those that are timed.
SCENES_BY_STEP = (1, 1, 2)
WARM_UP = len(SCENES_BY_STEP) + 1
TIMED = 10
STEPS = WARM_UP + TIMED
GIGA = 1e9


class PlannedData(LightningDataModule):
    """A data module's training batches, after a few of one scene and of two.

    Args:
        data: The data module; ``train_dataloader`` yields batches.
        batches: How many of a step's batches there are before the next step.
        shape: Height and width of the few scenes, the largest that training has; None: as they are.
    """

    def __init__(self, data: SceneDataModule, batches: int, shape: tuple[int, int] | None) -> None:
        super().__init__()
        self.data = data
        self.batches = batches
        self.shape = shape

    def prepare_data(self) -> None:
        self.data.trainer = self.trainer
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        self.data.trainer = self.trainer
        self.data.setup(stage)

    def train_dataloader(self) -> "PlannedBatches":
        return PlannedBatches(self.data.train_dataloader(), self.batches, self.shape)

    def teardown(self, stage: str) -> None:
        self.data.teardown(stage)

    def on_exception(self, exception: BaseException) -> None:
        self.data.on_exception(exception)


class PlannedBatches:
    """The batches of :class:`PlannedData`."""

    def __init__(
        self, loader: Iterable[Batch], batches: int, shape: tuple[int, int] | None
    ) -> None:
        self.loader, self.batches, self.shape = loader, batches, shape

    def __iter__(self) -> Iterator[Batch]:
        loaded = iter(self.loader)
        first = next(loaded)
        height, width = self.shape or first.context.image.shape[-2:]
        for count in SCENES_BY_STEP:
            for _ in range(self.batches):
                yield first_scene(first, count, (height, width))
        yield from loaded


def first_scene(batch: Batch, count: int, shape: tuple[int, int]) -> Batch:
    """The first scene of a batch, so many times, with pictures of this height and width."""

    def repeated(views: Views) -> Views:
        tensors = {field.name: getattr(views, field.name) for field in fields(views)}
        each = {
            name: tensor[:1].repeat(count, *[1] * (tensor.ndim - 1))
            for name, tensor in tensors.items()
            if tensor is not None
        }
        each["image"] = F.interpolate(each["image"].flatten(0, 1), shape).unflatten(0, (count, -1))
        if "depth" in each:
            each["depth"] = F.interpolate(each["depth"], shape)
        return Views(**each)

    return Batch(repeated(batch.context), repeated(batch.target), [batch.scene[0]] * count)


class Plan(Callback):
    """Says what a training will take, after the steps of :class:`PlannedData`.

    Args:
        planned: The data.
        batch_size: Scenes a batch, in each process.
        steps: Optimizer steps of the training; -1 for no end.
        done: Those that a checkpoint to go on from has done.
    """

    def __init__(self, planned: PlannedData, batch_size: int, steps: int, done: int = 0) -> None:
        self.planned = planned
        self.batch_size = batch_size
        self.steps = steps
        self.done = done
        self._memory: StepMemory | None = None
        self._peaks: dict[int, int] = {}
        self._waited = self._begun = self._previous_end = 0.0
        self._seconds: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._memory = StepMemory(trainer.strategy.root_device)
        self._say(trainer, _parameters(pl_module))
        self._say(trainer, self._lengths(trainer))

    def _lengths(self, trainer: Trainer) -> str:
        """How many scenes, steps and epochs there are."""
        samples = self.planned.data.training_samples()
        accumulate, processes = trainer.accumulate_grad_batches, trainer.world_size
        a_step = self.batch_size * accumulate * processes
        text = f"scenes: {'not known' if samples is None else samples}; a step takes {a_step}"
        if accumulate * processes > 1:
            text += f" ({self.batch_size} a batch, {accumulate} batches, {processes} processes)"
        steps = "no end of steps" if self.steps < 0 else f"{self.steps} steps"
        if samples is None:
            return f"{text}; {steps}"
        text += f": an epoch is {samples / a_step:.4g} steps; {steps}"
        return text if self.steps < 0 else f"{text} are {self.steps * a_step / samples:.4g} epochs"

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert self._memory is not None
        self._begun = perf_counter()
        if 0 < trainer.global_step < len(SCENES_BY_STEP) and self._memory.is_known:
            self._memory.start(_held(trainer, pl_module, batch))

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert self._memory is not None
        _synchronize(trainer.strategy.root_device)
        end = perf_counter()
        step, batch_of_step = divmod(batch_idx, trainer.accumulate_grad_batches)
        if 0 < step < len(SCENES_BY_STEP) and self._memory.is_known:
            scenes, peak = SCENES_BY_STEP[step], self._memory.stop()
            self._peaks[scenes] = max(peak, self._peaks.get(scenes, 0))
            last = step + 1 == len(SCENES_BY_STEP)
            if last and batch_of_step + 1 == trainer.accumulate_grad_batches:
                height, width = batch.context.image.shape[-2:]
                self._say(trainer, f"{self._memory_of_step()}, scenes of {height}x{width}")
        if step >= WARM_UP:
            self._seconds.append(end - self._previous_end)
            self._waited += self._begun - self._previous_end
        self._previous_end = perf_counter()

    def _memory_of_step(self) -> str:
        """The line through what steps of one scene and of two took."""
        a_scene = max(0, self._peaks[2] - self._peaks[1])
        fixed = self._peaks[1] - a_scene
        whole = (fixed + self.batch_size * a_scene) / GIGA
        return (
            f"memory of a step: {fixed / GIGA:.3g} GB and {a_scene / GIGA:.3g} GB a scene, "
            f"{whole:.3g} GB with {self.batch_size} in each process"
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._seconds:
            return
        seconds = sum(self._seconds)
        step = seconds / len(self._seconds) * trainer.accumulate_grad_batches
        speed = self.batch_size * len(self._seconds) * trainer.world_size / seconds
        self._say(
            trainer,
            f"{TIMED} steps: {step:.3g} s each, {self._waited / seconds:.0%} of it waiting for "
            f"data; {speed:.3g} scenes/s",
        )
        left = self.steps - self.done
        if self.steps > 0:
            after = f" after the {self.done} that are done" if self.done else ""
            self._say(
                trainer,
                f"expected: {duration(max(0, left) * step)} for {max(0, left)} steps{after}, "
                "and the validations",
            )

    @staticmethod
    def _say(trainer: Trainer, text: str) -> None:
        if trainer.is_global_zero:
            log_line(text)


def _parameters(model: LightningModule) -> str:
    """How many numbers are trained, and how many are not."""
    losses: Any = getattr(model, "losses", {})
    of_losses = [p for loss in losses.values() for n in loss.networks() for p in n.parameters()]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = [p for p in [*model.parameters(), *of_losses] if not p.requires_grad]
    return f"parameters: {trained:,} trained, {sum(p.numel() for p in frozen):,} frozen"


def _held(trainer: Trainer, model: LightningModule, batch: Batch) -> Iterator[Tensor]:
    """The tensors that there are between two batches."""
    losses: Any = getattr(model, "losses", {})
    for module in (model, *(network for loss in losses.values() for network in loss.networks())):
        for parameter in module.parameters():
            yield parameter
            if parameter.grad is not None:
                yield parameter.grad
        yield from module.buffers()
    for optimizer in trainer.optimizers:
        for state in optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))
    for views in (batch.context, batch.target):
        values = (getattr(views, field.name) for field in fields(views))
        yield from (value for value in values if value is not None)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
