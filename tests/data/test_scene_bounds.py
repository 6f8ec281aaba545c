"""Bounds of a source's scenes: found once, by any process, whatever views are asked for."""

import logging
import os
import shutil
from pathlib import Path

import pytest
from room_films import film_rooms
from tiny_scenes import generator

from mvsplat.data import scene_bounds
from mvsplat.data.chunks.chunk_scenes import ChunkScenes, write_chunks
from mvsplat.data.evaluation_index.scene_overlap import OverlapSettings, measure_overlap
from mvsplat.data.generated.recipe import Recipe
from mvsplat.data.loading.examples import ExampleSettings, SceneExamples
from mvsplat.data.loading.loaders import BatchLoader, ExampleBatches, LoaderSettings
from mvsplat.data.loading.skips import SkipReport
from mvsplat.data.loading.streams import ExactlyOncePlan, RankShare, ShuffledOrder
from mvsplat.data.loading.view_samplers import BoundedViewSampler, MiddleViewSampler
from mvsplat.data.readers.opening import AnyScenes, GatheredScenes
from mvsplat.data.scene_bounds import SceneBounds


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two rooms without bounds and one whose cameras all stand in one place."""
    folder = tmp_path_factory.mktemp("rooms")
    recipe = Recipe(6, 48, 64, 0.9, (50.0, 65.0), 18.0, 14.0, 0)
    scenes = [
        {name: entry[name] for name in ("key", "cameras", "images")}
        for entry in film_rooms(recipe, "train", 2)
    ]
    turning = {**scenes[0], "key": "turning", "cameras": scenes[0]["cameras"].clone()}
    turning["cameras"][:, [9, 13, 17]] = 0
    write_chunks(folder / "train", [*scenes, turning])
    return ChunkScenes(str(folder))


@pytest.fixture
def estimates(monkeypatch, tmp_path):
    """The scenes whose bounds are looked for, in this and in forked processes."""
    log = tmp_path / "estimates"
    log.touch()
    find = scene_bounds.find_bounds

    def noted(scene, near, far):
        with log.open("a") as file:
            file.write(f"{scene.key} {os.getpid()}\n")
        return find(scene, near, far)

    monkeypatch.setattr(scene_bounds, "find_bounds", noted)
    return lambda: [line.split()[0] for line in log.read_text().splitlines()]


def examples(source, views=None, **settings):
    settings = ExampleSettings(image_shape=(32, 32), **settings)
    return SceneExamples(source, "train", views or MiddleViewSampler(), settings)


def bounds_of(batch):
    pairs = {
        (near, far)
        for views in (batch.context, batch.target)
        for near, far in zip(views.near[0].tolist(), views.far[0].tolist(), strict=True)
    }
    (pair,) = pairs  # of a scene, the same for all its views
    return pair


def test_the_views_that_are_drawn_do_not_matter(source, estimates):
    found = set()
    sampler = BoundedViewSampler(min_gap=1, max_gap=5, initial_min_gap=1, initial_max_gap=5)
    drawn = examples(source, sampler)
    frames = set()
    for seed in range(6):
        batch = drawn.sample(0, 0, generator(seed))
        frames.add(tuple(batch.context.index[0].tolist()))
        found.add(bounds_of(batch))
    found.add(bounds_of(examples(source).sample(0, 0, generator())))
    assert len(found) == 1 and len(frames) > 1
    assert estimates() == [drawn.name(0)] * 2  # once by each of the two


def test_loader_workers_share_what_they_find(source, estimates):
    """Every scene many times, on two workers that start anew for every pass."""
    made = examples(source)
    found: dict[str, set] = {}
    for seed in range(3):
        order = ShuffledOrder(made.groups(), 1, seed)
        batches = ExampleBatches(made, order, seed, replace_skipped=False)
        settings = LoaderSettings(num_workers=2, persistent_workers=False, pin_memory=False)
        loader = BatchLoader(
            ExactlyOncePlan(RankShare(1, 0, 1), 3), batches, settings, SkipReport("train")
        )
        for batch in loader:
            found.setdefault(batch.scene[0], set()).add(bounds_of(batch))
        loader.close()
    rooms = [key for key in source.keys("train") if key != "turning"]
    assert sorted(found) == sorted(rooms) and all(len(values) == 1 for values in found.values())
    assert sorted(key for key in estimates() if key != "turning") == sorted(rooms)
    alone = examples(source)
    for index in range(3):
        if alone.name(index) != "turning":
            here = bounds_of(alone.sample(index, 0, generator()))
            assert found[alone.name(index)] == {here}


def test_every_way_to_the_scenes_gives_the_same_bounds(source, tmp_path):
    root = Path(source.roots[0])
    expected = bounds_of(examples(source).sample(0, 0, generator()))
    (tmp_path / "several").mkdir()
    shutil.copytree(root, tmp_path / "several" / "rooms")
    key = source.keys("train")[0]
    ways = {
        key: AnyScenes(train=[str(root)]),
        f"rooms/{key}": GatheredScenes(str(tmp_path / "several"), "train"),
    }
    for name, way in ways.items():
        made = examples(way)
        number = [made.name(index) for index in range(len(made))].index(name)
        assert bounds_of(made.sample(number, 0, generator())) == expected
    frustum = measure_overlap(source.scene("train", key), OverlapSettings(evidence="bounds"))
    depth = frustum.shown.position - frustum.extrinsics[:, None, :3, 3].double()
    depth = (depth * frustum.extrinsics[:, None, :3, 2]).sum(-1)
    assert expected[0] < float(depth.min()) < float(depth.max()) < expected[1]


def test_given_and_own_bounds_are_not_estimated_nor_announced(source, caplog):
    scene = source.scene("train", source.keys("train")[0])
    known = SceneBounds([scene.key], 0.5, 9.0)
    assert known.find(scene.key, scene) == (0.5, 9.0, "given")
    scene.near, scene.far = 1.0, 7.0
    with caplog.at_level(logging.WARNING, "mvsplat.data"):
        assert SceneBounds([scene.key], "auto", "auto").find(scene.key, scene) == (1, 7, "the data")
        assert SceneBounds([scene.key], "auto", 8.0).find(scene.key, scene)[:2] == (1, 8)
    assert not caplog.records


def test_what_was_estimated_is_said_once_a_kind(source, caplog):
    scenes = [source.scene("train", key) for key in source.keys("train")[:2]]
    blind = source.scene("train", scenes[0].key)
    blind.key = "blind"
    blind.image = lambda index: (_ for _ in ()).throw(ValueError("cannot be decoded"))
    blind.encoded = lambda index: None
    known = SceneBounds([*(scene.key for scene in scenes), "blind"], "auto", "auto")
    with caplog.at_level(logging.WARNING, "mvsplat.data"):
        for scene in (*scenes, *scenes, blind):
            known.find(scene.key, scene)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert scenes[0].key in said[0] and "from its pictures" in said[0] and "convert" in said[0]
    assert "blind" in said[1] and "cameras alone" in said[1] and "far off" in said[1]
