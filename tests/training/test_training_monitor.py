"""Speed, the wait for data and the gradient's norm, on models whose numbers can be worked out."""

import statistics
import time
import warnings
from unittest.mock import Mock

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from toy_model import SIZE, TARGET, ToyModel, make_batch, make_views

from mvsplat import CostVolumeEncoder, progress
from mvsplat.encoder.cpu.correlation import correlate_at_points, correlate_with_samples
from mvsplat.training import monitor
from mvsplat.training.flops import FlopCounter, peak_flops
from mvsplat.training.monitor import TrainingMonitor
from mvsplat.training.progress_lines import ProgressLines
from mvsplat.types import Batch


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


def fit(make_trainer, tmp_path, *callbacks, model=None, data=None, **settings):
    logger = CSVLogger(tmp_path, name="logs", version="")
    trainer = make_trainer(
        *callbacks,
        logger=logger,
        max_epochs=1,
        log_every_n_steps=1,
        limit_val_batches=0,
        **settings,
    )
    trainer.fit(model or Steep(), DataLoader(data or Slow(), batch_size=None))


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
            time.sleep(1.2)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 2:
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    fit(make_trainer, tmp_path, TrainingMonitor(), SlowSaving())
    assert max(logged(tmp_path)["train/data_wait"]) < 1.1


def test_it_can_be_turned_off(make_trainer, tmp_path):
    off = dict.fromkeys(("gradient_norm", "data_wait", "speed", "flops"), False)
    fit(make_trainer, tmp_path, TrainingMonitor(**off))
    assert not (tmp_path / "logs" / "metrics.csv").exists() or logged(tmp_path) == {}


