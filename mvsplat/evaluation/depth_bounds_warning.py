"""Says when depth bounds do not fit: many predicted depths pile up at one of them."""

import logging
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from mvsplat.data.bounds import share_at_bounds
from mvsplat.types import Batch, Gaussians, Views

# The sky and distant hills are at the far bound by right.
_TOO_MANY = {"near": 0.25, "far": 0.5}
_ADVICE = {
    "near": "there is probably something nearer than near; set near of the data lower",
    "far": "there is probably much beyond far; set far of the data higher",
}
_SHOWN = 3

_log = logging.getLogger("mvsplat.data")


class DepthBoundsWarning(Callback):
    """Warns after testing or prediction of scenes whose estimated depths pile up at a bound.

    That is: over a quarter of the context views' pixels within 2 % of the disparity range from
    near, or over half of them from far.
    """

    def __init__(self) -> None:
        self._piled: dict[str, list[str]] = {}
        self._scenes = 0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._piled, self._scenes = {}, 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_test_start(trainer, pl_module)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._look(outputs["gaussians"], batch)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if isinstance(outputs, Gaussians):
            self._look(outputs, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for bound, scenes in self._piled.items():
            names = ", ".join(scenes[:_SHOWN]) + (", ..." if len(scenes) > _SHOWN else "")
            _log.warning(
                "in %d of %d scenes (%s) over %d %% of estimated depths lie at the %s bound: %s",
                *(len(scenes), self._scenes, names, 100 * _TOO_MANY[bound], bound, _ADVICE[bound]),
            )

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_test_end(trainer, pl_module)

    def _look(self, gaussians: Gaussians, batch: Batch) -> None:
        if gaussians.estimate is None:
            return
        for number, scene in enumerate(batch.scene):
            self._scenes += 1
            shares = _shares(gaussians, batch.context, number)
            for bound, share in shares.items():
                if share > _TOO_MANY[bound]:
                    self._piled.setdefault(bound, []).append(scene)


def _shares(gaussians: Gaussians, views: Views, scene: int) -> dict[str, float]:
    assert gaussians.estimate is not None
    near, far = (bound[scene, :, None, None] for bound in (views.near, views.far))
    at_near, at_far = share_at_bounds(gaussians.estimate.depth[scene], near, far)
    return {"near": at_near, "far": at_far}
