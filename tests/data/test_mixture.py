"""Several data sets in one stream: shares, order, what is each set's own, exact resume."""

from itertools import islice

import pytest
import torch
from test_data_module import TRAIN_VIEWS, Recorder, fake_trainer, trainer
from tiny_scenes import write_dataset

from mvsplat.data import (
    BoundedViewSampler,
    ChunkScenes,
    LoaderSettings,
    MixedSource,
    SceneDataModule,
)

THREE = BoundedViewSampler(
    3, 1, min_gap=4, max_gap=4, initial_min_gap=None, initial_max_gap=None
)  # fmt: skip


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """13 scenes of one data set, 5 of another; both have scenes called a00 and t00."""
    folder = tmp_path_factory.mktemp("mixture")
    write_dataset(folder / "large", 13, 5)
    write_dataset(folder / "small", 5, 2, size=(16, 16))
    return folder


def mixture(roots, **small):
    large = MixedSource(ChunkScenes(str(roots / "large")), weight=2.0, frame_shape=(12, 16))
    own = {"near": 2.0, "far": 20.0, "frame_shape": (16, 16), "train_views": THREE}
    return {
        "large": large,
        "small": MixedSource(ChunkScenes(str(roots / "small")), **own | small),
    }


def module(roots, workers=0, batch_size=2, **options):
    loader = LoaderSettings(1, workers)
    settings = {
        "mixture": mixture(roots),
        "image_shape": (8, 8),
        "near": 1.0,
        "far": 10.0,
        "train_views": TRAIN_VIEWS,
        "val_scenes": 6,
        "train_loader": LoaderSettings(batch_size, workers),
    }
    loaders = {f"{stage}_loader": loader for stage in ("val", "test", "predict")}
    return SceneDataModule(**settings | loaders | options)


def batches(roots, count, rank=0, world=1, state=None, accumulate=1, **options):
    data = module(roots, **options)
    data.trainer = fake_trainer(rank, world, accumulate)
    if state is not None:
        data.load_state_dict(state)
        data.trainer.global_step = state["step"]
    return list(islice(data.train_dataloader(), count))


def scenes(found, part):
    """The samples of a data set in their order."""
    names = [name for batch in found for name in batch.scene]
    return [name for name in names if name.startswith(part)]


