"""The ray caster, textures, light and paths against closed forms and brute force."""

import numpy as np
import pytest

from mvsplat.data.generated import furniture
from mvsplat.data.generated.furnished_rooms import draw_shot
from mvsplat.data.generated.light import irradiance
from mvsplat.data.generated.paths import Walk, film, look
from mvsplat.data.generated.raycast import cast_depth, cast_fragments
from mvsplat.data.generated.recipe import Recipe
from mvsplat.data.generated.rendering import take_picture
from mvsplat.data.generated.texture import albedo
from mvsplat.data.generated.world import (
    BOX,
    BRICKS,
    CELLS,
    CLOUDS,
    CYLINDER,
    ELLIPSOID,
    GRAIN,
    PAINT,
    STRIPES,
    VEINS,
    Builder,
    random_axes,
)

FOCAL = np.array([0.8, 1.1, 0.52, 0.47])
PATTERNS = (CLOUDS, VEINS, GRAIN, CELLS, BRICKS, STRIPES, PAINT)
GREY = np.full((4, 3), 0.5)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def rays(height, width, focal=FOCAL):
    """Directions [h, w, 3] in the camera's frame whose z is 1."""
    y, x = np.mgrid[:height, :width] + 0.5
    x, y = (x / width - focal[2]) / focal[0], (y / height - focal[3]) / focal[1]
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def box_room(rng, size=20.0):
    """A builder with six walls, ``size`` from the origin."""
    build = Builder(rng, 0.1)
    material = build.material(CLOUDS, GREY, 1.0)
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = np.zeros(3)
            normal[axis] = sign
            build.wall(normal, -size * normal, material)
    return build, material


def recipe(**changes):
    values = dict(frames=5, height=48, width=64, travel=0.9, field_of_view=(50.0, 65.0))
    return Recipe(**{**values, "pitch": 18.0, "roll": 14.0, "seed": 0, **changes})


def test_depth_of_a_wall_is_along_the_optical_axis(rng):
    build, material = box_room(rng)
    build.solid(BOX, (-5.0, 0.0, 0.0), (1.0, 1.0, 1.0), material)  # behind the camera
    build.lamp(np.zeros(3), 0.1, np.ones(3))
    world = build.world(np.ones((2, 3)))
    straight = look(np.zeros(3), np.array([1.0, 0.0, 0.0]), 0.3)
    depth = cast_depth(world.walls, world.solids, straight, FOCAL, 9, 15)
    np.testing.assert_allclose(depth, 20.0)


@pytest.fixture
def ball(rng):
    build, material = box_room(rng)
    build.solid(ELLIPSOID, (5.0, 0.0, 0.0), (1.5, 1.5, 1.5), material)
    build.lamp(np.array([0.0, 0.0, 10.0]), 0.1, np.ones(3))
    return build.world(np.zeros((2, 3)))


def test_depth_of_a_sphere_has_its_closed_form(ball):
    pose = look(np.zeros(3), np.array([1.0, 0.1, -0.05]), 0.2)
    depth = cast_depth(ball.walls, ball.solids, pose, FOCAL, 33, 41)
    ray = rays(33, 41)
    centre = pose[:3, :3].T @ [5.0, 0.0, 0.0]
    a, b = (ray**2).sum(-1), ray @ centre
    root = b**2 - a * (centre @ centre - 1.5**2)
    hit = root > 0
    assert 0.1 < hit.mean() < 0.9
    np.testing.assert_allclose(depth[hit], ((b - np.sqrt(np.abs(root))) / a)[hit], rtol=1e-12)
    assert (depth[~hit] > 10).all()


def test_coverage_of_a_sphere_is_anti_aliased(ball):
    pose = look(np.zeros(3), np.array([1.0, 0.0, 0.0]), 0.0)
    seen, _ = cast_fragments(ball.walls, ball.solids, pose, FOCAL, 40, 40)
    np.testing.assert_allclose(np.bincount(seen.pixel, seen.weight), 1.0)
    covered = seen.weight[seen.body == 6].sum() / 40**2
    fine = cast_depth(ball.walls, ball.solids, pose, FOCAL, 400, 400)
    assert covered == pytest.approx((fine < 10).mean(), rel=0.01)
    assert ((seen.weight > 0) & (seen.weight < 1)).any()


