"""``fit --plan`` says what a training will take and leaves nothing in the run folder."""

import re
from unittest.mock import Mock

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from toy_model import SIZE, make_batch

from mvsplat import CostVolumeEncoder
from mvsplat.training.memory import StepMemory, bytes_of
from mvsplat.training.plan import SCENES_BY_STEP, Plan, PlannedBatches, PlannedData


def test_a_plan_of_a_new_training(program, tiny_config):
    options = ["--plan", "--data.train_shapes", "{32x32: 1, 32x64: 1e-9}"]
    options += ["--data.train_loader.batch_size=2", "--trainer.max_steps=40"]
    assert program("fit", *options) == 0, program.err
    assert not program.run_dir.exists()
    said = dict(line.split(": ", 1) for line in program.out.splitlines() if ": " in line)

    sizes = yaml.safe_load(tiny_config.read_text())["model"]["encoder"]["init_args"]
    count = sum(p.numel() for p in CostVolumeEncoder(**sizes).parameters())
    assert said["parameters"] == f"{count:,} trained, 0 frozen"
    assert said["scenes"] == "4; a step takes 2: an epoch is 2 steps; 40 steps are 20 epochs"
    found = re.fullmatch(
        r"([\d.e-]+) GB and ([\d.e-]+) GB a scene, ([\d.e-]+) GB with 2 in each process, "
        "scenes of 32x64",  # the largest, however seldom
        said["memory of a step"],
    )
    fixed, scene, whole = map(float, found.groups())
    # Weights, their gradients, Adam's two means.
    assert fixed > 0.9 * 16e-9 * count and scene > 0
    assert whole == pytest.approx(fixed + 2 * scene, rel=0.01)
    timed = r"[\d.]+ s each, \d+% of it waiting for data; [\d.]+ scenes/s"
    assert re.fullmatch(timed, said["10 steps"])
    assert re.fullmatch(r"\d+ \w+ for 40 steps, and the validations", said["expected"])


def test_the_time_is_that_of_the_steps_that_are_left(capsys):
    plan = Plan(Mock(spec=PlannedData), batch_size=3, steps=4000, done=400)
    plan._seconds, plan._waited = [1.5] * 20, 3.0
    trainer = Mock(spec=Trainer, accumulate_grad_batches=2, world_size=4, is_global_zero=True)
    plan.on_train_end(trainer, Mock(spec=LightningModule))
    assert capsys.readouterr().out.splitlines() == [
        "10 steps: 3 s each, 10% of it waiting for data; 8 scenes/s",
        "expected: 3 h 0 min for 3600 steps after the 400 that are done, and the validations",
    ]


def test_the_few_batches_come_first():
    batches = [make_batch(scene) for scene in range(3)]
    found = list(PlannedBatches(batches, 2, (SIZE, 2 * SIZE)))
    counts = [count for count in SCENES_BY_STEP for _ in range(2)]
    assert [len(batch.scene) for batch in found[:-2]] == counts
    assert found[-2:] == batches[1:]
    two = found[-3]
    assert two.context.image.shape == (2, 2, 3, SIZE, 2 * SIZE)
    assert two.context.depth.shape == (2, 2, SIZE, 2 * SIZE)
    assert torch.equal(two.target.extrinsics[1], batches[0].target.extrinsics[0])


@pytest.mark.parametrize(
    ("samples", "steps", "expected"),
    [
        (600, 300, "{}: an epoch is 25 steps; 300 steps are 12 epochs"),
        (600, -1, "{}: an epoch is 25 steps; no end of steps"),
        (None, 300, "{}; 300 steps"),
    ],
)
def test_lengths(samples, steps, expected):
    planned = Mock(spec=PlannedData, data=Mock(training_samples=lambda: samples))
    plan = Plan(planned, batch_size=3, steps=steps)
    trainer = Mock(spec=Trainer, accumulate_grad_batches=2, world_size=4)
    count = "not known" if samples is None else samples
    a_step = f"scenes: {count}; a step takes 24 (3 a batch, 2 batches, 4 processes)"
    assert plan._lengths(trainer) == expected.format(a_step)


def test_memory_is_the_most_that_there_is_at_a_time():
    weights = torch.zeros(1000)
    memory = StepMemory(torch.device("cpu"))
    memory.start([weights, weights])
    first = torch.zeros(3_000_000)
    second = torch.zeros(1_000_000)
    del first
    third = torch.zeros(2_000_000)
    peak = memory.stop()
    assert peak == pytest.approx(4 * 1000 + 4 * 4_000_000, abs=4096)
    assert bytes_of([weights, weights, second, third]) == 4 * 3_001_000