class Whole(Recorder):
    """Remembers all of what it is trained on."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        context = batch.context
        self.trained[-1] += (context.image.sum().item(), context.near.max().item())
        return loss


@pytest.mark.parametrize(("workers", "accumulate"), [(0, 1), (0, 2), (2, 2)])
def test_a_resumed_run_sees_what_the_whole_run_saw(roots, tmp_path, workers, accumulate):
    options = {
        "accumulate_grad_batches": accumulate,
        "limit_train_batches": 7,
        "val_check_interval": 4,
        "max_steps": 12,
    }
    whole, resumed = Whole(), Whole()
    trainer(tmp_path / "a", **options).fit(whole, module(roots, workers))
    checkpoint = tmp_path / "a" / "step=4.ckpt"
    trainer(tmp_path / "b", **options).fit(resumed, module(roots, 0), ckpt_path=checkpoint)
    assert 0 < len(resumed.trained) < len(whole.trained)
    assert resumed.trained == whole.trained[-len(resumed.trained) :]
    parts = {(step, name.split("-")[0]) for step, names, *_ in whole.trained for name in names}
    assert len(parts) == len({step for step, _ in parts}) == 12  # a set a step
    assert {part for _, part in parts} == {"large", "small"}


def test_sets_come_as_often_as_they_should_and_are_gone_through_evenly(roots):
    found = batches(roots, 150)
    share = sum(batch.scene[0].startswith("large") for batch in found) / len(found)
    assert abs(share - 2 / 3) < 3 * (2 / 9 / 150) ** 0.5
    for part, size in (("large", 13), ("small", 5)):
        order = scenes(found, part)
        passes = [order[n : n + size] for n in range(0, len(order) - size, size)]
        every = [f"{part}-a{n:02d}" for n in range(size)]
        assert len(passes) > 5 and all(sorted(one) == every for one in passes)
        assert passes[0] != passes[1]
    other = batches(roots, 10, seed=1)
    assert [batch.scene for batch in other] != [batch.scene for batch in found[:10]]


def test_each_set_has_what_is_its_own(roots):
    for batch in batches(roots, 12):
        large = batch.scene[0].startswith("large")
        assert batch.context.image.shape[1] == (2 if large else 3)
        assert batch.context.near.unique().tolist() == [1.0 if large else 2.0]
        assert batch.target.far.unique().tolist() == [10.0 if large else 20.0]
        assert batch.context.image.shape[-2:] == (8, 8)
    wide = mixture(roots, image_shape=(8, 12))
    shapes = {
        (batch.scene[0][:5], tuple(batch.target.image.shape[-2:]))
        for batch in batches(roots, 12, mixture=wide, train_shapes={"4x4": 1.0})
    }
    assert shapes == {("large", (4, 4)), ("small", (8, 12))}
    # Frames of another shape are skipped, and none of the other set comes in their place.
    with pytest.raises(ValueError, match="no usable scene in .* tries: .* frames are not 9 pixels"):
        batches(roots, 12, mixture=mixture(roots, frame_shape=(9, 9)))


def test_two_processes_share_a_step(roots):
    alone = batches(roots, 12, batch_size=4)
    split = [batches(roots, 12, rank, 2) for rank in (0, 1)]
    for whole, first, second in zip(alone, *split, strict=True):
        assert whole.scene == first.scene + second.scene
        together = torch.cat([first.target.index, second.target.index])
        assert torch.equal(whole.target.index, together)


def test_another_batch_size_and_other_weights_go_on_at_the_same_samples(roots):
    before = batches(roots, 11)
    data = module(roots)
    data.trainer = fake_trainer()
    data.trainer.global_step = 11
    state = data.state_dict() | {"position": 22}
    used = {part: len(scenes(before, part)) for part in ("large", "small")}
    assert state["used"] == used and min(used.values()) > 0
    more = mixture(roots, weight=5.0)
    after = batches(roots, 20, state=state, batch_size=3, mixture=more)
    for part, size in (("large", 13), ("small", 5)):
        order = scenes(before, part) + scenes(after, part)
        assert len(set(order[:size])) == size <= len(order)
    # One that comes from a run with a single source begins its sets.
    fresh = batches(roots, 20, state={"position": 10, "seed": 0, "step": 5})
    for part, size in (("large", 13), ("small", 5)):
        assert len(set(scenes(fresh, part)[:size])) == size


def test_validation_draws_and_tests_take_all(roots):
    data = module(roots, val_scenes=7)
    first = [batch.scene[0] for batch in data.val_dataloader()]
    assert len(first) == 7 and {name[:5] for name in first} == {"large", "small"}
    assert first == [batch.scene[0] for batch in data.val_dataloader()]
    for stage in ("test", "predict"):
        found = []
        for rank in (0, 1):
            data = module(roots)
            data.trainer = fake_trainer(rank, 2)
            found += [b.scene[0] for b in getattr(data, f"{stage}_dataloader")()]
        every = [f"large-t{n:02d}" for n in range(5)] + ["small-t00", "small-t01"]
        assert sorted(found) == every


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mixture": {}}, "names no sources"),
        ({"overfit": "a00"}, "overfit is for one source"),
        ({"weight": 0.0}, "the weight of small is 0.0; expected more than 0"),
        ({"near": 30.0}, "near is 30.0 and far is 20.0"),
    ],
)
def test_what_makes_no_sense_is_refused(roots, options, said):
    if options.keys() & {"weight", "near"}:
        options = {"mixture": mixture(roots, **options)}
    with pytest.raises(ValueError, match=said):
        next(iter(module(roots, **options).train_dataloader()))


def test_a_mixture_in_yaml_trains_goes_on_and_is_tested(program, tmp_path):
    source = f"{{init_args: {{root: {program.scenes}, train_scenes: 4, test_scenes: 3, frames: 6, "
    source = f"{{class_path: GeneratedScenes, {source[1:]}image_shape: [32, 32]}}}}"
    (tmp_path / "mixture.yaml").write_text(
        f"data:\n  mixture:\n    near:\n      source: {source}\n      weight: 2\n      far: 8\n"
        f"    views:\n      source: {source}\n      train_views:\n"
        "        class_path: BoundedViewSampler\n"
        "        init_args: {context_views: 3, min_gap: 4, max_gap: 4, initial_min_gap: null,\n"
        "          initial_max_gap: null, target_views: 1}\n"
    )
    arguments = ["--config", tmp_path / "mixture.yaml", "--trainer.max_steps=3"]
    assert program("fit", *arguments) == 0, program.err
    weights = torch.load(program.checkpoint(), weights_only=True)
    assert sum(weights["SceneDataModule"]["used"].values()) == 3
    arguments = ["--config", program.run_dir / "config.yaml"]
    resume = ["--ckpt_path", program.checkpoint("step-0000002")]
    assert program("fit", *arguments, *resume, config=False) == 0, program.err
    again = torch.load(program.checkpoint(), weights_only=True)
    assert again["SceneDataModule"] == weights["SceneDataModule"]
    for name, value in weights["state_dict"].items():
        assert torch.equal(again["state_dict"][name], value), name
    assert program("test", *arguments, "--ckpt_path=last", config=False) == 0, program.err
    assert len(list((program.run_dir / "test" / "sheets").iterdir())) == 6
