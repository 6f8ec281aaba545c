"""Loaders: the same batches whatever the workers, skips counted, no endless search."""

import gc
import logging
import multiprocessing
import time
import tracemalloc
from itertools import islice

import pytest
import torch
from processes import assert_all_end
from tiny_scenes import make_entry, open_files, write_dataset

from mvsplat.data.chunks.chunk_scenes import ChunkScenes, write_chunks
from mvsplat.data.faults import UnsuitableScene
from mvsplat.data.loading.examples import Examples, ExampleSettings, SceneExamples
from mvsplat.data.loading.loaders import BatchLoader, ExampleBatches, LoaderSettings
from mvsplat.data.loading.skips import SkipReport
from mvsplat.data.loading.streams import (
    EndlessPlan,
    ExactlyOncePlan,
    FixedPlan,
    InOrder,
    RankShare,
    SampleRequest,
    ShuffledOrder,
)
from mvsplat.data.loading.view_samplers import BoundedViewSampler
from mvsplat.types import Batch, Views

VIEWS = BoundedViewSampler(2, 2, min_gap=2, max_gap=6, warm_up_steps=0)


def scene_examples(source):
    return SceneExamples(source, "train", VIEWS, ExampleSettings((8, 8)), flip_probability=0.5)


def loader(examples, plan, workers=0, replace=True, order=None, **options):
    order = order or ShuffledOrder(examples.groups(), 2, 0)
    settings = LoaderSettings(1, workers, persistent_workers=options.pop("persistent", False))
    batches = ExampleBatches(examples, order, 0, replace)
    return BatchLoader(plan, batches, settings, SkipReport("train"), **options)


class Numbered(Examples):
    """Samples that are their own index; some cannot be used."""

    def __init__(self, count, unsuitable=()):
        self.count, self.unsuitable = count, set(unsuitable)

    def __len__(self):
        return self.count

    def sample(self, index, step, generator):
        if index in self.unsuitable:
            raise UnsuitableScene(f"remainder {index % 2}") from ValueError(f"broken {index}")
        bounds = torch.ones(1, 1)
        views = Views(torch.rand(1, 1, 3, 2, 2, generator=generator), torch.eye(4)[None, None],
                      torch.eye(3)[None, None], bounds, bounds + 1)  # fmt: skip
        return Batch(views, views, [str(index)])


def scenes(batches):
    return [scene for batch in batches for scene in batch.scene]


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_workers(root, workers):
    plan = EndlessPlan(RankShare(3))
    alone = list(islice(loader(scene_examples(ChunkScenes(str(root))), plan), 6))
    parallel = loader(scene_examples(ChunkScenes(str(root))), plan, workers)
    together = list(islice(parallel, 6))
    parallel.close()
    for one, two in zip(alone, together, strict=True):
        assert one.scene == two.scene
        assert torch.equal(one.target.index, two.target.index)
        assert torch.equal(one.context.image, two.context.image)
        assert torch.equal(one.target.extrinsics, two.target.extrinsics)


def test_workers_may_be_spawned(root):
    plan = ExactlyOncePlan(RankShare(2), 3)
    examples = scene_examples(ChunkScenes(str(root)))
    settings = LoaderSettings(num_workers=1, multiprocessing_context="spawn")
    made = BatchLoader(
        plan, ExampleBatches(examples, InOrder(3), 0, False), settings, SkipReport("test")
    )
    assert scenes(made) == ["a00", "a01", "a02"]
    made.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_scenes_are_replaced_and_counted(workers):
    examples = Numbered(10, unsuitable=[2, 3, 7])
    made = loader(examples, FixedPlan(RankShare(2), 10), workers, order=InOrder(10))
    assert scenes(made) == ["0", "1", "4", "4", "4", "5", "6", "8", "8", "9"]
    # 2 meets 2 and 3; 3 meets 3; 7 meets 7.
    assert made.report.counts == {"remainder 0": 1, "remainder 1": 3}


@pytest.mark.parametrize("workers", [0, 2])
def test_without_replacement_every_scene_comes_once_or_is_counted(workers):
    examples = Numbered(10, unsuitable=[2, 3, 7, 9])
    made = loader(
        examples, ExactlyOncePlan(RankShare(2), 10), workers, replace=False, order=InOrder(10)
    )
    assert [batch.scene for batch in made] == [["0", "1"], ["4", "5"], ["6"], ["8"]]
    assert made.report.counts == {"remainder 0": 1, "remainder 1": 3}
    assert len(made) == 5


@pytest.mark.parametrize("workers", [0, 1])
def test_no_usable_scene_is_an_error_with_the_reasons(workers):
    examples = Numbered(5, unsuitable=range(5))
    message = (
        r"in 20 tries: 12 remainder 0 \(sample \d, .*\), 8 remainder 1 \(sample \d, sample \d\)"
        r".*\nsample (\d): broken \1\nsample (\d): broken \2"
    )
    with pytest.raises(ValueError, match=message):
        next(iter(loader(examples, EndlessPlan(RankShare(2)), workers)))
    once = loader(
        examples, ExactlyOncePlan(RankShare(2), 5), workers, replace=False, require_some=True
    )
    with pytest.raises(
        ValueError,
        match=r"in 5 tries: 3 remainder 0 \(sample .*\), 2 remainder 1 \(sample \d, sample \d\)",
    ):
        list(once)