def signed_distances(world, points):
    """To every body and wall [..., n], independent of the kernels; negative is solid."""
    s, w = world.solids, world.walls
    local = np.einsum("sij,...sj->...si", s.axes, points[..., None, :] - s.centre)
    q = np.abs(local) - s.half
    box = q.max(-1)
    cylinder = np.maximum(np.hypot(local[..., 0], local[..., 1]) - s.half[:, 0], q[..., 2])
    ellipsoid = (np.linalg.norm(local / s.half, axis=-1) - 1) * s.half.min(-1)
    solid = np.choose(s.kind, [box, ellipsoid, cylinder])
    return np.concatenate([solid, points @ w.normal.T - w.offset], axis=-1)


def test_first_hits_in_real_rooms_are_on_a_surface_with_nothing_before_them():
    for number in range(4):
        shot = draw_shot(np.random.default_rng(number), recipe())
        pose = shot.poses[number]
        depth = cast_depth(shot.world.walls, shot.world.solids, pose, shot.focal, 24, 32)
        offset = (rays(24, 32, shot.focal) * depth[..., None]) @ pose[:3, :3].T
        on = signed_distances(shot.world, pose[:3, 3] + offset)
        np.testing.assert_allclose(on.min(-1), 0.0, atol=1e-9)
        before = pose[:3, 3] + offset * np.linspace(0.0, 0.999, 60)[:, None, None, None]
        assert signed_distances(shot.world, before).min() > 0


def test_normals_match_finite_differences_of_depth(rng):
    build, material = box_room(rng)
    for kind, y in ((BOX, -2.5), (ELLIPSOID, 0.0), (CYLINDER, 2.5)):
        axes = random_axes(rng)
        build.solid(kind, (6.0, y, 0.0), (1.0, 1.0, 0.8), material, axes)
    build.lamp(np.zeros(3), 0.1, np.ones(3))
    world = build.world(np.ones((2, 3)))
    pose = look(np.zeros(3), np.array([1.0, 0.0, 0.0]), 0.0)
    seen, _ = cast_fragments(world.walls, world.solids, pose, FOCAL, 60, 60)
    np.testing.assert_allclose(np.linalg.norm(seen.normal, axis=-1), 1.0)
    whole = (seen.weight == 1) & (seen.body >= 6)
    step = 1e-5
    gradient = np.stack(
        [
            signed_distances(world, seen.point[whole] + step * axis)
            - signed_distances(world, seen.point[whole] - step * axis)
            for axis in np.eye(3)
        ],
        axis=-1,
    )[np.arange(whole.sum()), seen.body[whole] - 6]
    gradient /= np.linalg.norm(gradient, axis=-1, keepdims=True)
    np.testing.assert_allclose(seen.normal[whole], gradient, atol=1e-4)


def light_on_floor(rng, radius, offsets):
    """Light on the floor at x = offsets beside a box that hangs under a lamp."""
    build, material = box_room(rng)
    build.solid(BOX, (0.0, 0.0, -18.0), (1.0, 30.0, 0.1), material)
    build.lamp(np.array([0.0, 0.0, -16.0]), radius, np.ones(3))
    world = build.world(np.zeros((2, 3)))
    points = np.stack([offsets, 0 * offsets, 0 * offsets - 20.0], axis=-1)
    normals = np.tile([0.0, 0.0, 1.0], (len(offsets), 1))
    floor = np.full(len(offsets), 4)
    return irradiance(
        world.walls, world.solids, world.lights, world.ambient, floor, points, normals
    )[:, 0]


