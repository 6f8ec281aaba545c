"""Generated data sets: what is in the frames, and how they are written."""

import json
import shutil
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mvsplat.data.generated import filming
from mvsplat.data.generated.generated_scenes import GeneratedScenes


def small(root, **changes):
    values = dict(train_scenes=2, test_scenes=2, frames=3, image_shape=(32, 48))
    return GeneratedScenes(str(root), **{**values, **changes})


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Eight prepared scenes of the default kind."""
    source = GeneratedScenes(str(tmp_path_factory.mktemp("data")), train_scenes=0, test_scenes=8)
    source.prepare()
    return [source.scene("test", key) for key in source.keys("test")]


def frame(scene, index):
    """Colours [3, h, w] in [0, 1] and depth [h, w]."""
    image = torch.from_numpy(np.array(scene.image(index))).permute(2, 0, 1) / 255
    return image, torch.from_numpy(scene.depth(index))


def project(scene, source, target):
    """Where frame ``source``'s pixels are in frame ``target``: place [h, w, 2] and depth there."""
    _, depth = frame(scene, source)
    height, width = depth.shape
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    pixels = torch.stack([x, y, torch.ones_like(x)], -1) * depth[..., None]
    points = pixels @ scene.intrinsics[source].inverse().T
    points = points @ scene.extrinsics[source, :3, :3].T + scene.extrinsics[source, :3, 3]
    to_camera = scene.extrinsics[target].inverse()
    points = points @ to_camera[:3, :3].T + to_camera[:3, 3]
    place = points @ scene.intrinsics[target].T
    return place[..., :2] / place[..., 2:], points[..., 2]


def sample(values, place, mode="bilinear"):
    return F.grid_sample(values[None], 2 * place[None] - 1, mode=mode, align_corners=False)[0]


def visible(scene, source, target):
    """Which of frame ``source``'s pixels frame ``target`` sees, by exact depth."""
    place, depth = project(scene, source, target)
    there = sample(frame(scene, target)[1][None], place, "nearest")[0]
    inside = ((place > 0) & (place < 1)).all(-1) & (depth > 0)
    return inside & ((there - depth).abs() < 0.04 * depth)


def test_exact_depth_and_cameras_carry_colours_from_frame_to_frame(scenes):
    warped, copied = [], []
    for scene in scenes:
        image, _ = frame(scene, 0)
        other, _ = frame(scene, 6)
        seen = visible(scene, 0, 6)
        assert seen.float().mean() > 0.4
        place, _ = project(scene, 0, 6)
        warped.append((sample(other, place) - image).abs().mean(0)[seen].mean())
        copied.append((other - image).abs().mean(0)[seen].mean())
    assert torch.stack(warped).mean() < 0.04
    assert torch.stack(warped).mean() < 0.3 * torch.stack(copied).mean()


def test_targets_show_what_a_context_view_does_not(scenes):
    hidden = []
    for scene in scenes:
        from_first, from_last = visible(scene, 3, 0), visible(scene, 3, 6)
        hidden.append([(~from_first).float().mean(), (~(from_first | from_last)).float().mean()])
    one, both = torch.tensor(hidden).mean(0)
    assert 0.05 < one < 0.35  # one context view alone is not enough
    assert 0.005 < both < 0.08  # the two together nearly are


def test_depth_spans_a_ratio_of_four_within_the_bounds(scenes):
    for scene in scenes:
        depth = torch.stack([frame(scene, index)[1] for index in range(len(scene))])
        assert (scene.near, scene.far) == (1.0, 10.0)
        assert scene.near < depth.min() and depth.max() < scene.far
        assert depth.max() > 4 * depth.min()


def test_pictures_are_harder_than_their_mean_and_survive_quarter_resolution(scenes):
    for scene in scenes:
        image, _ = frame(scene, 3)
        assert image.std(dim=(1, 2)).mean() > 0.08
        quarter = F.avg_pool2d(image[None], 4)[0]
        assert quarter.std(dim=(1, 2)).mean() > 0.6 * image.std(dim=(1, 2)).mean()


@pytest.mark.parametrize("shape", [(16, 16), (37, 90), (360, 640)])
def test_any_frame_size(tmp_path, shape):
    source = small(tmp_path, image_shape=shape, frames=2, train_scenes=1, test_scenes=0)
    source.prepare()
    assert list(source.keys("test")) == []
    scene = source.scene("train", source.keys("train")[0])
    assert scene.image(1).size == shape[::-1]
    assert scene.depth(1).shape == shape
    focal = scene.intrinsics[0] * torch.tensor([[shape[1]], [shape[0]], [1.0]])
    assert focal[0, 0] == pytest.approx(focal[1, 1].item())  # square pixels
    angle = 2 * np.degrees(np.arctan(0.5 * max(shape) / focal[0, 0].item()))
    assert 50 <= angle <= 65


