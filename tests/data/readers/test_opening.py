"""open_scenes finds out what a path holds."""

import pickle
import shutil

import pytest
import torch
from captures import (
    check_poses,
    dtu_camera,
    pose,
    write_colmap_text,
    write_picture,
    write_re10k,
    write_transforms,
)
from tiny_scenes import make_entry

from mvsplat.data import AnyScenes, ChunkScenes, MiddleViewSampler, open_scenes, write_chunks
from mvsplat.data.chunks import chunk_scenes as chunks
from mvsplat.data.loading.examples import ExampleSettings, SceneExamples
from mvsplat.data.loading.streams import ShuffledOrder
from mvsplat.data.readers.opening import GatheredScenes, scenes_for
from mvsplat.data.untrusted import in_natural_order

POSES = [pose(seed) for seed in range(2)]


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    """A folder of every format."""
    root = tmp_path_factory.mktemp("captures")
    write_colmap_text(root / "door/sparse/0", POSES)
    for number in range(2):
        write_picture(root / f"door/images/{number}.png", number)
    write_transforms(root / "transforms", POSES)
    write_re10k(root / "re10k", "test", "a", POSES)
    for number, matrix in enumerate(POSES):
        write_picture(root / f"dtu/scan8/images/{number:08d}.png", number, (160, 120))
        path = root / f"dtu/scan8/cams/{number:08d}_cam.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(dtu_camera(matrix, 0.1))
    write_chunks(root / "chunks/train", [make_entry("one")])
    write_chunks(root / "chunks/test", [make_entry("two")])
    return root


@pytest.mark.parametrize(
    ("path", "kind", "key"),
    [
        ("door", "ColmapScenes", "door"),
        ("door/sparse/0", "ColmapScenes", "door"),
        ("transforms", "TransformsScenes", "transforms"),
        ("transforms/transforms.json", "TransformsScenes", "transforms"),
        ("re10k", "RealEstate10KScenes", "a"),
        ("dtu", "DTUScenes", "scan8"),
        ("dtu/scan8", "DTUScenes", "scan8"),
        ("chunks", "ChunkScenes", "two"),
        ("chunks/test", "ChunkFiles", "two"),
        ("chunks/test/000000.torch", "ChunkFiles", "two"),
    ],
)
def test_every_format_is_recognised(captures, path, kind, key):
    source = open_scenes(captures / path)
    assert type(source).__name__ == kind and list(source.keys("test")) == [key]
    scene = pickle.loads(pickle.dumps(source)).scene("test", key)
    assert len(scene) >= 2 and scene.image(1).mode == "RGB"
    assert len(scene.frame_names) == len(scene)


def test_folders_of_folders(captures):
    source = open_scenes(captures)
    assert source.keys("test") == ["chunks/two", "door", "dtu/scan8", "re10k/a", "transforms"]
    assert source.keys("train") == ["chunks/one"]
    assert [source.scene("test", key).key for key in source.keys("test")] == source.keys("test")
    with pytest.raises(ValueError, match="has no test scene 'nothing'"):
        source.scene("test", "nothing")


def test_any_scenes_for_yaml(captures):
    source = AnyScenes(train=[str(captures / "door")], test=[str(captures / "chunks")])
    assert source.keys("train") == ["door"] and source.keys("test") == ["two"]
    assert source.scene("train", "door").key == "door" and source.groups("train") == [["door"]]
    assert source.config["init_args"]["train"] == [str(captures / "door")]
    with pytest.raises(ValueError, match="two test scenes are called 'two'"):
        AnyScenes(test=[str(captures / "chunks")] * 2).keys("test")
    with pytest.raises(ValueError, match="train and test are empty"):
        AnyScenes()


@pytest.fixture(scope="module")
def many_chunks(tmp_path_factory):
    """Two folders of chunks, 20 training scenes in 10 chunks each, with other names."""
    root = tmp_path_factory.mktemp("many")
    for folder in "ab":
        size = 2 * sum(map(len, make_entry("a00")["images"])) - 1
        entries = (make_entry(f"{folder}{number:02d}") for number in range(20))
        write_chunks(root / folder / "train", entries, size)
    return root


