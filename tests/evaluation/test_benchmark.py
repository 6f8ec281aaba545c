"""What a model's parts cost, measured on parts of known cost."""

import mmap
import sys
import time

import pytest
import torch
from torch import nn

from mvsplat.evaluation.benchmark import Benchmark, peak_memory, reset_peak_memory
from mvsplat.types import Batch, Views


class Part(nn.Module):
    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def forward(self):
        time.sleep(self.seconds)


class Model:
    def __init__(self):
        self.encoder, self.decoder = Part(0.06), Part(0.03)


def batch() -> Batch:
    """Two scenes of three target views."""
    pose, ones = torch.eye(4).expand(2, 3, 4, 4), torch.ones(2, 3)
    views = Views(torch.zeros(2, 3, 3, 8, 8), pose, pose[..., :3, :3], ones, 2 * ones)
    return Batch(views, views, ["a", "b"])


def test_times_are_a_scene_and_the_first_call_warms_up():
    model = Model()
    with Benchmark(model) as benchmark:
        for first in (True, False):
            model.encoder()
            model.decoder()
            cost = benchmark.of_last(batch(), gaussians=7)
            assert cost["warm_up"] is first and cost["gaussians"] == 7
    assert 0.03 <= cost["encoder_seconds"] < 0.06
    assert 0.015 <= cost["decoder_seconds"] < 0.03
    assert cost["decoder_seconds_a_view"] == pytest.approx(cost["decoder_seconds"] / 3)
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
