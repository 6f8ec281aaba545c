"""Samples show the frames they say, with the right cameras and bounds; bad scenes are counted."""

import json
import re

import numpy as np
import pytest
import torch
import wall
from noise import noise
from PIL import Image
from tiny_scenes import encoded, generator, make_entry, write_dataset

from mvsplat.data.chunks.chunk_scenes import ChunkScene, ChunkScenes, encode_depth, write_chunks
from mvsplat.data.evaluation_index.view_sampler import EvaluationViewSampler
from mvsplat.data.faults import UnsuitableScene
from mvsplat.data.loading.collation import collate
from mvsplat.data.loading.examples import ExampleSettings, SceneExamples, field_of_view
from mvsplat.data.loading.view_samplers import (
    AllViewSampler,
    BoundedViewSampler,
    MiddleViewSampler,
)
from mvsplat.data.scene import Scene, SceneSource

SHAPE = (8, 8)


def examples(source, views=None, split="train", flip=0.0, only=None, **settings):
    settings = ExampleSettings(**{"image_shape": SHAPE} | settings)
    views = views or MiddleViewSampler(2, 3)
    return SceneExamples(source, split, views, settings, flip, only)


def one_scene(folder, **changes):
    """A source with the single training scene ``one``, some of its fields replaced."""
    write_chunks(folder / "train", [make_entry("one") | changes])
    return ChunkScenes(str(folder))


def test_a_sample_shows_the_frames_it_says(source):
    batch = examples(source).sample(4, 0, generator())
    assert batch.scene == ["a04"]
    assert batch.context.index.tolist() == [[0, 8]] and batch.target.index.tolist() == [[2, 4, 6]]
    for views in (batch.context, batch.target):
        assert views.image.shape == (1, views.index.shape[1], 3, *SHAPE)
        torch.testing.assert_close(
            255 * views.image[0, :, 0], views.index[0, :, None, None].expand(-1, *SHAPE).float()
        )
        torch.testing.assert_close(views.extrinsics[0, :, 0, 3], 0.1 * views.index[0])
        assert (views.near == 1).all() and (views.far == 10).all()
        assert views.depth is None


def test_each_frame_is_decoded_once(source, monkeypatch):
    decoded = []
    scene = source.scene("train", "a00")
    image = type(scene).image
    monkeypatch.setattr(
        type(scene), "image", lambda self, frame: decoded.append(frame) or image(self, frame)
    )
    views = BoundedViewSampler(2, 30, min_gap=4, max_gap=4, warm_up_steps=0)
    examples(source, views).sample(0, 0, generator())
    assert len(decoded) == len(set(decoded)) <= 5


def test_a_sample_depends_on_its_arguments_alone(source):
    views = BoundedViewSampler(2, 4, min_gap=1, max_gap=8, warm_up_steps=0)
    made = examples(source, views, flip=0.5)
    first = [made.sample(index, 0, generator(index)) for index in range(13)]
    torch.manual_seed(123)
    again = [made.sample(index, 0, generator(index)) for index in reversed(range(13))][::-1]
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one.target.index, two.target.index)
        assert torch.equal(one.context.image, two.context.image)
        assert torch.equal(one.context.extrinsics, two.context.extrinsics)


def test_flips_come_as_often_as_asked(source):
    made = examples(source, flip=0.5)
    moved = [bool(made.sample(0, 0, generator(s)).target.extrinsics[0, 1, 0, 3] < 0)
             for s in range(100)]  # fmt: skip
    assert 30 < sum(moved) < 70
    assert examples(source, flip=1.0).sample(0, 0, generator()).target.extrinsics[0, 1, 0, 3] < 0