def test_shadows_lie_where_geometry_says_and_are_soft(rng):
    # The box's edges are 1.9 to 2.1 below the lamp, so its shadow ends near x = 4 / 1.9 = 2.1.
    offsets = np.array([0.0, 1.5, 2.7, 6.0])
    shaded, free = light_on_floor(rng, 0.05, offsets), light_on_floor(rng, 0.0, offsets)
    np.testing.assert_allclose(shaded[:2], 0.0, atol=1e-12)
    np.testing.assert_allclose(shaded[2:], free[2:])
    edge = np.linspace(1.6, 2.6, 101)
    widths = []
    for radius in (0.05, 0.2):
        share = light_on_floor(rng, radius, edge) / light_on_floor(rng, 0.0, edge)
        assert np.diff(share).min() > -0.01
        widths.append(((share > 0.01) & (share < 0.99)).sum())
    assert 0 < widths[0] < widths[1]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_textures_are_band_limited_rich_and_do_not_repeat(rng, pattern):
    build, _ = box_room(rng)
    colors = np.linspace(0.1, 0.8, 4)[:, None] * np.ones(3)
    material = build.material(pattern, colors, 0.5)
    build.lamp(np.zeros(3), 0.1, np.ones(3))
    build.solid(BOX, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), material)
    materials = build.world(np.ones((2, 3))).materials
    pixel, size = 0.06, 128
    y, x = np.mgrid[:size, :size] * pixel
    points = np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3)
    normals = np.tile([0.0, 0.0, 1.0], (size**2, 1))
    footprint = np.full(size**2, pixel)
    which = np.full(size**2, material)
    flat = albedo(materials, which, points, normals, footprint)[:, 0].reshape(size, size)
    assert np.isfinite(flat).all() and flat.min() >= 0
    assert flat.std() > 0.04
    quarter = flat.reshape(size // 4, 4, size // 4, 4).mean((1, 3))
    assert quarter.std() > 0.4 * flat.std()
    spectrum = np.abs(np.fft.fft2((flat - flat.mean()) * np.outer(*[np.hanning(size)] * 2))) ** 2
    fx = np.abs(np.fft.fftfreq(size))
    fine = np.maximum(fx[:, None], fx[None]) > 1 / 3.0  # wavelengths under three pixels
    assert spectrum[fine].sum() < 0.06 * spectrum.sum()
    # No second peak of the autocorrelation, except along the stripes and the grain.
    correlation = np.fft.ifft2(spectrum).real / spectrum.sum() * size**2
    assert correlation[10:-10, 10:-10].max() < 0.5


def test_paths_are_smooth_and_as_long_as_asked(rng):
    walk = Walk(frames=60, travel=1.3, pitch=10.0, roll=7.0)
    tilts = []
    for _ in range(20):
        poses = film(rng, walk, np.array([0.0, 0.0, 1.5]), np.array([4.0, 0.5, 1.5]))
        steps = np.diff(poses[:, :3, 3], axis=0)
        assert np.linalg.norm(steps, axis=-1).sum() == pytest.approx(1.3)
        assert np.linalg.norm(np.diff(steps, axis=0), axis=-1).max() < 0.2 * 1.3 / 60
        rotation = poses[:, :3, :3]
        np.testing.assert_allclose(
            rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (60, 1, 1)), atol=1e-12
        )
        np.testing.assert_allclose(np.linalg.det(rotation), 1.0)
        turned = np.einsum("nij,nij->n", rotation[1:], rotation[:-1])
        assert np.degrees(np.arccos(np.clip((turned - 1) / 2, -1, 1))).max() < 1.5
        tilts.append(np.degrees(np.arcsin(poses[30, 2, 0])))
    assert 2.0 < np.std(tilts) < 7.0


@pytest.mark.parametrize("thing", [*furniture.STANDING, furniture.pendant])
def test_things_keep_within_their_reach(rng, thing):
    for _ in range(20):
        build, _ = box_room(rng)
        build.at((0.0, 0.0, 0.0), rng.uniform(0, 6))
        thing(build, 3.0)
        build.lamp(np.zeros(3), 0.1, np.ones(3))
        solids = build.world(np.ones((2, 3))).solids
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        corners = (signs * solids.half[:, None]) @ solids.axes + solids.centre[:, None]
        reach = np.linalg.norm(corners[..., :2], axis=-1).max(-1)
        round_reach = np.linalg.norm(solids.centre[:, :2], axis=-1) + solids.half[:, :2].max(-1)
        reach = np.where(solids.kind == BOX, reach, round_reach)
        assert reach.max() <= furniture.REACH


def test_layout_cannot_be_guessed_from_the_pixel(rng):
    logs = []
    for number in range(60):
        shot = draw_shot(np.random.default_rng([1, number]), recipe(width=64, height=64))
        args = shot.world.walls, shot.world.solids, shot.poses[2], shot.focal, 16, 16
        logs.append(np.log(cast_depth(*args)))
    logs = np.stack(logs)
    # What is left when every pixel's mean over all scenes is known; 1 would be no guess at all.
    assert (logs - logs.mean(0)).var() > 0.6 * logs.var()


def test_pictures_differ_between_rooms_and_are_well_exposed():
    means = []
    for number in range(6):
        shot = draw_shot(np.random.default_rng([2, number]), recipe())
        picture, _ = take_picture(shot.world, shot.poses[0], shot.focal, (48, 64))
        assert picture.shape == (48, 64, 3) and picture.dtype == np.uint8
        assert (picture.max(-1) >= 250).mean() < 0.15 and (picture.max(-1) <= 8).mean() < 0.05
        assert 60 < picture.mean() < 200 and picture.std() > 25
        means.append(picture.mean((0, 1)))
    assert np.std(means, axis=0).min() > 5


def test_a_way_that_fits_no_room_is_refused():
    with pytest.raises(ValueError, match="shorter travel"):
        draw_shot(np.random.default_rng(0), recipe(travel=40.0))
