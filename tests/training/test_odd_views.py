"""Training on odd numbers of pictures, in a process that may die of it."""

import multiprocessing
import os
from pathlib import Path

import torch

RUNS = [(3, 1, "32-true"), (5, 3, "32-true"), (3, 3, "bf16-mixed"), (5, 1, "bf16-mixed")]


def train(config: Path, folder: Path, scenes: Path) -> None:
    """Some steps with each number of context views, batch and precision; what is done, in a log."""
    output = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(2)
    from mvsplat.__main__ import main

    for views, batch, precision in RUNS:
        run = f"{folder}/{views}-{batch}-{precision}"
        code = main([
            "fit", "--config", str(config), "--run_dir", run, f"--data.source.root={scenes}",
            "--data.source.init_args.frames=9", "--data.train_views.init_args.min_gap=7",
            "--data.train_views.init_args.max_gap=7",
            f"--data.train_views.init_args.context_views={views}",
            f"--data.train_loader.batch_size={batch}", f"--trainer.precision={precision}",
            "--trainer.max_steps=3", "--trainer.limit_val_batches=0", "--trainer.logger=false",
            "--checkpoint.every_n_steps=3", "--best_checkpoint.keep=0",
        ])  # fmt: skip
        assert code in (0, None), (views, batch, precision, code)
        print("trained", views, batch, precision, flush=True)


def test_three_and_five_context_views_train_on_two_threads(tiny_config, tmp_path, scenes_root):
    # From a fork server, which has imported everything and has no threads yet.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mvsplat.cli.trainer_commands"])
    process = context.Process(target=train, args=(tiny_config, tmp_path, scenes_root))
    process.start()
    process.join(600)
    log = (tmp_path / "log").read_text()
    assert process.exitcode == 0 and log.count("trained") == len(RUNS), log[-2000:]