class Product(ToyModel):
    """A product of a matrix of 8 x 16 weights with so many rows as there are target views."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(16, 8))

    def training_step(self, batch, batch_idx):
        rows = batch.target.image.flatten(2)[0, :, :8]
        if batch_idx == 4 and getattr(self, "fails", False):
            raise KeyError("a fault of a user's")
        return torch.nn.functional.linear(rows, self.weights).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class TwoShapes(Slow):
    """Every second batch has one target view, not three."""

    def __getitem__(self, index):
        batch = make_batch(index)
        return Batch(batch.context, make_views(index, 1 if index % 2 else TARGET), batch.scene)


def in_product(rows: int) -> int:
    """Forward, and backward for the weights."""
    return 2 * (2 * rows * 16 * 8)


def test_speeds_fit_the_time_that_batches_take(make_trainer, tmp_path):
    fit(make_trainer, tmp_path, TrainingMonitor(), accumulate_grad_batches=2)
    found = logged(tmp_path)
    batch_time = found["train/batch_time"]
    assert len(batch_time) == 3, "a line every step"
    for name, times_batch_time in (
        ("scenes_per_second", 1),
        ("target_pixels_per_second", TARGET * SIZE * SIZE),
    ):
        products = [a * b for a, b in zip(found[f"train/{name}"], batch_time, strict=True)]
        assert products == pytest.approx([times_batch_time] * 3, rel=1e-3), name
    assert found["train/step_time"] == pytest.approx([2 * x for x in batch_time], rel=1e-3)
    assert all(0.05 < gigabytes < 30 for gigabytes in found["train/peak_memory"])


def test_speeds_are_those_of_all_processes_and_time_left_of_this_run():
    """Four processes of a run that went on at step 10, 50 seconds ago."""
    figures = TrainingMonitor()
    figures._first_step, figures._start = 10, time.perf_counter() - 50
    figures._latest.append(monitor.TimedBatch(0.1, 2.0, scenes=3, pixels=300, flops=None))
    trainer = Mock(
        spec=Trainer, global_step=15, max_steps=25, world_size=4, accumulate_grad_batches=1,
        strategy=Mock(root_device=torch.device("cpu")),
    )  # fmt: skip
    speeds = figures._speeds(trainer)
    assert speeds["scenes_per_second"] == 6 and speeds["target_pixels_per_second"] == 600
    assert speeds["hours_left"] * 3600 == pytest.approx(100, abs=1)
    trainer.max_steps = -1
    assert figures._speeds(trainer)["hours_left"] is None


def test_operations_are_counted_for_every_shape(make_trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "peak_flops", lambda device, precision: 1e9)
    fit(make_trainer, tmp_path, TrainingMonitor(), model=Product(), data=TwoShapes())
    found = logged(tmp_path)
    seconds = zip(found["train/tflops_per_second"], found["train/batch_time"], strict=True)
    batches = [in_product(1 if index % 2 else TARGET) for index in range(1, 6)]
    # Means over the batches since the last line of the log, here one.
    assert [1e12 * a * b for a, b in seconds] == pytest.approx(batches, rel=1e-3)
    shares = [1e3 * a for a in found["train/tflops_per_second"]]
    assert found["train/peak_share"] == pytest.approx(shares, rel=1e-3)


def test_counting_ends_with_a_run_that_fails(make_trainer, tmp_path):
    model = Product()
    model.fails = True
    with pytest.raises(KeyError):
        fit(make_trainer, tmp_path, TrainingMonitor(), model=model, data=EachOther())
    assert _get_current_dispatch_mode() is None


class EachOther(Slow):
    """No batch is like another one."""

    def __getitem__(self, index):
        batch = make_batch(index)
        return Batch(batch.context, make_views(index, index + 1), batch.scene)


@pytest.mark.parametrize("correlate", [correlate_at_points, correlate_with_samples])
def test_operations_of_correlation_are_those_of_its_products(correlate):
    reference, other = torch.rand(1, 12, 8), torch.rand(1, 3, 4, 8)
    reference.requires_grad_()
    other.requires_grad_()
    grid = torch.rand(1, 12, 5, 2)
    counter = FlopCounter()
    counter.start()
    correlate(reference, other, grid).sum().backward()
    found = counter.stop()
    # The same in the open: with all pixels of the other map, or with five samples of each pixel.
    plain = FlopCounterMode(display=False)
    with plain:
        if correlate is correlate_at_points:
            maps = reference[0] @ other[0].flatten(0, 1).mT
        else:
            samples = other.flatten(1, 2).expand(12, 12, 8)[:, :5]
            maps = samples @ reference[0, :, :, None]
        maps.sum().backward()
    assert found == plain.get_total_flops() > 0
    assert counter.stop() is None


def test_peaks_of_devices_are_those_that_are_published(monkeypatch):
    cuda = torch.device("cuda", 0)
    names = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA A100-SXM4-80GB": 312e12, "Voodoo 2": None}
    for name, expected in names.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = peak_flops(cuda, "bf16-mixed")
        assert found == (None if expected is None else pytest.approx(expected, rel=0.01)), name
    assert peak_flops(cuda, "transformer-engine") is None
    assert peak_flops(torch.device("cpu"), "32-true") is None


def test_the_log_says_it_all(make_trainer, monkeypatch, capsys):
    monkeypatch.setattr(progress.Pace, "is_due", lambda self: True)
    monkeypatch.setattr(monitor, "peak_flops", lambda device, precision: 1e9)
    monkeypatch.setattr(monitor, "peak_memory", lambda device: 5.24e9)
    trainer = make_trainer(
        TrainingMonitor(), ProgressLines(), enable_progress_bar=True, max_steps=6, max_epochs=-1,
        limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(Product(), DataLoader(Slow(), batch_size=None))
    first, *others = [x for x in capsys.readouterr().out.splitlines() if x.startswith("step ")]
    assert "GB" not in first, "before a whole batch has passed"
    for line in others:
        parts = line.split(": ")[1].split(", ")
        assert parts[0].endswith(" steps/s") and parts[1].endswith(" scenes/s")
        assert parts[2].endswith("% waiting for data") and 50 <= int(parts[2].split("%")[0]) <= 100
        assert "TFLOP/s (" in parts[3] and parts[3].endswith("% of the peak)")
        assert parts[4] == "5.24 GB"
        assert parts[5:] == [] or parts[5].endswith(" left")
    assert len(others) == 5 and others[0].endswith(" left")


def test_counting_changes_no_number(tiny_config):
    """Or a run that was resumed, which counts anew, would not go on with the same bits."""
    sizes = yaml.safe_load(tiny_config.read_text())["model"]["encoder"]["init_args"]
    encoder, found, counter = CostVolumeEncoder(**sizes), [], FlopCounter()
    for counts in (False, True):
        if counts:
            counter.start()
        gaussians = encoder(make_views(0, 2))
        (gaussians.means.square().sum() + gaussians.opacities.sum()).backward()
        assert (counter.stop() is not None) == counts
        found.append([gaussians.means, *(p.grad for p in encoder.parameters())])
        encoder.zero_grad()
    for without, counted in zip(*found, strict=True):
        assert (without is None) == (counted is None)
        assert without is None or torch.equal(without, counted)
