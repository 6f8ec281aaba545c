"""How far a run is: plain lines in a log file, and a bar that counts the run's steps."""

import re

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader

from mvsplat import progress
from mvsplat.progress import tracker
from mvsplat.training.progress_bar import ProgressBar
from mvsplat.training.progress_lines import ProgressLines


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def work(self, seconds, count):
        for item in range(count):
            self.now += seconds
            yield item


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_pauses_grow_to_a_minute(clock):
    pace, times = progress.Pace(), []
    for _ in clock.work(1.0, 400):
        if pace.is_due():
            times.append(pace.elapsed)
    pauses = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert times[0] <= 10, "something is said soon"
    assert pauses == sorted(pauses) and pauses[-1] == 60
    assert 8 <= len(times) <= 12


def test_items_are_tracked_by_lines_in_a_log(clock, capsys):
    assert list(progress.track(clock.work(1.0, 300), 300, "Filming")) == list(range(300))
    out = capsys.readouterr().out
    assert "\r" not in out and "\x1b" not in out
    first, *between, last = out.splitlines()
    assert first == "Filming ..."
    assert last == "Filming: 300 done, 5 min"
    assert 4 <= len(between) <= 10
    for line in between:
        done, total, left = map(
            int, re.fullmatch(r"Filming: (\d+) of (\d+), (\d+) \w+ left", line).groups()
        )
        assert total == 300
        assert left in (300 - done, round((300 - done) / 60)), "a second an item"


def test_durations_are_rounded():
    texts = [progress.duration(s) for s in (0.0, 45.0, 600.0, 25320.0, 262800.0)]
    assert texts == ["0 s", "45 s", "10 min", "7 h 2 min", "3 d 1 h"]


def test_a_log_says_how_a_run_gets_on(program, monkeypatch, tmp_path):
    monkeypatch.setattr(progress.Pace, "is_due", lambda self: True)
    shown = ["--trainer.enable_progress_bar=true", f"--data.source.root={tmp_path / 'scenes'}"]
    assert program("fit", *shown, "--trainer.num_sanity_val_steps=1") == 0, program.err
    lines = program.out.splitlines()
    assert "\r" not in program.out and "\x1b" not in program.out
    assert "Generating 4 train scenes: 2 of 4, " in program.out, "while scenes are generated"
    assert "sanity check ..." in lines
    assert "validation: 1 of 2" in lines
    scores = r"PSNR \d+\.\d\d, SSIM -?\d\.\d{3}, AbsRel \d+\.\d{3}"
    assert any(re.fullmatch(rf"validation: {scores}, \d+ s", x) for x in lines)
    steps = [line for line in lines if line.startswith("step ")]
    text = r"loss \d\.\d{4}, PSNR [\d.]+, [\d.e+-]+ steps/s"
    assert re.fullmatch(rf"step 1 of 2: {text}, \d+ s left", steps[0]), steps
    assert re.fullmatch(rf"step 2 of 2: {text}", steps[1]), steps
    assert len(steps) == 2

    resumed = ["--ckpt_path=last", "--trainer.max_steps=3", "--trainer.accumulate_grad_batches=2"]
    assert program("fit", *shown, *resumed) == 0, program.err
    assert "training from step 2 of 3 ..." in program.out
    assert re.findall(r"^step (\d+ of \d+)", program.out, re.MULTILINE) == ["3 of 3"]

    assert program("test", *shown, "--ckpt_path=last", "--results.pictures=[]") == 0, program.err
    assert "test: 2 of 3" in program.out and re.search(r"^test: 3 done, \d+ s$", program.out, re.M)


def test_no_lines_where_progress_is_switched_off(program):
    assert program("fit", "--trainer.max_steps=1") == 0, program.err
    assert "step 1" not in program.out


class Line(LightningModule):
    """A model of one number."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))

    def training_step(self, batch, _):
        return ((self.slope * batch - 2 * batch) ** 2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Counts(Callback):
    """What the bar shows after each batch."""

    def __init__(self):
        self.shown = []

    def on_train_batch_end(self, trainer, *_):
        task = trainer.progress_bar_callback.train_progress_bar
        self.shown.append((task.completed, task.total))


def train(folder, steps, checkpoint=None, **settings):
    counts = Counts()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[ProgressBar(), counts],
        **settings,
    )
    data = DataLoader(torch.ones(100, 1))
    trainer.fit(Line(), data, ckpt_path=checkpoint, weights_only=True)
    return trainer, counts.shown


@pytest.mark.filterwarnings("ignore")
def test_the_bar_counts_the_runs_steps_before_and_after_a_resume(tmp_path):
    trainer, shown = train(tmp_path, 8)
    assert shown == [(step, 8) for step in range(1, 9)]
    checkpoint = tmp_path / "last.ckpt"
    trainer.save_checkpoint(checkpoint)
    _, shown = train(tmp_path, 11, checkpoint)
    assert shown == [(9, 11), (10, 11), (11, 11)]


@pytest.mark.filterwarnings("ignore")
def test_the_bar_counts_steps_under_accumulation(tmp_path):
    _, shown = train(tmp_path, 2, accumulate_grad_batches=2)
    assert shown == [(0, 2), (1, 2), (1, 2), (2, 2)]


def test_films_are_tracked_in_a_log_only_if_they_take_long(clock, capsys):
    trainer = Trainer(logger=False, enable_checkpointing=False, callbacks=[ProgressLines()])
    follow = tracker(trainer, "room: spin")
    capsys.readouterr()
    assert len(list(follow(clock.work(0.1, 20), 20))) == 20
    assert capsys.readouterr().out == ""
    list(follow(clock.work(1.0, 20), 20))
    assert capsys.readouterr().out.splitlines()[-1] == "room: spin: 20 done, 20 s"
    trainer.progress_bar_callback.disable()  # in all processes but the first
    list(follow(clock.work(1.0, 20), 20))
    assert capsys.readouterr().out == ""