def test_bounds_are_overridden_one_by_one(source, tmp_path):
    batch = examples(source, near=0.5).sample(0, 0, generator())
    assert batch.context.near[0, 0] == 0.5 and batch.target.far[0, 0] == 10
    entry = make_entry("one")
    del entry["near"], entry["far"]
    write_chunks(tmp_path / "train", [entry])
    without = ChunkScenes(str(tmp_path))
    estimated = examples(without, near=1.0).sample(0, 0, generator()).context
    assert estimated.near[0, 0] == 1 and 1 < estimated.far[0, 0] < 1000
    assert examples(without, near=1.0, far=100.0).sample(0, 0, generator()).context.far[0, 1] == 100
    with pytest.raises(UnsuitableScene, match="depth bounds that do not fit") as caught:
        examples(source, near=20.0).sample(0, 0, generator())
    assert "near is 20.0 and far is 10.0 in 'a00'" in str(caught.value.__cause__)


def test_depth_comes_along(tmp_path):
    source = ChunkScenes(str(write_dataset(tmp_path, 2, 1, depth=True, size=(8, 8))))
    batch = examples(source, near=0.2, flip=1.0).sample(0, 0, generator())
    expected = 1 + np.arange(64).reshape(8, 8) / 64 + 4
    np.testing.assert_allclose(batch.target.depth[0, 1].flip(-1), expected, rtol=1e-3)
    mixed = collate([batch, batch])
    assert mixed.context.depth.shape == (2, 2, 8, 8)


@pytest.mark.parametrize(
    ("settings", "changes", "reason"),
    [
        ({"frame_shape": (12, 17)}, {}, "frames are not 12 pixels high and 17 wide"),
        ({"max_field_of_view": 53.0}, {}, "field of view over 53 degrees"),
        ({"min_baseline": 0.81}, {}, r"baseline under 0\.81"),
        ({"max_baseline": 0.79}, {}, r"baseline over 0\.79"),
        ({}, {"images": [torch.zeros(9).byte()] * 9}, "damaged"),
        ({}, {"cameras": torch.zeros(9, 18)}, "damaged"),
    ],
)
def test_unsuitable_scenes_say_why(tmp_path, settings, changes, reason):
    source = ChunkScenes(str(tmp_path))
    torch.save([make_entry("one") | changes], _train(tmp_path) / "0.torch")
    made = examples(source, **settings)
    with pytest.raises(UnsuitableScene, match=f"^{reason}$") as caught:
        made.sample(0, 0, generator())
    if reason == "damaged":
        assert "0.torch, scene 'one'" in str(caught.value.__cause__)


class Faulty(SceneSource):
    """Scenes of an own kind, each with a fault that readers of ours would have found."""

    def __init__(self, scene):
        self.faulty = scene

    def keys(self, split):
        return ["one"]

    def scene(self, split, key):
        return self.faulty


class Plain(Scene):
    """Nine grey frames, then changes."""

    def __init__(self, **changes):
        self.key = "one"
        self.extrinsics = torch.eye(4).repeat(9, 1, 1)
        self.extrinsics[:, 0, 3] = 0.1 * torch.arange(9)
        self.intrinsics = torch.eye(3).repeat(9, 1, 1)
        self.intrinsics[:, :2, 2] = 0.5
        self.near, self.far = 1.0, 10.0
        self.error = changes.pop("error", None)
        self.__dict__.update(changes)

    def image(self, index):
        if self.error is not None:
            raise self.error
        return Image.new("RGB", (16, 12))


@pytest.mark.parametrize(
    ("changes", "settings", "reason", "detail"),
    [
        # The estimated far lies below the given near.
        ({"near": None, "far": None}, {"near": 1e6}, "depth bounds that do not fit", "near is 10+"),
        ({"near": None, "far": None, "extrinsics": torch.eye(4).repeat(9, 1, 1)}, {},
         "no depth bounds", "'one' has no depth bounds"),
        ({"extrinsics": torch.zeros(9, 4, 4)}, {}, "unusable cameras", "frame '0' is no rotation"),
        ({"intrinsics": torch.zeros(9, 3, 3)}, {"max_field_of_view": None}, "unusable cameras",
         "focal"),
        ({"intrinsics": torch.full((9, 3, 3), torch.nan)}, {}, "unusable cameras", "not finite"),
        ({"error": IndexError("no frame 8")}, {}, "damaged", "no frame 8"),
        ({"error": KeyError("images")}, {}, "damaged", "images"),
        ({"error": RuntimeError("unreadable member")}, {}, "damaged", "unreadable member"),
        ({"error": OSError("input/output error")}, {}, "damaged", "input/output"),
        ({"error": SyntaxError("broken PNG")}, {}, "damaged", "broken PNG"),
    ],
)  # fmt: skip
def test_any_fault_of_a_scene_makes_it_unsuitable(changes, settings, reason, detail):
    made = examples(Faulty(Plain(**changes)), **settings)
    with pytest.raises(UnsuitableScene, match=f"^{reason}$") as caught:
        made.sample(0, 0, generator())
    assert re.search(detail, str(caught.value.__cause__))


