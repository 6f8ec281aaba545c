"""The cameras beside a splat: written, read, found, damaged."""

import json

import pytest
import torch

from mvsplat.export import Cameras, Frame, load_cameras, save_cameras
from mvsplat.export.cameras import cameras_of


def make_cameras(folder) -> Cameras:
    image = folder / "images" / "one.png"
    image.parent.mkdir(exist_ok=True)
    image.write_bytes(b"")
    generator = torch.Generator().manual_seed(0)
    rotations = torch.linalg.qr(torch.randn(2, 3, 3, generator=generator)).Q
    rotations = rotations * torch.linalg.det(rotations)[:, None, None]
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[:, :3, :3], poses[:, :3, 3] = rotations, torch.tensor([1.0, -2.0, 1 / 3])
    lens = torch.tensor([[0.9, 0, 0.5], [0, 1.2, 0.4], [0, 0, 1]])
    frames = [Frame("one", poses[0], lens, 40, 30, image), Frame("two", poses[1], lens, 40, 30)]
    return Cameras(frames, near=0.5, far=20.0, dilated=True)


def test_round_trip_is_exact_and_survives_a_move(tmp_path):
    (tmp_path / "a").mkdir()
    cameras = make_cameras(tmp_path / "a")
    save_cameras(cameras, tmp_path / "a" / "cameras.json")
    content = json.loads((tmp_path / "a" / "cameras.json").read_text())
    assert content["frames"][0]["image"] == "images/one.png"
    assert content["frames"][1]["image"] is None
    (tmp_path / "a").rename(tmp_path / "b")
    loaded = load_cameras(tmp_path / "b" / "cameras.json")
    assert (loaded.near, loaded.far, loaded.dilated) == (0.5, 20.0, True)
    for before, after in zip(cameras.frames, loaded.frames, strict=True):
        assert torch.equal(before.extrinsics, after.extrinsics)
        assert torch.equal(before.intrinsics, after.intrinsics)
        assert (before.name, before.width, before.height) == (after.name, 40, 30)
    assert loaded.frames[0].image == tmp_path / "b" / "images" / "one.png"
    (tmp_path / "b" / "images" / "one.png").unlink()
    assert load_cameras(tmp_path / "b" / "cameras.json").frames[0].image is None


def test_a_splat_finds_its_own_cameras_before_the_folders(tmp_path):
    ply = tmp_path / "scene.ply"
    assert cameras_of(ply) is None
    (tmp_path / "cameras.json").touch()
    assert cameras_of(ply) == tmp_path / "cameras.json"
    (tmp_path / "scene.cameras.json").touch()
    assert cameras_of(ply) == tmp_path / "scene.cameras.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(near=0), "near 0.0 and far 20.0 found, expected 0 < near < far"),
        (lambda c: c.update(far="20"), "far is '20', expected a number"),
        (lambda c: c.update(near=float("nan")), "near is nan, expected a number"),
        (lambda c: c.update(frames=[]), "its list of frames is empty"),
        (lambda c: c.pop("frames"), "no list named frames"),
        (lambda c: c["frames"].append(3), "frame 2 is no JSON object"),
        (lambda c: c["frames"][1].pop("extrinsics"), "frame 1: extrinsics is not a 4x4 matrix"),
        (lambda c: c["frames"][1].update(intrinsics=[[1, 2], [3]]), "frame 1: intrinsics is not"),
        (lambda c: c["frames"][0]["extrinsics"][0].__setitem__(0, 9), "is no rotation"),
        (lambda c: c["frames"][0]["intrinsics"][0].__setitem__(0, -1), "positive focal lengths"),
        (lambda c: c["frames"][0].update(width=0), "a size of 0x30 pixels"),
    ],
)
def test_damage_is_named(tmp_path, change, message):
    path = tmp_path / "cameras.json"
    save_cameras(make_cameras(tmp_path), path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"cameras\.json.*{message}"):
        load_cameras(path)


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file of cameras at .*cameras\.json"):
        load_cameras(tmp_path / "cameras.json")
    for content in ("{", "[1, 2]", "\x00\x01"):
        (tmp_path / "cameras.json").write_text(content)
        with pytest.raises(ValueError, match=r"cameras\.json"):
            load_cameras(tmp_path / "cameras.json")