def test_the_search_for_a_usable_scene_is_bounded():
    examples = Numbered(3000, unsuitable=range(3000))
    with pytest.raises(ValueError, match="no usable scene in 1000 tries"):
        next(iter(loader(examples, EndlessPlan(RankShare(1)), order=InOrder(3000))))


def test_a_scene_is_tried_again_with_other_views():
    class Moody(Numbered):
        def sample(self, index, step, generator):
            if torch.rand((), generator=generator) < 0.5:
                raise UnsuitableScene("views too close together")
            return super().sample(index, step, generator)

    made = loader(Moody(1), FixedPlan(RankShare(1), 30))
    assert scenes(made) == ["0"] * 30
    assert 10 < made.report.counts["views too close together"] < 60


def test_real_scenes_that_are_too_short_are_counted(tmp_path):
    entries = [make_entry(f"s{n}", frames=2 if n % 3 == 0 else 7) for n in range(9)]
    write_chunks(tmp_path / "train", entries)
    made = loader(scene_examples(ChunkScenes(str(tmp_path))), FixedPlan(RankShare(1), 9))
    found = scenes(made)
    assert len(found) == 9 and set(found) == {f"s{n}" for n in range(9) if n % 3}
    assert made.report.counts["too few frames for the gap between context views"] >= 3


def test_reasons_are_said_once_and_summed_up(caplog):
    examples = Numbered(400, unsuitable=range(1, 400, 2))
    with caplog.at_level(logging.WARNING, "mvsplat.data"):
        made = loader(
            examples, ExactlyOncePlan(RankShare(1), 400), replace=False, order=InOrder(400)
        )
        assert len(list(made)) == 200
        made.report.summarize()
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "train: skipped sample 1: remainder 1: broken 1"
    assert messages[-2:] == [
        "train: skipped so far: 100 remainder 1 (sample 1, sample 3, sample 5, ...)",
        "train: skipped so far: 200 remainder 1 (sample 1, sample 3, sample 5, ...)",
    ]
    assert len(messages) == 7  # five details, two summaries


@pytest.mark.parametrize("persistent", [False, True])
def test_a_fixed_loader_gives_the_same_again_and_again(root, persistent):
    made = loader(
        scene_examples(ChunkScenes(str(root))), FixedPlan(RankShare(2), 5), 2, persistent=persistent
    )
    first, second = list(made), list(made)
    next(iter(made))  # one that is broken off
    third = list(made)
    made.close()
    fourth = list(made)
    made.close()
    for other in (second, third, fourth):
        assert scenes(other) == scenes(first) and len(other) == len(made) == 3
        for one, two in zip(first, other, strict=True):
            assert torch.equal(one.target.image, two.target.image)


def test_damage_in_training_is_skipped_with_its_cause(tmp_path, caplog):
    root = write_dataset(tmp_path, 4, 1)
    (root / "train/000001.torch").write_bytes(b"nonsense")
    made = loader(scene_examples(ChunkScenes(str(root))), FixedPlan(RankShare(1), 4))
    with caplog.at_level(logging.WARNING, "mvsplat.data"):
        assert set(scenes(made)) <= {"a00", "a01", "a02"}
    assert made.report.counts == {"damaged": 1}
    assert "skipped a03" in caplog.text and "000001.torch is damaged" in caplog.text


def test_a_workers_memory_stays_flat(tmp_path):
    """Of ten chunks, 4 are open at a time; nothing else is kept of the samples that were made."""
    write_chunks(tmp_path / "train", (make_entry(f"s{n}") for n in range(40)), chunk_bytes=4000)
    source = ChunkScenes(str(tmp_path), open_chunks=4)
    examples = scene_examples(source)
    batches = ExampleBatches(
        examples, ShuffledOrder(examples.groups(), 4, 0), 0, replace_skipped=True
    )
    used = []
    tracemalloc.start()
    for position in range(250):
        batches[[SampleRequest(position, position)]]
        if position % 50 == 49:
            gc.collect()
            used.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert len(open_files(tmp_path)) == 4
    assert max(used[1:]) - min(used[1:]) < 100_000, used


def test_workers_end_with_a_parent_that_is_killed(root):
    """Also while they wait to hand over a batch that nobody takes."""
    context = multiprocessing.get_context("spawn")
    read, write = context.Pipe(duplex=False)
    parent = context.Process(target=load_and_tell, args=(str(root), write))
    parent.start()
    write.close()  # so that a parent that fails is an error, not silence
    workers = read.recv()
    parent.kill()
    parent.join()
    assert_all_end(workers)


def load_and_tell(root, pipe):
    """Start loading, say which processes do it, and take no more."""
    made = loader(scene_examples(ChunkScenes(root)), EndlessPlan(RankShare(64)), 2)
    next(iter(made))
    pipe.send([process.pid for process in multiprocessing.active_children()])
    time.sleep(60)


def test_endless_loaders_have_no_length():
    with pytest.raises(TypeError):
        len(loader(Numbered(3), EndlessPlan(RankShare(1))))


@pytest.mark.parametrize(
    "settings", [{"batch_size": 0}, {"num_workers": -1}, {"prefetch_factor": 0}]
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match="must be at least"):
        LoaderSettings(**settings)
