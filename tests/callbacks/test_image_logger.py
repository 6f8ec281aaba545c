"""Pictures of training and validation, with and without TensorBoard."""

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_model import ToyModel, make_loader

from mvsplat.callbacks import ImageLogger


def logged_pictures(folder) -> dict[str, list[int]]:
    """Steps of TensorBoard's pictures by tag."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    return {tag: [e.step for e in events.Images(tag)] for tag in events.Tags()["images"]}


def fit(trainer):
    trainer.fit(ToyModel(), make_loader(range(8)), make_loader(range(3)))


def test_pictures_in_tensorboard_and_the_run_folder(make_trainer, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="logs", version="")
    fit(make_trainer(ImageLogger(2, scenes=2), logger=logger, max_steps=6, val_check_interval=3))
    assert logged_pictures(tmp_path / "logs") == {
        "train/pictures": [2, 4, 6],
        "val/pictures": [3, 6],
    }
    pictures = sorted((tmp_path / "images").iterdir())
    names = ["validation_step_0000003.png", "validation_step_0000006.png"]
    assert [picture.name for picture in pictures] == names
    width, height = Image.open(pictures[0]).size
    assert width > 8 * 160 and height > 2 * 160


def test_a_step_of_several_batches_is_logged_once(make_trainer, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="logs", version="")
    settings = {"max_steps": 4, "accumulate_grad_batches": 2, "limit_val_batches": 0}
    fit(make_trainer(ImageLogger(2), logger=logger, **settings))
    assert logged_pictures(tmp_path / "logs")["train/pictures"] == [2, 4]


@pytest.mark.parametrize("logger", ["none", "csv"])
def test_other_loggers_get_the_files_only(make_trainer, tmp_path, logger):
    chosen = False if logger == "none" else CSVLogger(tmp_path / "csv")
    fit(make_trainer(ImageLogger(1), logger=chosen, max_steps=2, val_check_interval=2))
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["validation_step_0000002.png"]


def test_pictures_can_be_turned_off(make_trainer, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="logs", version="")
    callback = ImageLogger(every_n_steps=0, scenes=0)
    fit(make_trainer(callback, logger=logger, max_steps=2, val_check_interval=1))
    assert logged_pictures(tmp_path / "logs") == {}
    assert not (tmp_path / "images").exists()


def test_validate_alone_writes_one_picture(make_trainer, tmp_path):
    make_trainer(ImageLogger()).validate(ToyModel(), make_loader(range(1)), verbose=False)
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["validation.png"]