def stream(source, monkeypatch, split="train"):
    """Which chunks are opened, and how often sources are asked for keys, in an epoch's samples."""
    opened, asked = [], []
    load, keys = chunks.load_chunk, chunks.ChunkScenes.keys
    monkeypatch.setattr(chunks, "load_chunk", lambda path: opened.append(path) or load(path))
    monkeypatch.setattr(
        chunks.ChunkScenes, "keys", lambda self, split: asked.append(self) or keys(self, split)
    )
    made = SceneExamples(source, split, MiddleViewSampler(2, 1), ExampleSettings((8, 8)))
    order = ShuffledOrder(made.groups(), 4, seed=0)
    names = []
    for position in range(len(made)):
        index = order.at(position)
        made.sample(index, 0, torch.Generator().manual_seed(0))
        names.append(made.name(index))
    monkeypatch.undo()
    assert len(set(names)) == len(names)
    return names, opened, asked


def test_wrapped_chunks_are_opened_no_more_often(many_chunks, monkeypatch):
    folders = [str(many_chunks / folder) for folder in "ab"]
    _, opened, _ = stream(ChunkScenes(folders, open_chunks=4), monkeypatch)
    assert len(opened) == len(set(opened)) == 20
    wrappers = {
        "any of folders": AnyScenes(train=folders),
        "any of a folder of folders": AnyScenes(train=[str(many_chunks)]),
        "gathered": GatheredScenes(str(many_chunks)),
    }
    for name, source in wrappers.items():
        seen, found, _ = stream(source, monkeypatch)
        assert sorted(found) == sorted(opened), name
        assert len(seen) == 40, name
        groups = source.groups("train")
        assert [len(group) for group in groups] == [2] * 20, name
        assert sorted(key for group in groups for key in group) == sorted(source.keys("train"))


def test_scenes_are_listed_once_not_for_every_sample(many_chunks, monkeypatch):
    for source in (AnyScenes(train=[str(many_chunks)]), GatheredScenes(str(many_chunks))):
        _, _, asked = stream(source, monkeypatch)
        assert len(asked) <= 10  # of 40 samples


def test_the_format_can_be_said(captures):
    assert type(open_scenes(captures / "door", "colmap", "train")).__name__ == "ColmapScenes"
    assert open_scenes(captures / "door", split="train").keys("train") == ["door"]
    with pytest.raises(FileNotFoundError, match="holds no transforms.json"):
        open_scenes(captures / "door", "transforms").scene("test", "door")


def test_other_things_are_refused_with_what_is_expected(captures, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        open_scenes(tmp_path / "nothing")
    with pytest.raises(ValueError, match="no data of a known kind: expected chunks .*It is empty"):
        open_scenes(tmp_path)
    (tmp_path / "notes.txt").write_text("hello\nworld")
    with pytest.raises(ValueError, match="It holds notes.txt"):
        open_scenes(tmp_path)
    with pytest.raises(ValueError, match=r"It is a \.txt file"):
        open_scenes(tmp_path / "notes.txt")


def test_frames_are_ordered_as_people_count():
    names = ["f10", "f9", "f09b", "F1", "é2", "f" + "9" * 400]
    assert [names[i] for i in in_natural_order(names)][:4] == ["F1", "f9", "f09b", "f10"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("AnyScenes", ["--data.source.test", "[door]"]),
        ("ColmapScenes", ["--data.source.root", "door", "--data.source.images", "images_4"]),
        ("TransformsScenes", ["--data.source.root", "door"]),
        ("DTUScenes", ["--data.source.light", "2"]),
        ("RealEstate10KScenes", ["--data.source.frames", "pictures"]),
    ],
)
def test_a_yaml_file_can_name_each(program, name, options):
    assert program("validate", "--data.source", name, *options, "--print_config", config=False) == 0
    assert f".{name}" in program.out and options[1].strip("[]") in program.out


def test_scenes_two_folders_down_are_found_and_deeper_ones_named(captures, tmp_path):
    write_transforms(tmp_path / "2024/june/door", POSES)
    write_transforms(tmp_path / "fox", POSES)
    assert open_scenes(tmp_path).keys("test") == ["fox"]  # three are too deep
    (tmp_path / "2024/june").rename(tmp_path / "june")
    source = pickle.loads(pickle.dumps(open_scenes(tmp_path)))
    assert source.keys("test") == ["fox", "june/door"]
    assert source.scene("test", "june/door").key == "june/door"
    deep = tmp_path / "a/b/c/d"
    write_transforms(deep, POSES)
    with pytest.raises(ValueError, match=r"did you mean .*a/b/c, or the scene .*a/b/c/d \(transf"):
        open_scenes(tmp_path / "a")


