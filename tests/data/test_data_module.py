"""The data module under Lightning's trainer: resuming, ranks, stages, messages."""

import json
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny_scenes import make_entry, write_dataset

from mvsplat.data.chunks.chunk_scenes import ChunkScenes, write_chunks
from mvsplat.data.data_module import SceneDataModule
from mvsplat.data.evaluation_index.view_sampler import EvaluationViewSampler
from mvsplat.data.loading.augmentation import Augmentation
from mvsplat.data.loading.loaders import LoaderSettings
from mvsplat.data.loading.view_samplers import BoundedViewSampler

TRAIN_VIEWS = BoundedViewSampler(
    min_gap=2, max_gap=6, initial_min_gap=1, initial_max_gap=1, warm_up_steps=8
)


def module(root, workers=0, batch_size=2, **options):
    settings = {
        "image_shape": (8, 8),
        "train_views": TRAIN_VIEWS,
        "val_scenes": 3,
        "train_loader": LoaderSettings(batch_size, workers),
        "val_loader": LoaderSettings(1, workers),
        "test_loader": LoaderSettings(1, workers),
        "predict_loader": LoaderSettings(1, workers),
    }
    return SceneDataModule(ChunkScenes(str(root)), **settings | options)


class Recorder(LightningModule):
    """Remembers what it is given; its weight makes training real."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained, self.seen = [], []

    def training_step(self, batch, batch_idx):
        views = (batch.context.index.tolist(), batch.target.index.tolist())
        flips = (batch.target.extrinsics[:, -1, 0, 3] < 0).tolist()
        self.trained.append((self.global_step, batch.scene, views, flips))
        return self.weight * batch.target.image.mean()

    def validation_step(self, batch, batch_idx):
        self.seen.append(batch.scene[0])

    test_step = validation_step

    def predict_step(self, batch, batch_idx):
        self.seen.append(batch.scene[0])
        return batch.scene

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder, **options):
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": -1,
        "max_steps": 9,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
        "callbacks": [
            ModelCheckpoint(folder, save_top_k=-1, every_n_train_steps=2, filename="{step}")
        ],
    }
    return Trainer(**settings | options)


def fake_trainer(rank=0, world=1, accumulate=1):
    """As much of a trainer as the data module asks, before the first batch."""
    none = SimpleNamespace(processed=0)
    progress = SimpleNamespace(is_last_batch=False, total=none, current=none)
    epoch_loop = SimpleNamespace(batch_progress=progress)
    return SimpleNamespace(
        global_rank=rank, world_size=world, accumulate_grad_batches=accumulate, global_step=0,
        overfit_batches=0, fit_loop=SimpleNamespace(epoch_loop=epoch_loop),
        state=SimpleNamespace(fn=None),
    )  # fmt: skip


def ranks(root, stage, world, workers=0, **options):
    """Every rank's batches of a stage, as its loader gives them."""
    found = []
    for rank in range(world):
        data = module(root, workers, **options)
        data.trainer = fake_trainer(rank, world)
        loader = getattr(data, f"{stage}_dataloader")()
        found.append([batch.scene for batch in islice(loader, 13)])
        loader.close()
    return found


VALIDATING = {"val_check_interval": 4, "check_val_every_n_epoch": None}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("epochs", [VALIDATING, {"limit_train_batches": 5}])
def test_a_resumed_run_sees_what_the_whole_run_saw(root, tmp_path, workers, accumulate, epochs):
    options = {"accumulate_grad_batches": accumulate, **epochs}
    whole, resumed = Recorder(), Recorder()
    trainer(tmp_path / "a", **options).fit(whole, module(root, workers))
    checkpoint = tmp_path / "a" / "step=4.ckpt"
    trainer(tmp_path / "b", **options).fit(resumed, module(root, workers), ckpt_path=checkpoint)
    assert 0 < len(resumed.trained) < len(whole.trained)
    assert resumed.trained == whole.trained[-len(resumed.trained) :]
    assert torch.equal(resumed.weight, whole.weight)


class PictureRecorder(Recorder):
    """Remembers the pictures of training, and their sizes."""

    def training_step(self, batch, batch_idx):
        views = batch.context
        content = views.image.sum().item(), views.intrinsics.sum().item(), views.far.sum().item()
        self.trained.append((self.global_step, tuple(views.image.shape[-2:]), content))
        return self.weight * batch.target.image.mean()


def test_sizes_and_changes_of_samples_resume_exactly_and_are_one_a_step(root, tmp_path):
    def data():
        return module(
            root,
            train_shapes={"8x8": 1.0, "8x12": 1.0, "4x6": 1.0},
            augmentation=Augmentation(jpeg=90),
        )

    whole, resumed = PictureRecorder(), PictureRecorder()
    trainer(tmp_path / "a", accumulate_grad_batches=2).fit(whole, data())
    checkpoint = tmp_path / "a" / "step=4.ckpt"
    trainer(tmp_path / "b", accumulate_grad_batches=2).fit(resumed, data(), ckpt_path=checkpoint)
    assert resumed.trained == whole.trained[-len(resumed.trained) :]
    shapes = {(step, shape) for step, shape, _ in whole.trained}
    steps = {step for step, _ in shapes}
    assert len(shapes) == len(steps) > 4 and len({shape for _, shape in shapes}) > 1
    assert len({content for *_, content in whole.trained}) == len(whole.trained)
    # Nothing of it outside training.
    assert next(iter(data().val_dataloader())).context.image.shape[-2:] == (8, 8)


