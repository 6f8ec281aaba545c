"""Optimizer steps that would spoil the weights are skipped, counted and reported."""

import logging
from typing import Any

import torch
import torch.distributed
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

from mvsplat.private_names import norms
from mvsplat.types import Batch

_log = logging.getLogger("mvsplat.training")
_SHOWN_SCENES = 20


class FiniteSteps(Callback):
    """Skips optimizer steps whose loss or gradient is not finite, and ends a run of such steps.

    A skipped step leaves weights and optimizer as they were; step count, schedule and data go on.
    Skipped steps are reported with the scenes in them and counted in ``train/skipped_steps``;
    checkpoints keep the count, without a step that was not completed and will be tried again.
    With several processes all of them skip the same steps. In 16-bit
    floating point (``16-mixed``) gradients that overflow are the loss scaling's business, until the
    scale is down to 1.

    Args:
        stop_after: Skipped steps in a row that end the run; the last checkpoint then has the
            weights from before them. 0: it never ends.
    """

    def __init__(self, stop_after: int = 20):
        if stop_after < 0:
            raise ValueError(f"stop_after is {stop_after}; expected a number of steps, or 0")
        self.stop_after = stop_after
        self.total = 0
        self.in_a_row = 0
        self._counted_at = -1
        self._before = self.state_dict()
        self._losses: list[Tensor] = []
        self._scenes: list[list[str]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.total, self.in_a_row = state_dict["total"], state_dict["in_a_row"]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.global_step == self._counted_at:  # that step is not complete
            checkpoint["callbacks"][self.state_key] = self._before

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._counted_at = -1
        self._forget()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._scenes.append(list(batch.scene) if isinstance(batch, Batch) else [])

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        # Read together: one wait for an accelerator.
        good_losses = [loss.isfinite().all() for loss in self._losses]
        good_gradient = _are_finite(gradients, good_losses[0].device)
        *losses, gradient = torch.stack([*good_losses, good_gradient]).tolist()
        good = all(losses) and (gradient or _is_overflow(trainer))
        good = trainer.strategy.reduce_boolean_decision(good)
        self._counted_at, self._before = trainer.global_step, self.state_dict()
        if good:
            self.in_a_row = 0
        else:
            optimizer.zero_grad(set_to_none=True)  # without gradients a step does nothing
            self.total += 1
            self.in_a_row += 1
            self._report(trainer, losses)
        # A number would be copied to the accelerator, for which the host waits.
        pl_module.log("train/skipped_steps", torch.tensor(float(self.total)))
        self._forget()

    def _report(self, trainer: Trainer, losses: list[bool]) -> None:
        """Say which step is skipped and why, and end the run if it is one too many in a row."""
        loss_is_bad = not all(losses)
        scenes = [
            scene
            for finite, of_batch in zip(losses, self._scenes, strict=True)
            for scene in of_batch
            if not (finite and loss_is_bad)
        ]
        found = _of_all_processes(trainer, (loss_is_bad, scenes))
        what = "loss" if any(bad for bad, _ in found) else "gradient"
        # Where losses are bad somewhere, the scenes of the other processes are not to blame.
        names = [scene for bad, of_one in found if bad or what == "gradient" for scene in of_one]
        more = f" and {len(names) - _SHOWN_SCENES} more" if len(names) > _SHOWN_SCENES else ""
        text = (
            f"step {trainer.global_step} is skipped: its {what} is not finite; scenes: "
            f"{', '.join(names[:_SHOWN_SCENES])}{more}"
        )
        if trainer.is_global_zero:
            _log.warning("%s (%d skipped, %d in a row)", text, self.total, self.in_a_row)
        if self.stop_after and self.in_a_row >= self.stop_after:
            raise RuntimeError(
                f"{self.in_a_row} steps in a row are not finite; {text}. The last checkpoint has "
                "the weights from before them: go on with a lower learning rate "
                "(--model.optimizer.lr), from an earlier one if need be, or allow more such steps "
                "(--finite_steps.stop_after)"
            )

    def _forget(self) -> None:
        self._losses, self._scenes = [], []


def _are_finite(gradients: list[Tensor], device: torch.device) -> Tensor:
    if not gradients:
        return torch.ones((), dtype=torch.bool, device=device)
    return torch.stack([norm.float() for norm in norms(gradients)]).isfinite().all()


def _is_overflow(trainer: Trainer) -> bool:
    """Whether the loss scaling of 16-bit training may be to blame, and will skip the step."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler is not None and scaler.get_scale() > 1


def _of_all_processes(trainer: Trainer, value: Any) -> list[Any]:
    if trainer.world_size == 1:
        return [value]
    values: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(values, value)
    return values