@pytest.mark.parametrize("error", [TypeError("oh"), AttributeError("oh"), AssertionError("oh")])
def test_a_mistake_in_a_program_surfaces(error):
    with pytest.raises(type(error), match="oh"):
        examples(Faulty(Plain(error=error))).sample(0, 0, generator())


def test_views_beyond_a_scenes_end_make_it_unsuitable(source):
    class Beyond(MiddleViewSampler):
        def sample(self, scene, step, generator):
            return torch.tensor([0, 4]), torch.tensor([self.target_views])

    assert examples(source, Beyond(2, 8)).sample(0, 0, generator()).target.index.tolist() == [[8]]
    with pytest.raises(UnsuitableScene, match="views beyond its end") as caught:
        examples(source, Beyond(2, 9)).sample(0, 0, generator())
    assert "[0, 4, 9] of 'a00', which has 9 frames" in str(caught.value.__cause__)


def _train(folder):
    (folder / "train").mkdir()
    (folder / "train/index.json").write_text('{"one": "0.torch"}')
    return folder / "train"


def test_filters_let_through_what_they_should(source):
    suitable = {"frame_shape": (12, 16), "max_field_of_view": 54.0}
    examples(source, min_baseline=0.79, max_baseline=0.81, **suitable).sample(0, 0, generator())
    examples(source, max_field_of_view=None).sample(0, 0, generator())


def test_field_of_view_closed_form():
    intrinsics = torch.tensor([[0.5, 0, 0.5], [0, 1.0, 0.0], [0, 0, 1]])
    torch.testing.assert_close(field_of_view(intrinsics), torch.tensor([90.0, 45.0]))


def test_one_scene_alone_and_unknown_ones(source):
    alone = examples(source, only="a07")
    assert len(alone) == 1 and alone.sample(0, 0, generator()).scene == ["a07"]
    with pytest.raises(ValueError, match="no scene 'a99' among the 13 train scenes; did you mean"):
        examples(source, only="a99")


def test_indices_run_group_by_group(source):
    made = examples(source)
    assert made.groups() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11], [12]]
    assert [made.name(index) for index in range(3)] == ["a00", "a01", "a02"]


