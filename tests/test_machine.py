"""What the program asks of the machine."""

import os
import subprocess
import sys

import pytest

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
