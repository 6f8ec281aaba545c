"""What the program asks of the machine."""

import subprocess
import sys

import pytest

TAKE_AND_FREE = """
import resource, torch
from mvsplat.machine import keep_freed_memory

if not keep_freed_memory():
    print("no")
    raise SystemExit
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(50_000_000)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


def test_freed_memory_is_used_again():
    result = subprocess.run(
        [sys.executable, "-c", TAKE_AND_FREE], capture_output=True, text=True, check=True
    )
    if result.stdout.strip() == "no":
        pytest.skip("the C library cannot do that")
    assert int(result.stdout) < 50  # 200 MB are 49,000 pages, or 96 huge ones
