"""Pictures of training and validation, with and without TensorBoard."""

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_model import ToyModel, make_loader

from mvsplat.training.image_logger import ImageLogger


def logged_pictures(folder) -> dict[str, list[int]]:
    """Steps of TensorBoard's pictures by tag."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    return {tag: [e.step for e in events.Images(tag)] for tag in events.Tags()["images"]}


def logged_histograms(folder) -> dict:
    """TensorBoard's last histogram by tag."""
    events = EventAccumulator(str(folder), size_guidance={"histograms": 0}).Reload()
    return {tag: events.Histograms(tag)[-1] for tag in events.Tags()["histograms"]}


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


def test_histograms_of_depths_and_opacities(make_trainer, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="logs", version="")
    fit(make_trainer(ImageLogger(2, scenes=2), logger=logger, max_steps=2, val_check_interval=2))
    found = logged_histograms(tmp_path / "logs")
    stages, names = ("train", "val"), ("depths", "opacities")
    assert set(found) == {f"{stage}/{name}" for stage in stages for name in names}
    # Two validation scenes of two views of 16 x 16 pixels, every Gaussian half opaque.
    values = found["val/opacities"].histogram_value
    assert values.num == 2 * 2 * 16 * 16 and values.min == values.max == 0.5


def test_histograms_can_be_turned_off_and_bear_broken_values(make_trainer, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="logs", version="")
    model = ToyModel()
    torch.nn.init.constant_(model.encoder.brightness, torch.nan)
    for histograms in (False, True):
        callback = ImageLogger(1, scenes=1, histograms=histograms)
        trainer = make_trainer(callback, logger=logger, max_steps=1, limit_val_batches=0)
        trainer.fit(model, make_loader(range(1)))
        found = set(logged_histograms(tmp_path / "logs"))
        assert found == ({"train/opacities"} if histograms else set())


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
