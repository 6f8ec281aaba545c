"""Training on odd numbers of pictures, in a process that may die of it."""

import os
import subprocess
import sys

PROGRAM = """
import sys
from mvsplat.__main__ import main

config, folder, scenes = sys.argv[1:]
for views, batch, precision in [
    (3, 1, "32-true"), (5, 3, "32-true"), (3, 3, "bf16-mixed"), (5, 1, "bf16-mixed")
]:
    run = f"{folder}/{views}-{batch}-{precision}"
    code = main([
        "fit", "--config", config, "--run_dir", run, "--data.source.root", scenes,
        "--data.source.init_args.frames=9", "--data.train_views.init_args.min_gap=7",
        "--data.train_views.init_args.max_gap=7",
        f"--data.train_views.init_args.context_views={views}",
        f"--data.train_loader.batch_size={batch}", f"--trainer.precision={precision}",
        "--trainer.max_steps=3", "--trainer.limit_val_batches=0", "--trainer.logger=false",
        "--checkpoint.every_n_steps=3", "--best_checkpoint.keep=0",
    ])
    assert code in (0, None), (views, batch, precision, code)
    print("trained", views, batch, precision, flush=True)
"""


def test_three_and_five_context_views_train_on_two_threads(tiny_config, tmp_path, scenes_root):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tiny_config), str(tmp_path), str(scenes_root)],
        env={**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    trained = result.stdout.count("trained")
    assert result.returncode == 0 and trained == 4, (trained, result.stderr[-2000:])