def contents(source, split):
    scenes = [source.scene(split, key) for key in source.keys(split)]
    return {
        scene.key: (
            scene.extrinsics.numpy().tobytes(),
            [np.asarray(scene.image(index)).tobytes() for index in range(len(scene))],
            [scene.depth(index).tobytes() for index in range(len(scene))],
        )
        for scene in scenes
    }


def test_scenes_depend_on_settings_and_number_alone(tmp_path, monkeypatch):
    first = small(tmp_path / "a")
    first.prepare()
    monkeypatch.setattr(filming, "usable_cores", lambda: 5)
    more = small(tmp_path / "b", train_scenes=4)
    more.prepare()
    few, many = contents(first, "train"), contents(more, "train")
    assert len(many) == 4 and {key: many[key] for key in few} == few
    assert contents(first, "test") == contents(more, "test")
    pictures = [str(images) for _, images, _ in {**many, **contents(more, "test")}.values()]
    assert len(set(pictures)) == len(pictures)
    other = small(tmp_path / "b", seed=1)
    other.prepare()
    assert not set(map(str, contents(other, "train").values())) & set(map(str, few.values()))


def test_equal_settings_write_equal_files(tmp_path):
    sources = [small(tmp_path / name, train_scenes=1, test_scenes=1) for name in "ab"]
    files = []
    for source in sources:
        source.prepare()
        paths = sorted(path for path in source.folder.rglob("*") if path.is_file())
        files.append({path.relative_to(source.folder): path.read_bytes() for path in paths})
    assert files[0] == files[1]


def test_different_settings_have_different_folders(tmp_path):
    changes = [{}, {"seed": 1}, {"travel": 0.5}, {"frames": 4}, {"roll": 1.0}, {"test_scenes": 3}]
    assert len({small(tmp_path, **change).folder for change in changes}) == len(changes)
    assert small(tmp_path).folder == small(tmp_path).folder
    assert small(tmp_path).folder.name.startswith("48x32-3frames-2train-2test-")


def test_what_is_complete_is_used_again_and_what_is_not_is_made_anew(tmp_path, monkeypatch):
    source = small(tmp_path)
    source.prepare()
    manifest = json.loads((source.folder / "manifest.json").read_text())
    assert manifest["scenes"] == {"train": 2, "test": 2} and manifest["settings"]["frames"] == 3
    calls = []
    film = filming.film_scenes
    monkeypatch.setattr(filming, "film_scenes", lambda *a: calls.append(a) or film(*a))
    small(tmp_path).prepare()
    assert not calls
    next((source.folder / "train").glob("*.torch")).unlink()
    small(tmp_path).prepare()
    assert len(calls) == 2 and len(contents(small(tmp_path), "train")) == 2


def test_an_interruption_leaves_nothing_half_written(tmp_path, monkeypatch):
    taken = []

    def interrupted(*args):
        taken.append(args)
        if len(taken) > 4:
            raise KeyboardInterrupt
        return take(*args)

    take = filming.take_picture
    monkeypatch.setattr(filming, "take_picture", interrupted)
    source = small(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        source.prepare()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    # A killed process cannot clean up; the next one does.
    (tmp_path / f".{source.folder.name}.partial-killed").mkdir()
    monkeypatch.setattr(filming, "take_picture", take)
    source.prepare()
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [source.folder]


def test_two_at_once_generate_once(tmp_path, monkeypatch):
    calls = []
    film = filming.film_scenes
    monkeypatch.setattr(filming, "film_scenes", lambda *a: calls.append(a) or film(*a))
    threads = [threading.Thread(target=small(tmp_path).prepare) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 2  # train and test
    assert len(contents(small(tmp_path), "test")) == 2


def test_a_room_with_something_too_close_is_drawn_again(tmp_path, monkeypatch):
    take, taken = filming.take_picture, []

    def close_at_first(*args):
        picture, depth = take(*args)
        taken.append(1)
        return (picture, 0 * depth + 0.5) if len(taken) == 1 else (picture, depth)

    monkeypatch.setattr(filming, "take_picture", close_at_first)
    source = small(tmp_path, train_scenes=1, test_scenes=0)
    source.prepare()
    scene = source.scene("train", "train-000000")
    assert len(taken) == 6 and min(scene.depth(index).min() for index in range(3)) >= 1


def test_missing_scenes_say_how_to_make_them(tmp_path):
    source = small(tmp_path)
    with pytest.raises(FileNotFoundError, match="mvsplat scenes"):
        source.keys("train")
    source.prepare()
    shutil.rmtree(source.folder / "test")
    with pytest.raises(FileNotFoundError):
        source.keys("test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 1}, "frames is 1"),
        ({"train_scenes": -1}, "train_scenes is -1"),
        ({"image_shape": (8, 64)}, "height is 8"),
        ({"image_shape": (64, 9999)}, "width is 9999"),
        ({"travel": 9.0}, "travel is 9.0"),
        ({"field_of_view": (60.0, 50.0)}, "largest is 50.0; it must be between 60.0 and 90.0"),
        ({"pitch": -1.0}, "pitch is -1.0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_that_make_no_sense_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        small(tmp_path, **change)
