"""Varied scenes: every kind is sound, filmed with exact depth, and what photographs are like."""

import json

import numpy as np
import pytest

from mvsplat.__main__ import main
from mvsplat.data.generated.gloss import reflections
from mvsplat.data.generated.paths import look
from mvsplat.data.generated.raycast import cast_depth, cast_fragments
from mvsplat.data.generated.recipe import KINDS, Variety
from mvsplat.data.generated.rendering import take_picture
from mvsplat.data.generated.varied_scenes import VariedScenes
from mvsplat.data.generated.varied_shots import draw_varied
from mvsplat.data.generated.world import BOX, CLOUDS, Builder

SHAPE = (40, 52)


def variety(kind, **changes):
    values = dict(frames=3, shapes=(SHAPE,), field_of_view=(30.0, 95.0), seed=0)
    return Variety(**{"kinds": {kind: 1.0}, **values, **changes})


def draw(kind, number, **changes):
    return draw_varied(np.random.default_rng([7, number]), variety(kind, **changes))


@pytest.fixture(scope="module", params=KINDS)
def filmed(request):
    """Two scenes of a kind, each with the pictures and depths of its first and last frames."""
    shots = [draw(request.param, number) for number in range(2)]
    return [
        (shot, [take_picture(shot.world, shot.poses[i], shot.focal, SHAPE) for i in (0, -1)])
        for shot in shots
    ]