def test_workers_change_nothing_and_the_gap_follows_the_step(root, tmp_path):
    alone, parallel = Recorder(), Recorder()
    trainer(tmp_path / "a", accumulate_grad_batches=2).fit(alone, module(root, 0))
    trainer(tmp_path / "b", accumulate_grad_batches=2).fit(parallel, module(root, 3))
    assert alone.trained == parallel.trained
    for step, _, (contexts, _), _ in alone.trained:
        low, high = TRAIN_VIEWS.gap_bounds(step)
        assert all(low <= context[-1] - context[0] <= high for context in contexts)
    # Every scene once before any comes again.
    scenes = [scene for _, batch, _, _ in alone.trained for scene in batch]
    assert sorted(scenes[:13]) == [f"a{n:02d}" for n in range(13)] == sorted(scenes[13:26])
    assert scenes[:13] != scenes[13:26]


def test_another_batch_size_goes_on_at_the_same_sample(root):
    data = module(root)
    data.load_state_dict({"position": 6, "seed": 0})
    larger = module(root, batch_size=3)
    larger.load_state_dict(data.state_dict())
    reference = [s for b in islice(module(root).train_dataloader(), 9) for s in b.scene]
    assert [s for b in islice(larger.train_dataloader(), 4) for s in b.scene] == reference[6:]


def test_context_views_vary_by_step_alike_on_every_rank_and_however_a_step_is_divided(root):
    views = BoundedViewSampler((2, 4), 1, min_gap=4, max_gap=4, initial_min_gap=None,
                               initial_max_gap=None)  # fmt: skip

    def counts(accumulate=1, rank=0, world=1, batch_size=2):
        data = module(root, batch_size=batch_size, train_views=views)
        data.trainer = fake_trainer(rank, world, accumulate)
        batches = list(islice(data.train_dataloader(), 20 * accumulate))
        assert all(len(batch.scene) == batch_size for batch in batches)
        return [batch.context.image.shape[1] for batch in batches]

    whole = counts()
    assert set(whole) == {2, 3, 4}
    assert counts(batch_size=1, world=2) == counts(batch_size=1, world=2, rank=1) == whole
    assert counts(batch_size=1, accumulate=2)[::2] == counts(batch_size=1, accumulate=2)[1::2]
    assert counts(batch_size=1, accumulate=2)[::2] == whole


def test_another_seed_on_resume_is_said(root, caplog):
    module(root, seed=1).load_state_dict({"position": 6, "seed": 0})
    assert "trained with data seed 0, this run goes on with seed 1" in caplog.text


def test_the_state_counts_used_batches_only(root, tmp_path):
    data = module(root, 2)
    fitting = trainer(tmp_path, max_steps=5)
    fitting.fit(Recorder(), data)
    assert data.state_dict() == {"position": 10, "seed": 0}
    saved = torch.load(tmp_path / "step=4.ckpt", weights_only=True)["SceneDataModule"]
    assert saved == {"position": 8, "seed": 0}


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_train_on_different_samples(root, workers):
    alone = ranks(root, "train", 1, batch_size=1)[0]
    split = ranks(root, "train", 2, workers, batch_size=1)
    assert [s for pair in zip(*split, strict=True) for s in pair][:13] == alone
    assert not set(map(tuple, split[0][:6])) & set(map(tuple, split[1][:6]))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("stage", ["test", "predict"])
def test_every_test_scene_comes_exactly_once_over_ranks(root, stage, world, workers):
    if workers and world == 7:
        pytest.skip("processes enough")
    found = ranks(root, stage, world, workers)
    assert sorted(s for rank in found for batch in rank for s in batch) == [
        f"t{n:02d}" for n in range(5)
    ]


def test_ranks_validate_equally_often(root):
    found = ranks(root, "val", 2)
    assert [len(rank) for rank in found] == [2, 2]
    assert len({s for rank in found for batch in rank for s in batch}) == 4


def test_validation_is_the_same_every_time_and_never_runs_dry(root, tmp_path):
    model = Recorder()
    fitting = trainer(tmp_path, val_check_interval=2, check_val_every_n_epoch=None,
                      num_sanity_val_steps=0)  # fmt: skip
    fitting.fit(model, module(root, 1))
    rounds = [model.seen[start : start + 3] for start in range(0, len(model.seen), 3)]
    assert len(rounds) == 4 and all(scenes == rounds[0] for scenes in rounds)
    assert len(set(rounds[0])) == 3


