"""The warning that depth bounds do not fit."""

import torch
from toy_model import ToyModel, make_loader

from mvsplat.evaluation.depth_bounds_warning import DepthBoundsWarning


class Depths(ToyModel):
    """Estimates one depth everywhere but in a share of the pixels; the bounds are 1 and 4."""

    def __init__(self, depth: float, share: float):
        super().__init__()
        self.depth, self.share = depth, share

    def _run(self, batch, batch_idx):
        outputs = super()._run(batch, batch_idx)
        depth = outputs["gaussians"].estimate.depth
        depth.fill_(2.0)
        depth.view(-1)[: int(self.share * depth.numel())] = self.depth
        return outputs

    test_step = _run

    def predict_step(self, batch, batch_idx):
        return self._run(batch, batch_idx)["gaussians"]


def run(make_trainer, caplog, depth, share, command="test"):
    caplog.clear()
    trainer = make_trainer(DepthBoundsWarning())
    with torch.no_grad():
        getattr(trainer, command)(Depths(depth, share), make_loader(range(2)))
    return [record.message for record in caplog.records if record.name == "mvsplat.data"]


def test_depths_at_a_bound_are_said_once(make_trainer, caplog):
    (near,) = run(make_trainer, caplog, 1.001, 0.3)
    assert near.startswith("in 2 of 2 scenes (scene/0, scene/1) over 25 % of estimated depths")
    assert "at the near bound" in near and "set near of the data lower" in near
    (far,) = run(make_trainer, caplog, 3.99, 0.6, "predict")
    assert "over 50 %" in far and "set far of the data higher" in far


def test_fitting_bounds_are_not_worth_a_word(make_trainer, caplog):
    assert run(make_trainer, caplog, 1.001, 0.2) == []
    assert run(make_trainer, caplog, 3.99, 0.4) == []
    assert run(make_trainer, caplog, 1.5, 1.0) == []
