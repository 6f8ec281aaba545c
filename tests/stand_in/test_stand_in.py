"""Nothing is made on the wrong device and little waits for it, on a stand-in for an accelerator.

A process keeps a device that it has registered: the cases have one of their own.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this release of torch takes no devices written in Python",
)
def test_on_a_stand_in_for_an_accelerator():
    cases = Path(__file__).parent / "cases.py"
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(cases)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