def test_validation_on_other_scenes_each_time(root, tmp_path):
    model = Recorder()
    fitting = trainer(tmp_path, val_check_interval=1, check_val_every_n_epoch=None,
                      num_sanity_val_steps=0, max_steps=5)  # fmt: skip
    fitting.fit(model, module(root, val_same_scenes=False))
    rounds = [tuple(model.seen[start : start + 3]) for start in range(0, 15, 3)]
    assert len(set(rounds)) > 1 and set(model.seen) == {f"t{n:02d}" for n in range(5)}


def test_all_stages_run_in_one_trainer(root, tmp_path):
    model, data = Recorder(), module(root, 1)
    running = trainer(tmp_path, max_steps=2)
    running.fit(model, data)
    model.seen.clear()
    running.test(model, data, verbose=False)
    assert sorted(model.seen) == [f"t{n:02d}" for n in range(5)]
    predicted = running.predict(model, data)
    assert [scene for batch in predicted for scene in batch] == model.seen[5:] == model.seen[:5]
    model.seen.clear()
    running.validate(model, data, verbose=False)
    assert len(model.seen) == 3


def test_overfitting_is_to_one_scene(root, tmp_path):
    model, data = Recorder(), module(root, overfit="a07")
    trainer(tmp_path, max_steps=3, **VALIDATING).fit(model, data)
    trained = [scene for _, batch, _, _ in model.trained for scene in batch]
    assert trained == ["a07"] * 6 and set(model.seen) == {"a07"}
    views = [views for _, _, views, _ in model.trained]
    assert views[0] != views[1]
    assert len(module(root, overfit="a07").test_dataloader()) == 5
    with pytest.raises(ValueError, match="no scene 'a77'"):
        module(root, overfit="a77").train_dataloader()
    with pytest.raises(ValueError, match="set overfit to a scene"):
        trainer(tmp_path, overfit_batches=2).fit(Recorder(), module(root))


def test_the_source_is_prepared_and_missing_data_is_said_early(tmp_path):
    class Preparing(ChunkScenes):
        def prepare(self):
            write_dataset(tmp_path / "made", 3, 2)

    data = SceneDataModule(Preparing(str(tmp_path / "made")))
    data.prepare_data()
    data.setup("fit")
    with pytest.raises(FileNotFoundError, match="no train scenes"):
        trainer(tmp_path).fit(Recorder(), module(tmp_path / "nowhere"))


def test_stages_without_scenes_of_their_own_do_not_need_the_source(root, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/test").symlink_to(root / "test")
    model = Recorder()
    trainer(tmp_path).test(model, module(tmp_path / "data"), verbose=False)  # no train/ there
    assert len(model.seen) == 5


def test_skips_of_an_evaluation_index_are_counted(root, tmp_path, capsys):
    path = tmp_path / "index.json"
    entry = {"context": [0, 2], "target": [1]}
    path.write_text(json.dumps({
        "t00": entry, "t01": None, "t02": {"context": [0, 99], "target": [1]}, "gone": entry
    }))  # fmt: skip
    model, data = Recorder(), module(root, test_views=EvaluationViewSampler(str(path)))
    trainer(tmp_path).test(model, data, verbose=False)
    assert model.seen == ["t00"]
    assert data.skipped["test"] == {
        "not in the evaluation index": 2,
        "null in the evaluation index": 1,
        "in the evaluation index, but not in the data": 1,
        "has fewer frames than the evaluation index names": 1,
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_a_test_without_usable_scenes_says_why(tmp_path, workers):
    root = write_dataset(tmp_path, 1, 3, focal=0.1)
    with pytest.raises(
        ValueError, match=r"in 3 tries: 3 field of view over 100 degrees \(t00, t01, t02\)"
    ):
        trainer(tmp_path).test(Recorder(), module(root, workers), verbose=False)
    with pytest.raises(ValueError, match="in 20 tries: 20 field of view over 100 degrees"):
        trainer(tmp_path, limit_val_batches=0).fit(Recorder(), module(root, workers))


def test_damage_stops_neither_training_nor_a_test(tmp_path):
    entries = [make_entry(f"s{n}") for n in range(4)]
    entries[2]["images"] = [torch.zeros(10, dtype=torch.uint8)] * 9
    for split in ("train", "test"):
        write_chunks(tmp_path / split, entries)
    model, data = Recorder(), module(tmp_path)
    trainer(tmp_path, limit_val_batches=0).fit(model, data)
    assert {s for _, batch, _, _ in model.trained for s in batch} == {"s0", "s1", "s3"}
    assert data.skipped["train"]["damaged"] > 0
    tested, data = Recorder(), module(tmp_path)
    trainer(tmp_path).test(tested, data, verbose=False)
    (skip,) = data.left_out("test")
    assert (skip.name, skip.reason) == ("s2", "damaged")
    assert "000000.torch, scene 's2': image 0 cannot be decoded" in skip.detail


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"flip_probability": 1.5}, r"flip_probability is 1\.5"),
        ({"val_scenes": 0}, "val_scenes is 0"),
        ({"shuffle_groups": 0}, "shuffle_groups is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"near": 3.0, "far": 2.0}, "expected near < far"),
    ],
)
def test_bad_arguments_are_refused(root, option, message):
    with pytest.raises(ValueError, match=message):
        module(root, **option)
