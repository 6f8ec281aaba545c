"""What a model's parts cost, measured on parts of known cost."""

import mmap
import sys

import pytest
import torch
from torch import nn

from mvsplat.evaluation.benchmark import Benchmark, peak_memory, reset_peak_memory
from mvsplat.types import Batch, Views


class Clock:
    """A clock that goes on only when told to."""

    now = 10.0

    def __call__(self):
        return self.now


class Part(nn.Module):
    def __init__(self, clock: Clock, seconds: float):
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def forward(self):
        self.clock.now += self.seconds


class Model:
    def __init__(self, clock: Clock):
        self.encoder, self.decoder = Part(clock, 0.06), Part(clock, 0.03)


def batch() -> Batch:
    """Two scenes of three target views."""
    pose, ones = torch.eye(4).expand(2, 3, 4, 4), torch.ones(2, 3)
    views = Views(torch.zeros(2, 3, 3, 8, 8), pose, pose[..., :3, :3], ones, 2 * ones)
    return Batch(views, views, ["a", "b"])


def test_times_are_a_scene_and_the_first_call_warms_up(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("mvsplat.evaluation.benchmark.perf_counter", clock)
    model = Model(clock)
    with Benchmark(model) as benchmark:
        for first in (True, False):
            model.encoder()
            clock.now += 5  # which belongs to neither
            model.decoder()
            cost = benchmark.of_last(batch(), gaussians=7)
            assert cost["warm_up"] is first and cost["gaussians"] == 7
    assert cost["encoder_seconds"] == pytest.approx(0.03)
    assert cost["decoder_seconds"] == pytest.approx(0.015)
    assert cost["decoder_seconds_a_view"] == pytest.approx(0.005)
    assert not model.encoder._forward_pre_hooks and not model.decoder._forward_hooks


def take_and_give_back(size: int) -> None:
    """Memory of the system's, whatever the C library keeps of what other tests have freed."""
    with mmap.mmap(-1, size) as memory:
        for start in range(0, size, mmap.PAGESIZE):
            memory[start] = 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is reset on Linux only")
def test_the_peak_is_of_what_happens_after_the_reset():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pytest.skip("this system does not let a process reset its peak")
    take_and_give_back(200 << 20)
    reset_peak_memory()
    before = peak_memory()
    take_and_give_back(100 << 20)
    grown = peak_memory() - before
    assert 90 << 20 < grown < 130 << 20
