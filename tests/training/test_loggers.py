"""Several loggers at once: where they write, which get pictures, and what a new run sets aside."""

import csv

import pytest
from jsonargparse import Namespace
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from test_earlier_run import config, set_aside, write
from test_image_logger import fit, logged_pictures

from mvsplat.cli.saved_config import place_in_run
from mvsplat.training.image_logger import ImageLogger


class StandIn(Logger):
    """Remembers what it is told."""

    version = 0

    def __init__(self):
        self.metrics, self.pictures = [], []

    @property
    def name(self):
        return type(self).__name__

    def log_hyperparams(self, params, *_, **__):
        pass

    def log_metrics(self, metrics, step=None):
        self.metrics.append((step, set(metrics)))


class Wandb(StandIn):
    """Takes pictures as Lightning's WandbLogger does."""

    def log_image(self, key, images, step=None, **kwargs):
        assert isinstance(images, list) and images[0].width > 100
        self.pictures.append((key, step))


class MLflow(StandIn, MLFlowLogger):
    """Lightning's MLFlowLogger with a client that remembers."""

    run_id = "17"

    @property
    def experiment(self):
        return self

    def finalize(self, status="success"):
        pass

    def log_image(self, run_id, image, artifact_file):
        assert run_id == "17" and image.width > 100
        self.pictures.append(artifact_file)


def test_each_of_several_loggers_gets_metrics_and_the_pictures_it_takes(make_trainer, tmp_path):
    stand_ins = Wandb(), MLflow()
    board, table = TensorBoardLogger(tmp_path, "logs", ""), CSVLogger(tmp_path, "tables")
    loggers = [board, table, *stand_ins]
    settings = {"max_steps": 4, "val_check_interval": 4, "log_every_n_steps": 1}
    fit(make_trainer(ImageLogger(2, scenes=1), logger=loggers, **settings))
    steps = {"train/pictures": [2, 4], "val/pictures": [4]}
    assert logged_pictures(tmp_path / "logs") == steps
    wandb, mlflow = stand_ins
    assert wandb.pictures == [("train/pictures", 2), ("train/pictures", 4), ("val/pictures", 4)]
    assert mlflow.pictures == [
        f"{stage}/pictures_000000{step}.png"
        for stage, step in (("train", 2), ("train", 4), ("val", 4))
    ]
    assert (tmp_path / "images" / "validation_step_0000004.png").is_file()


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("TensorBoardLogger", "", "run"),
        ("TensorBoardLogger", "mine", "mine"),
        ("CSVLogger", "", "run"),
        ("WandbLogger", ".", "run"),
        ("WandbLogger", "mine", "mine"),
        ("MLFlowLogger", "./mlruns", "run/mlruns"),
        ("MLFlowLogger", "", "run/mlruns"),
        ("MLFlowLogger", "run/mlruns", "run/mlruns"),
    ],
)
def test_what_is_nobodys_choice_is_in_the_run_folder(name, given, expected):
    arguments = Namespace(save_dir=given, name="logs", version="")  # the usual logger's
    logger = Namespace(class_path=f"lightning.pytorch.loggers.{name}", init_args=arguments)
    place_in_run(logger, "run")
    assert arguments["save_dir"] == expected
    assert arguments["version"] == (None if name in ("CSVLogger", "WandbLogger") else "")
    assert arguments["name"] == (None if name == "WandbLogger" else "logs")


def test_runs_of_other_loggers_are_set_aside_with_the_run(tmp_path):
    loggers = [
        {"class_path": "WandbLogger", "init_args": {"save_dir": ""}},
        {"class_path": "MLFlowLogger", "init_args": {"save_dir": str(tmp_path / "tracks")}},
    ]
    config(tmp_path, trainer={"logger": loggers})
    theirs = {
        "wandb/offline-run-20260101_000000-ab12/files/media/images/val/pictures_1.png",
        "wandb/offline-run-20260101_000000-ab12/run-ab12.wandb",
        "wandb/debug.log",
        "mlruns/123/meta.yaml",
        "mlruns/123/ef/artifacts/val/pictures_0000001.png",
        "tracks/456/meta.yaml",
        "tracks/456/cd/metrics/val/psnr",
    }
    foreign = {"wandb.txt", "other/mlruns/1/meta.yaml", "photos/wandb/a.jpg", "earlier/meta.yaml"}
    for name in theirs | foreign:
        write(tmp_path / name)
    moved, left = set_aside(tmp_path)
    assert moved == theirs | {"config.yaml"} and left == foreign


def test_commands_work_with_several_loggers_and_without_any(program, tmp_path):
    several = tmp_path / "several.yaml"
    several.write_text(
        "trainer:\n  logger:\n"
        "  - {class_path: TensorBoardLogger, init_args: {save_dir: '', name: logs, version: ''}}\n"
        "  - {class_path: CSVLogger, init_args: {save_dir: '', name: tables}}\n"
    )
    assert program("fit", "--config", several, "--images.every_n_steps=1") == 0, program.err
    assert logged_pictures(program.run_dir / "logs") == {
        "train/pictures": [1, 2], "val/pictures": [2],
    }  # fmt: skip
    with open(program.run_dir / "tables" / "version_0" / "metrics.csv") as file:
        assert {"train/mse", "val/psnr"} <= set(next(csv.reader(file)))
    # A table of training is not deleted by what writes one later.
    table = program.run_dir / "tables" / "version_0" / "metrics.csv"
    before = table.read_bytes()
    more = ["--config", several, "--ckpt_path=last"]
    assert program("validate", *more) == 0, program.err
    assert program("fit", *more, "--trainer.max_steps=3") == 0, program.err
    assert table.read_bytes() == before

    logs = set(program.run_dir.rglob("*tfevents*"))
    for command in ("test", "predict"):
        none = ["--ckpt_path=last", "--trainer.logger=false"]
        assert program(command, *none) == 0, program.err
    assert set(program.run_dir.rglob("*tfevents*")) == logs
