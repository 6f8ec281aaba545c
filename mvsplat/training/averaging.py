"""A moving average of the weights, which is evaluated and kept in their place."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mvsplat.training.resuming import AVERAGED, TRAINED


# Lightning's EMAWeightAveraging would do for an undisturbed run, not for the rest (as read in
# lightning 2.6.6):
# * It swaps weights and averages while it validates: what is saved then, because the run is told to
#   stop or fails, has each in the other's place.
# * It puts the averages into the model before the end of a run is saved, which then cannot go on.
# * Where another callback fails in a step's last hook, the average goes on without that step.
# * Without it, a run goes on from averages with the optimizer's state of what they are averages of.
class WeightAveraging(Callback):
    """Keeps an exponential moving average of the weights, and uses it for all but training itself.

    Validations, the best checkpoint, and what is made of checkpoints later (test, predict,
    ``load_model``, ``push``, weights to start from) take the averaged weights. A resumed run goes
    on from the trained ones, which checkpoints have as well.

    Update n = 0, 1, ... moves each average by 1 - min(decay, (1 + n) / (10 + n)) of the way to the
    weights: at first fast, so that they soon forget what training began with.

    Args:
        decay: What each optimizer step leaves of the average: 0.999 averages over about the latest
            1,000 steps; null switches it off.
    """

    def __init__(self, decay: float | None = None):
        if decay is not None and not 0 < decay < 1:
            raise ValueError(f"decay is {decay}; expected a number between 0 and 1, or null")
        self.decay = decay
        self._updates = 0
        self._step = 0
        self._averages: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] = {}  # while the model has the averages

    def state_dict(self) -> dict[str, Any]:
        return {} if self.decay is None else {"updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._updates = state_dict["updates"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        whole = isinstance(trainer.strategy, (DDPStrategy, SingleDeviceStrategy))
        if self.decay is not None and stage == "fit" and not whole:
            raise ValueError(
                "averaging.decay needs all weights in every process, which "
                f"{type(trainer.strategy).__name__} does not have: use ddp, or null"
            )

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._averages = {name: t.clone() for name, t in checkpoint.get(AVERAGED, {}).items()}
        if self._averages and self.decay is None:
            rank_zero_info("The run goes on without averages of the weights (averaging.decay).")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.decay is None:
            return
        self._put_back(pl_module)
        self._step = trainer.global_step
        if not self._averages:
            self._updates = 0
        for name, weights in _trainable(pl_module).items():
            # In 16 bits, an average would stop where its steps are too small.
            dtype = torch.promote_types(weights.dtype, torch.float32)
            average = self._averages.get(name)
            average = weights.clone() if average is None else average
            self._averages[name] = average.to(weights.device, dtype)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._update(trainer, pl_module)

    def _update(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take in the latest optimizer step, once."""
        if self.decay is None or trainer.global_step == self._step:
            return
        weights = _trainable(pl_module)
        averages = [self._averages[name] for name in weights]
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        same_type = [w.to(a.dtype) for w, a in zip(weights.values(), averages, strict=True)]
        get_ema_multi_avg_fn(decay)(averages, same_type, self._updates)
        self._updates += 1
        self._step = trainer.global_step

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.decay is None or not self._averages:
            return
        if not self._trained:
            self._update(trainer, pl_module)  # where another callback has failed before it could be
        checkpoint["callbacks"][self.state_key] = self.state_dict()
        weights = checkpoint["state_dict"]
        checkpoint[TRAINED] = {n: self._trained.get(n, weights[n]) for n in self._averages}
        averaged = {n: average.to(weights[n].dtype) for n, average in self._averages.items()}
        checkpoint["state_dict"] = weights | averaged

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._put_in(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._put_back(pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model of a finished training is the averaged one, from Python, too."""
        self._put_in(pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._put_back(pl_module)

    def _put_in(self, pl_module: LightningModule) -> None:
        """Let the model have the averages, if there are any yet."""
        if self.decay is None or not self._averages:
            return
        weights = _trainable(pl_module)
        self._trained = {name: tensor.clone() for name, tensor in weights.items()}
        for name, tensor in weights.items():
            tensor.copy_(self._averages[name])

    def _put_back(self, pl_module: LightningModule) -> None:
        """Let the model have the trained weights again."""
        for name, tensor in _trainable(pl_module).items() if self._trained else ():
            tensor.copy_(self._trained[name])
        self._trained = {}


def _trainable(pl_module: LightningModule) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in pl_module.named_parameters() if p.requires_grad}
