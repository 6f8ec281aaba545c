"""The tests' own processes: one a core for many files, each with one thread."""

import os
from types import SimpleNamespace

import pytest
import torch
from workers import number_of_workers


@pytest.mark.parametrize(
    ("files", "asked", "cores", "gigabytes", "capture", "expected"),
    [
        (40, ["."], 2, 128, "fd", 2),
        (40, ["."], 16, 128, "fd", 10),
        (40, ["."], 1, 128, "fd", 0),
        (40, ["."], 16, 20, "fd", 3),
        (40, ["."], 16, 5, "fd", 0),
        (40, ["."], 16, None, "fd", 10),
        (40, ["."], 16, 128, "no", 0),
        (7, ["."], 16, 128, "fd", 0),
        (40, ["test_1.py", "test_2.py::test_it", "test_2.py::test_that"], 16, 128, "fd", 0),
        (40, [f"test_{n}.py" for n in range(8)], 16, 128, "fd", 2),
    ],
)
def test_a_few_files_start_no_processes(
    tmp_path, monkeypatch, files, asked, cores, gigabytes, capture, expected
):
    for number in range(files):
        (tmp_path / f"test_{number}.py").touch()
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    monkeypatch.setattr("workers.usable_cores", lambda: cores)
    memory = None if gigabytes is None else gigabytes * 2**30
    monkeypatch.setattr("workers.free_memory", lambda: memory)
    config = SimpleNamespace(
        args=asked,
        invocation_params=SimpleNamespace(dir=tmp_path),
        option=SimpleNamespace(capture=capture),
    )
    assert number_of_workers(config) == expected


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="all tests run in one process")
def test_a_process_beside_others_has_one_thread():
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