def rays(focal):
    """Directions [h, w, 3] in the camera's frame whose z is 1."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    x, y = x / SHAPE[1], y / SHAPE[0]
    return np.stack(
        [(x - focal[2]) / focal[0], (y - focal[3]) / focal[1], np.ones_like(x)], axis=-1
    )


def carried(shot, depth):
    """Where the last frame sees the first one's points: row, column, depth; and which it does."""
    first, last = shot.poses[0], shot.poses[-1]
    points = (rays(shot.focal) * depth[..., None]) @ first[:3, :3].T + first[:3, 3]
    there = (points - last[:3, 3]) @ last[:3, :3]
    z = there[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        column = (shot.focal[0] * there[..., 0] / z + shot.focal[2]) * SHAPE[1]
        row = (shot.focal[1] * there[..., 1] / z + shot.focal[3]) * SHAPE[0]
    inside = (z > 0) & (row > 0) & (row < SHAPE[0]) & (column > 0) & (column < SHAPE[1])
    return row[inside].astype(int), column[inside].astype(int), z[inside], inside


def test_pictures_are_exposed_and_depths_within_the_bounds(filmed):
    for shot, frames in filmed:
        assert 0 < shot.near < shot.far < np.inf
        for picture, depth in frames:
            assert np.isfinite(depth).all() and depth.min() >= shot.near
            assert (depth < shot.far).mean() > 0.2  # the rest is sky
            assert 10 < picture.mean() < 245 and picture.std() > 3


def test_depth_of_one_frame_is_that_of_another(filmed):
    for shot, ((first, depth), (last, other)) in filmed:
        row, column, z, inside = carried(shot, depth)
        assert inside.mean() > 0.25  # the path keeps its subject in view
        ratio = other[row, column] / z
        # The rest is hidden by something nearer; through a surface nothing is seen, but at edges.
        assert (np.abs(ratio - 1) < 0.05).mean() > 0.5
        assert (ratio > 1.1).mean() < 0.05
        same = np.abs(ratio - 1) < 0.05
        carried_over = np.abs(first[inside][same] - last[row, column][same].astype(float)).mean()
        copied = np.abs(first.astype(float) - last).mean()
        assert carried_over < max(copied, 4.0)


def test_a_scene_is_a_function_of_its_number_alone():
    for kind in ("outdoors", "tabletop"):
        same, again, other = draw(kind, 3), draw(kind, 3), draw(kind, 4)
        np.testing.assert_array_equal(same.poses, again.poses)
        for mine, theirs in zip(same.world.solids, again.world.solids, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert not np.array_equal(same.poses, other.poses)


def test_cameras_and_depths_vary():
    wide, off, ratio, turned = [], [], [], []
    for number in range(24):
        shot = draw(("outdoors", "tabletop", "facade")[number % 3], number)
        wide.append(2 * np.degrees(np.arctan(0.5 / shot.focal[0])))
        off.append(np.abs(shot.focal[2:] - 0.5).max())
        ratio.append(shot.far / shot.near)
        cosine = (np.trace(shot.poses[0, :3, :3].T @ shot.poses[-1, :3, :3]) - 1) / 2
        turned.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    assert min(wide) < 45 and max(wide) > 80
    assert np.median(off) > 0.005 and max(off) > 0.05
    assert min(ratio) < 5 and max(ratio) > 25
    assert min(turned) < 10 and max(turned) > 25


def test_pictures_have_the_spectrum_of_photographs():
    """Amplitude falls with frequency to the power of about -1 (Field 1987), where rooms fall off
    faster: they have nothing of the size of pixels."""
    slopes = []
    for number in range(8):
        kind = ("outdoors", "facade", "tabletop", "heap")[number % 4]
        shot = draw(kind, number, shapes=((64, 64),))
        grey = take_picture(shot.world, shot.poses[1], shot.focal, (64, 64))[0].mean(-1)
        window = np.hanning(64)[:, None] * np.hanning(64)
        spectrum = np.abs(np.fft.fft2((grey - grey.mean()) * window))
        frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
        bands = [(0.04, 0.08), (0.08, 0.16), (0.16, 0.32), (0.32, 0.5)]
        means = [spectrum[(frequency >= a) & (frequency < b)].mean() for a, b in bands]
        slopes.append(np.polyfit(np.log([a for a, _ in bands]), np.log(means), 1)[0])
    assert -1.8 < np.mean(slopes) < -0.7


def floor_under_a_lamp(shine):
    build = Builder(np.random.default_rng(0), 0.1)
    material = build.material(CLOUDS, np.full((4, 3), 0.3), 1.0, contrast=0.0, shine=shine)
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = np.zeros(3)
            normal[axis] = sign
            build.wall(normal, -(10.0 if axis < 2 else 2.0) * normal, material)
    build.solid(BOX, (9.0, 9.0, 0.0), (0.1, 0.1, 0.1), material)
    build.lamp(np.array([4.0, 0.0, 1.0]), 0.0, np.ones(3))
    return build.world(np.zeros((2, 3)))


def test_shiny_things_mirror_the_lamp_where_a_mirror_would():
    world = floor_under_a_lamp(0.3)
    eye = np.array([-4.0, 0.0, -1.0])
    pose = look(eye, np.array([0.0, 0.0, -2.0]), 0.0)
    focal = np.array([1.0, 1.0, 0.5, 0.5])
    seen, _ = cast_fragments(world.walls, world.solids, pose, focal, 60, 60)
    material = np.zeros(len(seen.body), dtype=int)
    mirrored = reflections(world, seen, material, eye)[:, 0]
    floor = seen.normal[:, 2] > 0.5
    brightest = seen.point[floor][mirrored[floor].argmax()]
    # The eye is 1 above the floor, the lamp 3: 8 metres apart, they meet a quarter of the way.
    np.testing.assert_allclose(brightest, [-2.0, 0.0, -2.0], atol=0.5)
    assert not reflections(floor_under_a_lamp(0.0), seen, material, eye).any()


def test_depth_of_a_shot_needs_no_picture(filmed):
    shot, ((_, depth), _) = filmed[0]
    world = shot.world
    alone = cast_depth(world.walls, world.solids, shot.poses[0], shot.focal, *SHAPE)
    np.testing.assert_array_equal(alone, depth)


def test_written_scenes_state_their_own_bounds(tmp_path):
    source = VariedScenes(
        str(tmp_path), 2, 1, 2, [(24, 32), (32, 24)], {"heap": 1.0, "facade": 2.0}
    )
    source.prepare()
    bounds = set()
    for split in ("train", "test"):
        for key in source.keys(split):
            scene = source.scene(split, key)
            assert len(scene) == 2 and scene.image(0).size in ((32, 24), (24, 32))
            depth = scene.depth(1)
            assert depth.shape == scene.image(1).size[::-1]
            assert depth.min() >= scene.near and scene.far > scene.near
            bounds.add((scene.near, scene.far))
    assert len(bounds) == 3


def test_missing_scenes_say_how_to_make_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="`mvsplat scenes varied` with the same"):
        VariedScenes(str(tmp_path)).keys("train")


def test_the_command_writes_them(tmp_path):
    settings = {"train_scenes": 1, "test_scenes": 1, "frames": 2, "image_shapes": [(16, 20)]}
    options = [f"--{name}={json.dumps(value)}" for name, value in settings.items()]
    assert main(["scenes", "varied", f"--root={tmp_path}", "--kinds={heap: 1}", *options]) == 0
    source = VariedScenes(str(tmp_path), **settings, kinds={"heap": 1.0})
    assert source.scene("train", source.keys("train")[0]).image(0).size == (20, 16)


def test_settings_have_folders_of_their_own(tmp_path):
    changes = [{}, {"seed": 1}, {"frames": 4}, {"kinds": {"room": 1.0}}, {"test_scenes": 3},
               {"image_shapes": [(64, 64)]}, {"field_of_view": (40.0, 50.0)}]  # fmt: skip
    folders = {VariedScenes(str(tmp_path), **change).folder for change in changes}
    assert len(folders) == len(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 1}, "frames is 1"),
        ({"test_scenes": -1}, "test_scenes is -1"),
        ({"image_shapes": []}, "number of image_shapes is 0"),
        ({"image_shapes": [(8, 64)]}, "a height in image_shapes is 8"),
        ({"kinds": {"street": 1.0}}, "'street'; the kinds of scenes are outdoors, facade"),
        ({"kinds": {"room": -1.0}}, "the weight of room in kinds is -1.0"),
        ({"kinds": {"room": 0.0}}, "kinds draws no kind of scene"),
        ({"field_of_view": (60.0, 50.0)}, "largest is 50.0"),
    ],
)
def test_settings_that_make_no_sense_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        VariedScenes(str(tmp_path), **change)
