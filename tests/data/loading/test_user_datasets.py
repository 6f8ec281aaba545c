"""A user's own datasets get the guarantees of ours."""

import random
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from mvsplat.data.data_module import SceneDataModule
from mvsplat.data.faults import UnsuitableScene
from mvsplat.data.loading.loaders import LoaderSettings
from mvsplat.data.loading.streams import SampleRequest
from mvsplat.data.loading.user_datasets import IterableBatches, MapExamples
from mvsplat.types import Batch, Views


def sample(number, noise=0.0):
    bounds = torch.ones(1, 1)
    views = Views(torch.full((1, 1, 3, 2, 2), float(noise)), torch.eye(4)[None, None],
                  torch.eye(3)[None, None], bounds, bounds + 1)  # fmt: skip
    return Batch(views, views, [str(number)])


class Mapped(Dataset):
    """Ten samples with random content from every global generator; number 3 is unsuitable."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index == 3:
            raise UnsuitableScene("three")
        return sample(index, torch.rand(()) + np.random.rand() + random.random())


class Streamed(IterableDataset):
    def __init__(self, count=10):
        self.count = count

    def __iter__(self):
        return (sample(number) for number in range(self.count))


def module(workers=0, **datasets):
    """A data module whose source is never asked."""
    loaders = {
        f"{stage}_loader": LoaderSettings(2, workers, persistent_workers=False)
        for stage in ("train", "val", "test", "predict")
    }
    return SceneDataModule(**loaders, **datasets)


def scenes(batches):
    return [scene for batch in batches for scene in batch.scene]


def take(loader, count):
    batches = list(islice(loader, count))
    loader.close()
    return batches


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [Mapped, Streamed])
def test_training_is_endless_shuffled_and_repeatable(kind, workers):
    batches = take(module(workers, train_dataset=kind()).train_dataloader(), 15)
    names = scenes(batches)
    assert names != sorted(names) and len(names) == 30
    expected = {str(number) for number in range(10)} - ({"3"} if kind is Mapped else set())
    assert set(names) == expected
    again = take(module(0, train_dataset=kind()).train_dataloader(), 15)
    assert scenes(again) == names
    for one, two in zip(batches, again, strict=True):
        assert torch.equal(one.context.image, two.context.image)


def made_from(batches, positions):
    """The scenes of batches requested with positions of one sample each."""
    return [batches[[SampleRequest(position, 0)]].batch.scene[0] for position in positions]


def test_an_iterable_epoch_has_every_sample_once_and_epochs_differ():
    batches = IterableBatches(Streamed(100), seed=0, shuffle=True, repeat=True)
    stream = made_from(batches, range(200))
    assert sorted(stream[:100]) == sorted(stream[100:]) == sorted(map(str, range(100)))
    assert stream[:100] != stream[100:]
    # Fewer samples than are shuffled at a time.
    few = IterableBatches(Streamed(7), seed=0, shuffle=True, repeat=True)
    assert sorted(made_from(few, range(7))) == sorted(map(str, range(7)))


def test_a_resumed_iterable_leaves_out_the_passes_between():
    class Counting(Streamed):
        given = 0

        def __iter__(self):
            for item in super().__iter__():
                self.given += 1
                yield item

    def positions(*numbers):
        batches = IterableBatches(Counting(100), seed=0, shuffle=True, repeat=True)
        return made_from(batches, numbers), batches.dataset.given

    whole, given = positions(*range(1000))
    assert given <= 1000 + 33  # the buffer
    resumed, given = positions(*range(930, 1000))
    assert resumed == whole[930:] and given <= 100 + 33 + 100
    # Workers get every other batch, and a pass ends between two of them.
    assert positions(*range(0, 1000, 7))[0] == whole[::7]


def test_global_generators_are_left_as_they_were():
    examples = MapExamples(Mapped())
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = torch.rand(()), np.random.rand(), random.random()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    examples.sample(0, 0, torch.Generator().manual_seed(0))
    assert (torch.rand(()), np.random.rand(), random.random()) == expected


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [Mapped, Streamed])
def test_validation_has_a_fixed_length_and_never_runs_dry(kind, workers):
    data = module(workers, val_dataset=kind())
    data.val_scenes = 5
    loader = data.val_dataloader()
    runs = [scenes(loader) for _ in range(3)]
    loader.close()
    assert runs[0] == runs[1] == runs[2] and len(runs[0]) == 5
    data.val_scenes = (
        14  # more than there are: a mapped one stops at its 10, a streamed one repeats
    )
    assert len(scenes(data.val_dataloader())) == (10 if kind is Mapped else 14)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [Mapped, Streamed])
def test_testing_has_every_sample_once(kind, workers):
    data = module(workers, test_dataset=kind(), predict_dataset=kind())
    expected = [str(number) for number in range(10) if kind is Streamed or number != 3]
    for loader in (data.test_dataloader(), data.predict_dataloader()):
        assert scenes(loader) == expected
        loader.close()
    if kind is Mapped:
        assert data.skipped["test"] == {"three": 1}


class Spoiled(Mapped):
    """NaN in a picture of number 5, and an infinite camera of number 7."""

    def __getitem__(self, index):
        made = sample(index)
        if index == 5:
            image = made.target.image.clone()
            image[0, 0, 1, 0, 1] = torch.nan
            made.target = replace(made.target, image=image)
        if index == 7:
            cameras = torch.full((1, 1, 4, 4), torch.inf)
            made.context = replace(made.context, extrinsics=cameras)
        return made


class SpoiledStream(IterableDataset):
    def __iter__(self):
        return (Spoiled()[number] for number in range(10))


@pytest.mark.parametrize("kind", [Spoiled, SpoiledStream])
def test_samples_with_nan_are_left_out_and_named(kind, caplog):
    good = {str(number) for number in range(10)} - {"5", "7"}
    data = module(train_dataset=kind(), test_dataset=kind())
    assert set(scenes(take(data.train_dataloader(), 15))) == good
    assert scenes(data.test_dataloader()) == sorted(good)
    details = {skip.detail for skip in data.left_out("test")}
    assert "NaN or infinite values in target.image" in details
    assert any("context.extrinsics" in detail for detail in details)
    assert "values that are not finite" in caplog.text


def test_wrong_items_are_refused():
    class Wrong(Mapped):
        def __getitem__(self, index):
            return {"image": 3}

    class Empty(Mapped):
        def __len__(self):
            return 0

    with pytest.raises(ValueError, match=r"Wrong yields a <class 'dict'>; expected mvsplat\.types"):
        next(iter(module(train_dataset=Wrong()).train_dataloader()))
    with pytest.raises(ValueError, match="Empty is empty"):
        module(train_dataset=Empty()).train_dataloader()
    with pytest.raises(ValueError, match="Streamed yields no samples"):
        next(iter(module(train_dataset=Streamed(0)).train_dataloader()))