def test_an_evaluation_index_chooses_the_scenes(source, tmp_path):
    path = tmp_path / "index.json"
    path.write_text(
        '{"a05": {"context": [1, 3], "target": [2]}, "a04": null, '
        '"a02": {"context": [0, 8], "target": [4]}, "b": {"context": [0, 1], "target": [2]}}'
    )
    made = examples(source, EvaluationViewSampler(str(path)))
    assert [made.name(index) for index in (0, 1)] == ["a02", "a05"] and made.groups() == [[0], [1]]
    assert made.choice.left_out["null in the evaluation index"] == ["a04"]
    assert list(made.choice.unusable["in the evaluation index, but not in the data"]) == ["b"]
    foreign = {name: {"context": [0, 1], "target": [2]} for name in ("a01.mp4", "re10k/a02", "c")}
    path.write_text(json.dumps(foreign))
    message = (
        "none of the 13 train scenes can be used: 13 not in the evaluation index (a00, a01, ...), "
        "3 in the evaluation index, but not in the data (a01.mp4, re10k/a02, ...)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        examples(source, EvaluationViewSampler(str(path)))


def test_an_evaluation_index_may_have_several_runs_of_a_scene(source, tmp_path):
    path = tmp_path / "index.json"
    path.write_text(
        '{"a05_01": {"context": [1, 3], "target": [2]}, "a05_00": {"context": [0, 8], "target": '
        '[4]}, "a01": {"context": [0, 8], "target": [4]}, "a99_00": null, "a05_x": null}'
    )
    made = examples(source, EvaluationViewSampler(str(path)))
    batches = [made.sample(index, 0, generator()) for index in range(len(made))]
    assert [batch.scene for batch in batches] == [["a01"], ["a05_01"], ["a05_00"]]
    assert [batch.target.index.tolist() for batch in batches] == [[[4]], [[2]], [[4]]]
    left_out = {reason: len(names) for reason, names in made.choice.left_out.items()}
    assert left_out == {"not in the evaluation index": 11, "null in the evaluation index": 2}


def test_batches_join_samples_and_refuse_mixtures(source, tmp_path):
    made = examples(source)
    batch = collate([made.sample(index, 0, generator()) for index in (3, 1)])
    assert batch.scene == ["a03", "a01"] and batch.context.image.shape == (2, 2, 3, *SHAPE)
    assert batch.target.index.tolist() == [[2, 4, 6]] * 2
    three = examples(source, MiddleViewSampler(3, 3)).sample(0, 0, generator())
    with pytest.raises(ValueError, match="numbers or sizes of context views .*batch_size to 1"):
        collate([batch, three])
    write_chunks(tmp_path / "train", [make_entry("deep", depth=True)])
    deep = examples(ChunkScenes(str(tmp_path))).sample(0, 0, generator())
    both = collate([deep, made.sample(0, 0, generator())])
    assert (both.context.depth[0] > 0).all() and (both.context.depth[1] == 0).all()


def test_portrait_photographs_of_any_size(tmp_path):
    photos = [encoded(noise((30, 50), 90), "JPEG")] * 9
    source = one_scene(tmp_path, images=photos)
    batch = examples(source, AllViewSampler(), image_shape=(16, 32)).sample(0, 0, generator())
    assert batch.target.image.shape == (1, 7, 3, 16, 32)
    assert batch.target.image.std() > 0.01


@pytest.mark.parametrize(
    "settings",
    [{"near": 0.0}, {"far": float("inf")}, {"near": 5.0, "far": 2.0}, {"image_shape": (0, 8)}],
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match="expected"):
        ExampleSettings(**settings)


def test_photographs_in_re10k_layout_with_a_published_index(tmp_path):
    source = ChunkScenes(str(wall.write_chunk(tmp_path, 9, (160, 90), key="office")))
    index = tmp_path / "index.json"
    index.write_text('{"office": {"context": [2, 6], "target": [3, 4, 5]}}')
    made = examples(source, EvaluationViewSampler(str(index)), "test", image_shape=(45, 45),
                    frame_shape=(90, 160), near=2.0, far=20.0)  # fmt: skip
    batch = made.sample(0, 0, generator())
    assert batch.scene == ["office"]
    assert batch.context.index.tolist() == [[2, 6]] and batch.target.index.tolist() == [[3, 4, 5]]
    assert batch.context.image.shape == (1, 2, 3, 45, 45)
    # At half size each frame shows the one before moved by half the pixels; not at the margins,
    # where resizing looks beyond the frame.
    shift, images = wall.SHIFT // 2, batch.target.image[0]
    torch.testing.assert_close(images[1:, :, :, 2 : -shift - 2], images[:-1, :, :, shift + 2 : -2])
    assert images.std() > 0.05
    places = batch.target.extrinsics[0, :, :3, 3]
    expected = wall.STEP * torch.tensor([3.0, 4, 5])
    torch.testing.assert_close(places, torch.stack([expected, 0 * expected, 0 * expected], -1))


def test_encoded_depth_of_a_short_range_stays_precise():
    depth = np.linspace(1.3, 8.8, 1000).reshape(20, 50)
    entry = make_entry("one", 1) | {"depths": [encode_depth(depth, 1.0)]}
    np.testing.assert_allclose(ChunkScene(entry, "x").depth(0), depth, rtol=1e-4)
