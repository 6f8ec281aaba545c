"""The worked examples for clusters: what is stopped from outside starts again and goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from test_resume import assert_same_run

from mvsplat.cli import config_files

TINY = Path(__file__).parents[1] / "configs" / "tiny.yaml"
CLUSTERS = config_files.FOLDER / "clusters"


class KilledOnce(Callback):
    """The last process is killed in a training batch, the first time that it comes to it.

    Args:
        batch: Number of the batch.
        mark: A file that says that it has been.
    """

    def __init__(self, batch: int, mark: str):
        self.batch = batch
        self.mark = Path(mark)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        last = trainer.global_rank == trainer.world_size - 1
        if last and batch_idx == self.batch and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def paths() -> str:
    """Where the programs of this Python's environment are, first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.mark.slow
def test_a_group_that_torchrun_starts_again_ends_with_the_same_bits(tmp_path, scenes_root):
    """Two processes, one of them killed: against two that nothing ends."""
    states = []
    for name, batch in (("whole", 99), ("killed", 3)):
        options = {
            "run_dir": tmp_path / name,
            "data.source.root": scenes_root,
            "trainer.max_steps": 5,
            "trainer.logger": "false",
            "trainer.limit_val_batches": 0,
            "checkpoint.every_n_steps": 2,
            "averaging.decay": 0.9,
            "trainer.callbacks": f"{__name__}.KilledOnce",
            "trainer.callbacks.batch": batch,
            "trainer.callbacks.mark": tmp_path / "killed_before",
        }
        arguments = [f"--{option}={value}" for option, value in options.items()]
        result = subprocess.run(
            ["bash", CLUSTERS / "torchrun.sh", "--config", TINY, *arguments],
            capture_output=True,
            text=True,
            timeout=900,
            env=os.environ
            | {"DEVICES": "2", "RESTARTS": "1", "OMP_NUM_THREADS": "1", "PATH": paths()}
            | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert result.returncode == 0, result.stderr[-4000:]
        last = tmp_path / name / "checkpoints" / "last.ckpt"
        states.append(torch.load(last, weights_only=True))
    assert (tmp_path / "killed_before").exists()
    whole, killed = states
    assert whole["global_step"] == 5 and whole["SceneDataModule"]["position"] == 10
    assert_same_run(whole, killed)


SRUN = """#!/bin/bash
# Two tasks, which get the signals of this program.
shift
for rank in 0 1; do SLURM_PROCID=$rank "$@" & tasks+=($!); done
trap 'kill -TERM "${tasks[@]}"' TERM
wait "${tasks[@]}"
wait "${tasks[@]}"
"""
MVSPLAT = """#!/bin/bash
# Goes on from where it was, or begins, and says so; ends by itself the second time.
echo "task $SLURM_PROCID: $*" >> log
trap 'echo "task $SLURM_PROCID saves" >> log; exit 0' TERM
if [ -e requeued ]; then exit "${CODE:-0}"; fi
touch "started$SLURM_PROCID"
while true; do sleep 0.05; done
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >> log; touch requeued
"""


def test_the_slurm_script_requeues_its_job_when_its_time_is_up(tmp_path):
    """With stand-ins for SLURM's programs and ours."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("mvsplat", MVSPLAT), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = os.environ | {
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "SLURM_JOB_ID": "17", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS_PER_NODE": "2",
    }  # fmt: skip
    command = ["bash", CLUSTERS / "slurm.sh", "--config", "re10k"]
    job = subprocess.Popen(command, cwd=tmp_path, env=environment)
    end = time.monotonic() + 60
    while not all((tmp_path / f"started{rank}").exists() for rank in (0, 1)):
        assert time.monotonic() < end and job.poll() is None
        time.sleep(0.02)
    job.terminate()  # as SLURM does, by --signal=B:TERM@180
    assert job.wait(60) == 0
    lines = (tmp_path / "log").read_text().splitlines()
    started = sorted(lines[:2])
    for rank, line in enumerate(started):
        assert line.startswith(f"task {rank}: fit --config re10k --config overlays/multi_node")
    for line in started:
        assert "--trainer.num_nodes=1 --trainer.devices=2 --ckpt_path=auto" in line
    assert sorted(lines[2:4]) == ["task 0 saves", "task 1 saves"]
    assert lines[4:] == ["scontrol requeue 17"]  # after both have saved
    # The second turn ends by itself, and says how.
    assert subprocess.run(command, cwd=tmp_path, env=environment).returncode == 0
    failing = environment | {"CODE": "3"}
    assert subprocess.run(command, cwd=tmp_path, env=failing).returncode == 3
    assert (tmp_path / "log").read_text().count("scontrol") == 1
