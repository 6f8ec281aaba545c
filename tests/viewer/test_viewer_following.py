"""When the viewer reads the files of a scene again, and what it makes of them."""

import os

import pytest
import torch
from viewer_scenes import LENS, make_gaussians, make_poses

from mvsplat.export import Cameras, Frame, save_cameras, save_ply, save_splat
from mvsplat.viewer import find_items
from mvsplat.viewer.following import Follower, version_of
from mvsplat.viewer.scene import DISTANCE, ViewedScene


def looks(follower: Follower, count: int = 2) -> list[bool]:
    return [follower.look() is not None for _ in range(count)]


@pytest.fixture(params=["door/scene.ply", "door/meta.json", "a.compressed.ply"])
def splat(request, tmp_path):
    save_splat(make_gaussians(0), tmp_path / request.param)
    return tmp_path / request.param


def test_a_replaced_file_is_read_once(splat):
    named = splat.parent if splat.parent.name == "door" else splat
    (item,) = find_items([named])
    follower = Follower(item, version_of(item))
    assert looks(follower, 3) == [False] * 3
    save_splat(make_gaussians(1), splat)
    assert looks(follower, 4) == [False, True, False, False]  # once it has been seen twice
    save_cameras(
        Cameras([Frame("one", make_poses(1)[0], LENS, 64, 48)], 1.0, 9.0),
        splat.with_name("cameras.json"),
    )
    assert looks(follower) == [False, True]
    assert follower.version.cameras_file == splat.with_name("cameras.json")


def test_a_file_of_the_same_time_and_size_is_another(tmp_path):
    path = tmp_path / "a.ply"
    save_ply(make_gaussians(0), path)
    (item,) = find_items([path])
    follower, before = Follower(item, version_of(item)), path.stat()
    save_ply(make_gaussians(1), path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert looks(follower) == [False, True]


def test_a_file_that_grows_is_left_alone_until_it_stays(tmp_path):
    path = tmp_path / "a.ply"
    save_ply(make_gaussians(0), path)
    (item,) = find_items([path])
    follower, whole = Follower(item, version_of(item)), path.read_bytes()
    with path.open("wb") as file:
        for part in range(8):
            file.write(whole[part * len(whole) // 8 : (part + 1) * len(whole) // 8])
            file.flush()
            assert looks(follower, 1) == [False]
    assert looks(follower, 3) == [True, False, False]
    path.unlink()
    assert looks(follower, 3) == [False, True, False]
    assert follower.version.splat is None


def test_the_pages_frame_stays(tmp_path):
    """A scene that has moved is drawn where it is: the camera need not be touched."""
    first = ViewedScene(make_gaussians(0))
    moved = make_gaussians(0)
    moved.means = moved.means + torch.tensor([1.0, 0, 0])
    moved.means[0, :100] *= 3
    second = ViewedScene(moved, None, first.frame)
    pose = make_poses()[1]
    torch.testing.assert_close(second.to_page(pose), first.to_page(pose), rtol=0, atol=0)
    shift = (second.gaussians.means - first.gaussians.means)[0, 100:]
    expected = torch.tensor([1.0, 0, 0]) * first.frame.unit
    torch.testing.assert_close(shift, expected.expand_as(shift), rtol=1e-4, atol=1e-4)
    assert ViewedScene(moved).frame != first.frame
    distance = first.gaussians.means[0].norm(dim=-1).median()
    assert float(distance) == pytest.approx(DISTANCE, rel=0.01)