def test_what_is_nearly_a_scene_among_scenes_is_named(tmp_path, caplog):
    write_transforms(tmp_path / "good", POSES)
    write_transforms(tmp_path / "near", POSES)
    (tmp_path / "near/transforms.json").rename(tmp_path / "near/transform.json")
    assert open_scenes(tmp_path).keys("test") == ["good"]
    assert "left out:" in caplog.text and "did you mean transform.json" in caplog.text


def test_what_systems_and_people_leave_beside_data_does_not_count(captures, tmp_path):
    shutil.copytree(captures, tmp_path / "all")
    before = open_scenes(tmp_path / "all").keys("test")
    clutter = (".DS_Store", "Thumbs.db", "desktop.ini", "README.txt", "a-notes.txt", "notes.json")
    for folder in [f for f in (tmp_path / "all").rglob("*") if f.is_dir()]:
        for name in clutter:
            (folder / name).write_text("{}\nhello")
        for file in [f for f in folder.iterdir() if f.is_file() and f.name not in clutter]:
            (folder / f"._{file.name}").write_bytes(b"\0\5\x16\7")  # what macOS leaves
    (tmp_path / "all/__MACOSX/door").mkdir(parents=True)
    (tmp_path / "all/__MACOSX/door/._transforms.json").write_bytes(b"\0\5\x16\7")
    (tmp_path / "all/__MACOSX/door/transforms.json").write_text("{}")
    write_transforms(tmp_path / "all/.trash/old", POSES)
    source = open_scenes(tmp_path / "all")
    assert source.keys("test") == before
    original = open_scenes(captures)
    for key in before:
        scene = source.scene("test", key)
        assert len(scene) == len(original.scene("test", key)) and not scene.left_out, key


def test_what_is_missing_is_named(captures, tmp_path):
    shutil.copytree(captures, tmp_path / "all")
    (tmp_path / "all/chunks/test/index.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"test/index\.json is missing.*rebuild_index"):
        scenes_for(open_scenes(tmp_path / "all/chunks"), "test")
    (tmp_path / "all/chunks/train/000000.torch").unlink()
    (tmp_path / "all/chunks/test/000000.torch").unlink()
    with pytest.raises(ValueError, match=r"train/index\.json names chunks, but no \.torch file"):
        open_scenes(tmp_path / "all/chunks")
    scan = tmp_path / "all/dtu/scan8"
    (scan / "images").rename(scan / "blended_images")
    with pytest.raises(ValueError, match=r"expected them in images/ \(is it blended_images/\?\)"):
        open_scenes(scan)
    shutil.rmtree(tmp_path / "all/re10k/frames")
    with pytest.raises(ValueError, match=r"expected pictures such as frames/test/a/1000000\.png"):
        open_scenes(tmp_path / "all/re10k").scene("test", "a")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/clip.txt").write_text("https://www.youtube.com/watch?v=abc\n1 2 3\n")
    with pytest.raises(ValueError, match=r"clip\.txt begins .* second line has 3 words, expected"):
        open_scenes(tmp_path / "clips")


@pytest.mark.parametrize("where", ["sparse/1", "sparse/0/0", "colmap/sparse/0", "sparse/a"])
def test_models_of_unusual_places_are_found(tmp_path, where):
    write_colmap_text(tmp_path / "door" / where, POSES)
    for number in range(2):
        write_picture(tmp_path / f"door/images/{number}.png", number)
    source = open_scenes(tmp_path / "door")
    assert source.keys("test") == ["door"] and len(source.scene("test", "door")) == 2


def test_exports_that_are_read_as_transforms_or_colmap(tmp_path):
    """DL3DV has reduced pictures alone, NeRFCapture no suffixes, ns-process-data both kinds."""
    folder = write_transforms(tmp_path / "dl3dv", POSES)
    (folder / "images").rename(folder / "images_4")
    folder = write_transforms(tmp_path / "nerfcapture", POSES)
    file = folder / "transforms.json"
    file.write_text(file.read_text().replace('.png"', '"'))
    folder = write_transforms(tmp_path / "nerfstudio", POSES)
    write_colmap_text(folder / "colmap/sparse/0", POSES[::-1])
    source = open_scenes(tmp_path)
    assert source.keys("test") == ["dl3dv", "nerfcapture", "nerfstudio"]
    for key in source.keys("test"):
        scene = source.scene("test", key)
        check_poses(scene, POSES)
        assert [scene.image(index).getpixel((0, 0))[0] for index in range(2)] == [0, 1]
