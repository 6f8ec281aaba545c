"""Depth bounds from points and cameras, against closed forms and exact depth."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from room_films import film_rooms

from mvsplat.data import Scene
from mvsplat.data.bounds import UnknownBounds, estimate_bounds, find_bounds, share_at_bounds
from mvsplat.data.chunks.chunk_scenes import ChunkScene
from mvsplat.data.generated.recipe import Recipe
from mvsplat.geometry.depth_bounds import (
    bounds_from_cameras,
    bounds_from_points,
    spread_cameras,
)


class Cameras(Scene):
    """A scene whose pictures cannot be read."""

    key = "walk"

    def __init__(self, extrinsics, focal=1.0, points=None, near=None, far=None):
        self.extrinsics = extrinsics
        self.intrinsics = torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]]).repeat(
            len(extrinsics), 1, 1
        )
        self.points, self.near, self.far = points, near, far

    def image(self, index):
        raise ValueError(f"frame {index} cannot be decoded")


def along_x(count: int, step: float) -> torch.Tensor:
    extrinsics = torch.eye(4).repeat(count, 1, 1)
    extrinsics[:, 0, 3] = step * torch.arange(count)
    return extrinsics


def around(count: int, radius: float) -> torch.Tensor:
    """Cameras on a circle that look at its centre."""
    extrinsics = torch.eye(4).repeat(count, 1, 1)
    for number in range(count):
        angle = 2 * math.pi * number / count
        x, z = math.cos(angle), math.sin(angle)
        extrinsics[number, :3, :3] = torch.tensor([[-z, 0, -x], [0, 1, 0], [x, 0, -z]])
        extrinsics[number, :3, 3] = radius * torch.tensor([x, 0, z])
    return extrinsics


def test_points_in_view_give_their_robust_percentiles():
    # Depths 10 to 20, evenly; points behind, beside and a few far outliers do not count.
    depth = torch.linspace(10, 20, 2001)
    points = torch.stack([torch.zeros(2001), torch.zeros(2001), depth], -1)
    other = torch.tensor(
        [[0, 0, -5.0], [100, 0, 1], [0, 0, 1e6], [float("nan"), 0, 0], [0, 0, 0.01]]
    )
    scene = Cameras(along_x(3, 0.1), points=torch.cat([points, other]))
    near, far = bounds_from_points(scene.points, scene.extrinsics, scene.intrinsics, (0.8, 1.5))
    assert near == pytest.approx(0.8 * 10.1, rel=0.01) and far == pytest.approx(
        1.5 * 19.9, rel=0.01
    )
    assert find_bounds(scene) == (near, far, "sparse points")


def test_too_few_points_are_no_guide():
    scene = Cameras(along_x(3, 0.1), points=torch.tensor([[0, 0, 5.0]]).repeat(5, 1))
    assert bounds_from_points(scene.points, scene.extrinsics, scene.intrinsics) is None
    assert find_bounds(scene).origin == "cameras"


def test_parallel_cameras_by_their_overlap():
    """Neighbours a step b apart with focal length f share 1 - f b / z of a plane at depth z."""
    for step, focal in ((0.5, 1.0), (2.0, 1.5)):
        scene = Cameras(along_x(6, step), focal)
        near, far = bounds_from_cameras(scene.extrinsics, scene.intrinsics)
        assert near == pytest.approx(1.5 * focal * step, rel=0.2)
        assert far == pytest.approx(100 * near)


def test_bounds_scale_with_the_scene():
    cameras = along_x(6, 0.5)
    larger = cameras.clone()
    larger[:, :3, 3] *= 1000
    one, other = (bounds_from_cameras(c, Cameras(c).intrinsics) for c in (cameras, larger))
    assert other == pytest.approx([1000 * bound for bound in one])


def test_a_videos_many_frames_count_like_its_few_key_frames():
    few, many = (
        bounds_from_cameras(c, Cameras(c).intrinsics)[0]
        for c in (along_x(11, 0.2), along_x(401, 0.005))
    )
    assert many == pytest.approx(few, rel=0.35)


def test_cameras_around_an_object_enclose_it():
    near, far = bounds_from_cameras(c := around(12, 4.0), Cameras(c, 1.2).intrinsics)
    assert near < 3 and 5 < far  # the object may be a unit large


def test_what_nothing_tells():
    turning = torch.eye(4).repeat(3, 1, 1)
    with pytest.raises(
        UnknownBounds, match="'walk' has no depth bounds, and its cameras all stand"
    ):
        find_bounds(Cameras(turning))
    away = torch.eye(4).repeat(2, 1, 1)
    away[1, :3, :3] = torch.diag(torch.tensor([-1.0, 1, -1]))
    away[1, 2, 3] = -1
    with pytest.raises(UnknownBounds, match="do not see each other's picture"):
        find_bounds(Cameras(away))
    assert find_bounds(Cameras(turning), 1.0, 5.0) == (1.0, 5.0, "given")


def test_given_bounds_come_before_the_datas_before_estimates():
    scene = Cameras(along_x(3, 0.1), near=2.0, far=8.0)
    assert find_bounds(scene) == (2.0, 8.0, "the data")
    assert find_bounds(scene, near=1.0)[:2] == (1.0, 8.0)
    with pytest.raises(ValueError, match="near is 9.0 and far is 8.0 in 'walk'"):
        find_bounds(scene, near=9.0)


def test_generated_rooms_lie_between_the_estimates():
    recipe = Recipe(5, 32, 32, 0.9, (50.0, 65.0), 18.0, 14.0, 0)
    for entry in film_rooms(recipe, "test", 2):
        scene = ChunkScene(entry, "generated")
        near, far = bounds_from_cameras(scene.extrinsics, scene.intrinsics)
        depth = np.stack([scene.depth(frame) for frame in range(len(scene))])
        assert near < np.percentile(depth, 1) and np.percentile(depth, 99) < far


def test_spread_cameras():
    centres = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [10, 0, 0], [5, 0, 0], [10, 0, 0]])
    assert spread_cameras(centres, 3) == [0, 2, 3]
    assert spread_cameras(centres, 9) == [0, 1, 2, 3]
    assert spread_cameras(torch.zeros(4, 3), 9) == [0]


def test_share_at_bounds():
    disparity = torch.linspace(1 / 100, 1, 10_001)
    near_share, far_share = share_at_bounds(1 / disparity, torch.tensor(1.0), torch.tensor(100.0))
    assert near_share == pytest.approx(0.02, abs=1e-3) and far_share == pytest.approx(
        0.02, abs=1e-3
    )


@pytest.fixture(scope="module")
def rooms():
    """Rooms filmed in several ways, as chunk entries without bounds and depth; and exact depths."""
    found = []
    for frames, shape, travel in ((8, (96, 128), 1.5), (12, (80, 60), 2.0), (5, (64, 64), 0.9)):
        recipe = Recipe(frames, *shape, travel, (50.0, 65.0), 18.0, 14.0, 0)
        for entry in film_rooms(recipe, "test", 1):
            scene = ChunkScene(entry, "a room")
            depth = np.stack([scene.depth(frame) for frame in range(len(scene))])
            kept = {name: entry[name] for name in ("key", "cameras", "images")}
            found.append((kept, depth[depth > 0]))
    return found


def assert_right(bounds, depth: np.ndarray):
    """Near within a factor of 1.5 of the 1 %, far beyond the 99 % and within a factor of 3."""
    low, high = np.percentile(depth, [1, 99])
    assert low / 1.5 < bounds.near < 1.5 * low
    assert high < bounds.far < 3 * high


def changed(entry: dict, **fields) -> Scene:
    return ChunkScene({**entry, **fields}, "a room")


def test_rooms_by_their_pictures(rooms):
    for entry, depth in rooms:
        bounds = find_bounds(changed(entry))
        assert bounds.origin == "pictures"
        assert_right(bounds, depth)


def test_two_frames_are_enough(rooms):
    (entry, _), source = rooms[0], Recipe(8, 96, 128, 1.5, (50.0, 65.0), 18.0, 14.0, 0)
    full = ChunkScene(next(iter(film_rooms(source, "test", 1))), "a room")
    pair = [2, 5]
    scene = changed(
        entry, cameras=entry["cameras"][pair], images=[entry["images"][i] for i in pair]
    )
    bounds = find_bounds(scene)
    assert bounds.origin == "pictures"
    assert_right(bounds, np.stack([full.depth(frame) for frame in pair]))


def test_bounds_from_pictures_scale_with_the_scene(rooms):
    scene = changed(rooms[0][0])
    one = find_bounds(scene)
    scene.extrinsics = scene.extrinsics.clone()
    scene.extrinsics[:, :3, 3] *= 1000
    other = find_bounds(scene)
    assert other[:2] == pytest.approx([1000 * bound for bound in one[:2]], rel=0.02)


def test_few_pictures_of_a_long_film_are_decoded(rooms, monkeypatch):
    entry, depth = rooms[0]
    frames = torch.arange(8).repeat_interleave(40)
    scene = changed(
        entry, cameras=entry["cameras"][frames], images=[entry["images"][i] for i in frames]
    )
    looked_at = []
    encoded = ChunkScene.encoded
    monkeypatch.setattr(
        ChunkScene, "encoded", lambda self, index: looked_at.append(index) or encoded(self, index)
    )
    assert_right(find_bounds(scene), depth)
    assert len(set(looked_at)) == len(looked_at) <= 24


def test_unreadable_pictures_are_left_out(rooms):
    entry, depth = rooms[1]
    images = list(entry["images"])
    for frame in (0, 3, 7):
        images[frame] = images[frame][:40]
    bounds = find_bounds(changed(entry, images=images))
    assert bounds.origin == "pictures"
    assert_right(bounds, depth)


@pytest.mark.parametrize("kind", ["grey", "noise", "one picture of stripes"])
def test_pictures_that_do_not_match_leave_the_cameras_guess(rooms, kind):
    scene = changed(rooms[0][0])
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (len(scene), 96, 128, 3), dtype=np.uint8)
    stripes = np.broadcast_to((np.arange(128) % 8 < 4)[:, None] * np.uint8(255), (96, 128, 3))
    pictures = {"grey": np.full_like(noise, 90), "noise": noise}.get(
        kind, np.broadcast_to(stripes, noise.shape)
    )
    scene.encoded = lambda index: None
    scene.image = lambda index: Image.fromarray(np.ascontiguousarray(pictures[index]))
    bounds = find_bounds(scene)
    assert bounds.origin == "cameras"
    assert bounds[:2] == bounds_from_cameras(scene.extrinsics, scene.intrinsics)


def test_cameras_that_belong_to_other_pictures_are_no_error(rooms):
    entry, _ = rooms[0]
    scene = changed(entry, images=entry["images"][::-1])
    assert 0 < find_bounds(scene).near


def test_an_estimate_is_the_same_every_time_and_names_what_is_wrong_with_cameras(rooms):
    scene = changed(rooms[0][0])
    assert estimate_bounds(scene).bounds == estimate_bounds(changed(rooms[0][0])).bounds
    for wrong in (float("nan"), 0.0):
        scene.intrinsics = scene.intrinsics.clone()
        scene.intrinsics[3, 0, 0] = wrong
        with pytest.raises(ValueError, match=f"{scene.key}.*frame 3"):
            find_bounds(scene)
