"""``torch.compile`` on the encoder: whole graphs, the same numbers, the same names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from golden.cases import MEAN
from views import small_encoder

PROGRAM = Path(__file__).parent / "compiled_encoder.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend, case",
    # Three views: with the published mask.
    [("aot_eager", "tiny_3views"), ("inductor", "tiny_2views")],
)
def test_compiled_networks_have_no_breaks_and_the_same_numbers(backend, case):
    command = [sys.executable, str(PROGRAM), backend, case]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert all(value < MEAN for value in found["values"]), found
    assert all(value < MEAN for value in found["golden"]), found
    assert found["gradients"] < 10 * MEAN, found


def test_a_missing_compiler_is_said_at_once(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="no 'no-such-compiler'; install one"):
        small_encoder().compile()
