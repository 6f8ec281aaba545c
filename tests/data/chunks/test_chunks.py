"""Chunk folders: what is written comes back, and damage is named."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from noise import noise
from PIL import Image
from tiny_scenes import encoded, make_entry, open_files, write_dataset

from mvsplat.data.chunks.chunk_scenes import (
    ChunkScene,
    ChunkScenes,
    encode_depth,
    load_chunk,
    pack_cameras,
    write_chunks,
)


def random_rotation(generator) -> torch.Tensor:
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()
    return q * torch.linalg.det(q)


def test_scenes_come_back_as_written(tmp_path):
    generator = torch.Generator().manual_seed(0)
    extrinsics = torch.eye(4).repeat(3, 1, 1)
    extrinsics[:, :3, :3] = torch.stack([random_rotation(generator) for _ in range(3)]).float()
    extrinsics[:, :3, 3] = torch.randn(3, 3, generator=generator)
    intrinsics = torch.tensor([[0.9, 0, 0.48], [0, 1.6, 0.53], [0, 0, 1]]).repeat(3, 1, 1)
    entry = make_entry("one", frames=3, depth=True)
    write_chunks(tmp_path / "test", [entry | {"cameras": pack_cameras(extrinsics, intrinsics)}])

    source = ChunkScenes(str(tmp_path))
    scene = source.scene("test", "one")

    assert source.keys("test") == ["one"] and len(scene) == 3
    torch.testing.assert_close(scene.extrinsics, extrinsics, atol=1e-6, rtol=0)
    torch.testing.assert_close(scene.intrinsics, intrinsics)
    assert (scene.near, scene.far) == (1.0, 10.0)
    assert scene.image(2).getpixel((5, 5))[0] == 2
    expected = 3 + np.arange(12 * 16).reshape(12, 16) / (12 * 16)
    np.testing.assert_allclose(65535 / scene.depth(2), 65535 / expected, atol=0.501)


def test_cameras_are_stored_world_to_camera_as_in_re10k():
    extrinsics = torch.eye(4)[None].clone()
    extrinsics[0, :3, 3] = torch.tensor([1.0, 2.0, 3.0])
    row = pack_cameras(extrinsics, torch.tensor([[[0.8, 0, 0.4], [0, 1.5, 0.6], [0, 0, 1]]]))[0]
    expected = [0.8, 1.5, 0.4, 0.6, 0, 0, 1, 0, 0, -1, 0, 1, 0, -2, 0, 0, 1, -3]
    torch.testing.assert_close(row, torch.tensor(expected))


def test_unknown_depth_is_zero_and_depth_before_near_is_refused():
    scene = ChunkScene(make_entry("one", frames=1) | {
        "depths": [encode_depth(np.array([[0.0, np.inf], [2.0, 4.0]]), 1.0)]
    }, "x")  # fmt: skip
    np.testing.assert_allclose(scene.depth(0), [[0, 0], [2, 4]], rtol=1e-4)
    with pytest.raises(ValueError, match=r"depth of 0\.5 is in front of near = 1"):
        encode_depth(np.array([[0.5]]), 1.0)


def test_chunks_are_cut_by_size_and_grouped(root):
    source = ChunkScenes(str(root))
    groups = source.groups("train")
    assert [len(group) for group in groups] == [3, 3, 3, 3, 1]
    assert [key for group in groups for key in group] == source.keys("train")
    assert sorted(os.listdir(root / "train"))[-1] == "index.json"
    assert json.loads((root / "train/index.json").read_text())["a03"] == "000001.torch"


def test_several_roots_are_put_together(tmp_path):
    one, two = write_dataset(tmp_path / "one", 2, 1), tmp_path / "two"
    write_chunks(two / "train", [make_entry("b")])
    source = ChunkScenes([str(one), str(two)])
    assert source.keys("train") == ["a00", "a01", "b"] and source.keys("test") == ["t00"]
    assert source.scene("train", "b").key == "b"
    with pytest.raises(ValueError, match="'a00' is both in .*one.* and in .*one"):
        ChunkScenes([str(one), str(one)]).keys("train")


def test_few_chunks_stay_open_and_none_travels_to_workers(root):
    source = ChunkScenes(str(root), open_chunks=2)
    keys = source.keys("train")
    before = pickle.dumps(source)
    for key in keys:
        source.scene("train", key)
    assert len(open_files(root)) == 2
    assert len(pickle.dumps(source)) == len(before)
    del source
    copy = pickle.loads(before)
    assert not open_files(root) and copy.scene("train", "a05").key == "a05"


def test_old_archives_without_memory_mapping_load(tmp_path):
    (tmp_path / "test").mkdir()
    path = tmp_path / "test" / "old.torch"
    torch.save([make_entry("one")], path, _use_new_zipfile_serialization=False)
    (tmp_path / "test/index.json").write_text('{"one": "old.torch"}')
    assert len(ChunkScenes(str(tmp_path)).scene("test", "one")) == 9


def test_slices_of_large_tensors_are_written_alone(tmp_path):
    entry = make_entry("one")
    large = torch.zeros(10_000_000, dtype=torch.uint8)
    large[: len(entry["images"][0])] = entry["images"][0]
    entry["images"][0] = large[: len(entry["images"][0])]
    write_chunks(tmp_path, [entry])
    assert (tmp_path / "000000.torch").stat().st_size < 100_000


def test_an_interrupted_write_leaves_no_index_and_no_temporary_files(tmp_path):
    def entries():
        yield make_entry("one")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_chunks(tmp_path / "test", entries(), chunk_bytes=1)
    assert os.listdir(tmp_path / "test") == ["000000.torch"]
    with pytest.raises(FileNotFoundError, match=r"index\.json is missing"):
        ChunkScenes(str(tmp_path)).keys("test")


def test_writing_refuses_what_it_would_spoil(tmp_path):
    write_chunks(tmp_path / "a", [make_entry("one")])
    with pytest.raises(FileExistsError, match="already holds chunks"):
        write_chunks(tmp_path / "a", [make_entry("two")])
    with pytest.raises(ValueError, match="two scenes have the key 'one'"):
        write_chunks(tmp_path / "b", [make_entry("one"), make_entry("one")])
    with pytest.raises(ValueError, match="1 depths for 9 images"):
        broken = make_entry("x") | {"depths": [encode_depth(np.ones((2, 2)), 1.0)]}
        write_chunks(tmp_path / "c", [broken])


def test_missing_folders_and_indices_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no train scenes: .*nowhere/train is no folder"):
        ChunkScenes(str(tmp_path / "nowhere")).keys("train")
    (tmp_path / "train").mkdir()
    with pytest.raises(FileNotFoundError, match=r"train/index\.json is missing"):
        ChunkScenes(str(tmp_path)).keys("train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no valid JSON"),
        ("[1]", "holds a list"),
        ('{"a": "../other/000000.torch"}', "is no name of a file beside it"),
        ('{"a": "/etc/passwd"}', "is no name of a file beside it"),
        ('{"a": 3}', "is no name of a file beside it"),
    ],
)
def test_a_bad_index_is_refused(tmp_path, text, message):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/index.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        ChunkScenes(str(tmp_path)).keys("train")


def test_an_index_of_other_chunks_is_noticed(tmp_path):
    root = write_dataset(tmp_path, 2, 1)
    (root / "train/index.json").write_text('{"zz": "000000.torch", "yy": "7.torch"}')
    source = ChunkScenes(str(root))
    with pytest.raises(ValueError, match="000000.torch has no scene 'zz'"):
        source.scene("train", "zz")
    with pytest.raises(FileNotFoundError, match=r"7\.torch is named by index\.json"):
        source.scene("train", "yy")
    with pytest.raises(ValueError, match="no scene 'a00' in the index"):
        source.scene("train", "a00")


class Malicious:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_chunk_is_executed(tmp_path, zipped):
    path = tmp_path / "evil.torch"
    torch.save([Malicious(tmp_path / "ran")], path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"evil\.torch is damaged or not a chunk"):
        load_chunk(path)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)  # that is: it would have been
    assert (tmp_path / "ran").exists()


def test_damaged_chunks_are_named(tmp_path):
    write_chunks(tmp_path, [make_entry("one")])
    path = tmp_path / "000000.torch"
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], bytes(1000), b"\x80\x02}q\x00."):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"000000\.torch (is damaged|holds)"):
            load_chunk(path)
    for content, message in (({"a": 1}, "holds a dict"), ([3], "entry 0 is no scene")):
        torch.save(content, path)
        with pytest.raises(ValueError, match=message):
            load_chunk(path)
    torch.save([make_entry("one"), make_entry("one")], path)
    with pytest.raises(ValueError, match="has scene 'one' twice"):
        load_chunk(path)


def spoil_camera(row: int, column: int, value: float):
    def spoil(entry):
        entry["cameras"][row, column] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_camera(4, 3, float("nan")), "camera of frame 4 has a number that is not finite"),
        (spoil_camera(2, 0, 0.0), "camera of frame 2 has a focal length that is not positive"),
        (spoil_camera(1, 6, 2.0), "camera of frame 1 is no rotation"),
        (spoil_camera(1, 6, -1.0), "camera of frame 1 is no rotation"),
        (lambda e: e.update(cameras=e["cameras"][:3]), r"cameras is \(3, 18\), expected \[9, 18\]"),
        (lambda e: e.pop("cameras"), "cameras is NoneType"),
        (lambda e: e.pop("images"), "images is missing or empty"),
        (lambda e: e.update(images=[]), "images is missing or empty"),
        (lambda e: e.update(images=[3] * 9), "images 0 is no flat uint8 tensor"),
        (lambda e: e.update(near=2.0, far=1.0), "near is 2.0 and far is 1.0"),
        (lambda e: e.update(near="1", far=1.0), "near is '1' and far is 1.0"),
        (lambda e: e.update(near=None), "near is None and far is 10.0"),
        (
            lambda e: (e.pop("near"), e.pop("far"), e.update(depths=e["images"])),
            "depths, but no near",
        ),
    ],
)
def test_bad_scenes_name_file_scene_and_field(spoil, message):
    entry = make_entry("one")
    spoil(entry)
    with pytest.raises(ValueError, match=rf"file\.torch, scene 'one': .*{message}"):
        ChunkScene(entry, "file.torch")


def test_damaged_pictures_are_named(monkeypatch):
    entry = make_entry("one", depth=True)
    photo = encoded(noise((64, 64), 50), "JPEG")
    entry["images"][:4] = [photo[:100], photo[: len(photo) // 2], torch.zeros(50).byte(), photo]
    entry["images"][4] = encoded(Image.new("RGB", (8, 8)), "PCX")
    entry["depths"][0], entry["depths"][1] = photo, photo[:200]
    scene = ChunkScene(entry, "file.torch")
    for frame in (0, 1, 2, 4):
        with pytest.raises(ValueError, match=rf"file\.torch, scene 'one': image {frame} cannot be"):
            scene.image(frame)
    for frame in (0, 1):
        with pytest.raises(ValueError, match=rf"file\.torch, scene 'one': depth {frame} cannot be"):
            scene.depth(frame)
    assert scene.image(3).size == (64, 64)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with pytest.raises(ValueError, match="image 3 cannot be decoded .*64 x 64 pixels"):
        scene.image(3)


def test_grey_and_transparent_pictures_become_rgb():
    entry = make_entry("one", frames=2)
    entry["images"] = [encoded(Image.new("L", (4, 4), 7)), encoded(Image.new("RGBA", (4, 4)))]
    scene = ChunkScene(entry, "x")
    assert [scene.image(frame).mode for frame in (0, 1)] == ["RGB", "RGB"]
    assert scene.image(0).getpixel((1, 1)) == (7, 7, 7)


@pytest.mark.parametrize("arguments", [{"roots": []}, {"roots": "x", "open_chunks": 0}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="roots is empty|open_chunks is 0"):
        ChunkScenes(**arguments)


def test_names_and_points_of_the_frames():
    entry = make_entry("one") | {"points": torch.tensor([[1.0, 2, 3], [float("nan"), 0, 0]])}
    scene = ChunkScene(entry, "x")
    assert scene.frame_names == [str(frame) for frame in range(9)]  # the time stamps
    assert scene.points.tolist() == [[1, 2, 3]]
    named = ChunkScene(entry | {"names": [f"{frame}.jpg" for frame in range(9)]}, "x")
    assert named.frame_names[3] == "3.jpg"
    assert ChunkScene(entry | {"timestamps": torch.zeros(2)}, "x").frame_names is None
    with pytest.raises(ValueError, match="scene 'one': points are no tensor"):
        ChunkScene(entry | {"points": torch.zeros(3)}, "x")


def test_few_bytes_cannot_ask_for_much_memory(tmp_path):
    """A stride of 0 makes a byte a terabyte; a compressed record expands a thousandfold."""
    entry = make_entry("one")
    entry["images"][1] = torch.zeros(1, dtype=torch.uint8).expand(10**12)
    path = tmp_path / "a.torch"
    torch.save([entry], path)
    with pytest.raises(ValueError, match="images 1 is no flat uint8 tensor"):
        ChunkScene(load_chunk(path)["one"], path)
    torch.save([make_entry("one")], path)
    squeezed = tmp_path / "b.torch"
    with (
        zipfile.ZipFile(path) as plain,
        zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as zipped,
    ):
        for name in plain.namelist():
            zipped.writestr(name, plain.read(name))
    with pytest.raises(ValueError, match=r"b\.torch is damaged .*compressed records"):
        load_chunk(squeezed)


def test_cameras_with_skew_are_not_stored_without_it():
    intrinsics = torch.tensor([[0.8, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).repeat(3, 1, 1)
    intrinsics[2, 0, 1] = 0.01
    with pytest.raises(ValueError, match=r"frame 2 has a skew of 0.01 .*resample"):
        pack_cameras(torch.eye(4).repeat(3, 1, 1), intrinsics)
