"""The gradient's norm and the wait for data, on a model whose numbers can be worked out."""

import statistics
import time

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, Dataset
from toy_model import ToyModel, make_batch

from mvsplat.training.monitor import TrainingMonitor


class Slow(Dataset):
    """Takes its time for every batch."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        time.sleep(0.05)
        return make_batch(index)


class Steep(ToyModel):
    """A loss whose gradient is (3, 4, 4, ...) at every step."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(3))

    def training_step(self, batch, batch_idx):
        return 3 * self.encoder.brightness + 4 * self.weights.sum()


def logged(tmp_path) -> dict[str, list[float]]:
    import csv

    found: dict[str, list[float]] = {}
    for row in csv.DictReader((tmp_path / "logs" / "metrics.csv").open()):
        for name, value in row.items():
            if value and name.startswith("train/"):
                found.setdefault(name, []).append(float(value))
    return found


def fit(make_trainer, tmp_path, *callbacks, **settings):
    logger = CSVLogger(tmp_path, name="logs", version="")
    trainer = make_trainer(
        *callbacks,
        logger=logger,
        max_epochs=1,
        log_every_n_steps=1,
        limit_val_batches=0,
        **settings,
    )
    trainer.fit(Steep(), DataLoader(Slow(), batch_size=None))


def test_the_norm_is_of_all_gradients_before_clipping(make_trainer, tmp_path):
    fit(make_trainer, tmp_path, TrainingMonitor(), gradient_clip_val=1e-3)
    expected = (9 + 3 * 16) ** 0.5
    assert logged(tmp_path)["train/gradient_norm"] == pytest.approx([expected] * 6)


def test_the_wait_for_data_is_what_loading_takes(make_trainer, tmp_path):
    fit(make_trainer, tmp_path, TrainingMonitor())
    found = logged(tmp_path)
    assert len(found["train/data_wait"]) == 5, "the start of a run is no waiting"
    assert 0.05 <= statistics.median(found["train/data_wait"]) < 0.5
    pairs = zip(found["train/data_wait"], found["train/batch_time"], strict=True)
    assert all(wait < whole for wait, whole in pairs)


def test_validation_and_saving_are_no_waiting(make_trainer, tmp_path):
    class SlowSaving(Callback):
        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            time.sleep(0.6)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 2:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    fit(make_trainer, tmp_path, TrainingMonitor(), SlowSaving())
    assert max(logged(tmp_path)["train/data_wait"]) < 0.5


def test_it_can_be_turned_off(make_trainer, tmp_path):
    fit(make_trainer, tmp_path, TrainingMonitor(gradient_norm=False, data_wait=False))
    assert not (tmp_path / "logs" / "metrics.csv").exists() or logged(tmp_path) == {}
