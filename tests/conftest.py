"""What several test modules share: the program run in-process, on a few tiny generated scenes."""

import logging
import os
import random
import signal
import warnings
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: there are as many processes as cores, for each of them one thread.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# ruff: noqa: E402
import numpy as np
import pytest
import torch
from hypothesis import settings
from lightning.pytorch import Trainer
from workers import number_of_workers
from xdist import is_xdist_worker

from mvsplat.__main__ import main
from mvsplat.machine import bf16_is_faster

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start what goes into the background so; tests of Ctrl-C are to hear it all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Lightning's log handlers keep the stream of the test that imported them.
logging.raiseExceptions = False

# The same examples in every run: a test that fails fails again.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

TINY = Path(__file__).parent / "configs" / "tiny.yaml"


def pytest_xdist_auto_num_workers(config):
    return number_of_workers(config)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session, items):
    """Several processes begin with the files that take longest, so that they end together."""
    if is_xdist_worker(session):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Random numbers are the same whatever ran before, those of the test's fixtures included."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def float32_unless_asked():
    """What "auto" means is no matter of the processor that tests run on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mvsplat.machine.bf16_instructions", lambda: [])
        bf16_is_faster.cache_clear()
        yield
    bf16_is_faster.cache_clear()


@pytest.fixture(scope="session")
def tiny_config():
    """A configuration of everything at its smallest."""
    return TINY


@pytest.fixture(scope="session")
def scenes_root(request, tmp_path_factory):
    """Folder in which generated scenes are made, once a session for all of its processes."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if is_xdist_worker(request) else folder) / "generated"
    folder.mkdir(exist_ok=True)
    return folder


class Program:
    """``mvsplat COMMAND --config tiny.yaml ...`` in this process; remembers what it printed."""

    def __init__(self, folder: Path, scenes: Path, capsys):
        self.run_dir = folder / "run"
        self.scenes = scenes
        self.capsys = capsys
        self.out = self.err = ""

    def __call__(self, command: str, *arguments: str, config: bool = True) -> int:
        start = [command]
        if config:
            start += ["--config", str(TINY)]
            start += ["--run_dir", str(self.run_dir), "--data.source.root", str(self.scenes)]
        self.capsys.readouterr()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                code = main([*start, *map(str, arguments)])
        except SystemExit as exit:
            code = exit.code or 0
        self.out, self.err = self.capsys.readouterr()
        return code

    def checkpoint(self, name: str = "last") -> Path:
        return self.run_dir / "checkpoints" / f"{name}.ckpt"


@pytest.fixture
def program(tmp_path, scenes_root, capsys):
    return Program(tmp_path, scenes_root, capsys)


@pytest.fixture
def make_trainer(tmp_path):
    """Builds a quiet trainer whose run folder is ``tmp_path``."""

    def make(*callbacks, **settings) -> Trainer:
        quiet = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "accelerator": "cpu",
        }
        return Trainer(default_root_dir=tmp_path, callbacks=list(callbacks), **(quiet | settings))

    return make
