"""What the program asks of the machine."""

import os
import subprocess
import sys

import pytest
import torch

from mvsplat import machine

TAKE_AND_FREE = """
import resource, torch
from mvsplat.machine import keep_freed_memory

if not keep_freed_memory():
    print("no")
    raise SystemExit
for _ in range(12):  # the heap takes some rounds to settle
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(50_000_000)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


def said(**variables: str) -> str:
    process = [sys.executable, "-c", TAKE_AND_FREE]
    environment = os.environ | variables
    result = subprocess.run(process, capture_output=True, text=True, check=True, env=environment)
    return result.stdout.strip()


def test_freed_memory_is_used_again():
    faults = said()
    if faults == "no":
        pytest.skip("the C library cannot do that")
    assert int(faults) < 50  # 200 MB are 49,000 pages, or 96 huge ones


def test_what_the_user_asks_of_the_c_library_stays():
    assert said(MALLOC_MMAP_THRESHOLD_="4194304") == "no"


@pytest.mark.parametrize(
    ("instructions", "bf16", "faster"),
    [(["avx512bf16"], 0.5, True), (["avx512bf16"], 1.9, False), (["bf16"], 0.9, False)],
)
def test_bf16_is_chosen_by_a_trial(instructions, bf16, faster, monkeypatch):
    monkeypatch.setattr(machine, "bf16_instructions", lambda: instructions)
    times = {torch.float32: 1.0, torch.bfloat16: bf16}
    monkeypatch.setattr(machine, "_seconds_to_convolve", times.__getitem__)
    machine.bf16_is_faster.cache_clear()
    assert machine.bf16_is_faster() == faster
    machine.bf16_is_faster.cache_clear()


def test_without_instructions_bf16_is_not_tried(monkeypatch):
    monkeypatch.setattr(machine, "bf16_instructions", lambda: [])
    monkeypatch.setattr(machine, "_seconds_to_convolve", pytest.fail)
    machine.bf16_is_faster.cache_clear()
    assert not machine.bf16_is_faster()


def test_a_trial_takes_a_time():
    assert 0 < machine._seconds_to_convolve(torch.bfloat16) < 5
