"""Draws a scene of any kind, and the way of a camera through it that shows enough of it."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from mvsplat.data.generated.furnished_rooms import draw_shot
from mvsplat.data.generated.indoors import corridor, heap, tabletop
from mvsplat.data.generated.outdoors import facade, outdoors
from mvsplat.data.generated.raycast import cast_depth
from mvsplat.data.generated.recipe import Recipe, Variety
from mvsplat.data.generated.setting import Setting
from mvsplat.data.generated.shot import Shot
from mvsplat.data.generated.world import Builder, Solids

_FINEST = 0.02  # metres under which no pattern repeats
_PROBE = (20, 20)
_ATTEMPTS = 200
_FROM_BODIES = 0.12  # metres that cameras keep away from bodies
_LEAST_RATIO, _MOST_RATIO = 1.5, 60.0  # of far to near depths
_LEAST_SHARED = 0.2  # of the first frame that must be in the last one, and the other way round

_SETTINGS: Mapping[str, Callable[[Builder], Setting]] = {
    "outdoors": outdoors,
    "facade": facade,
    "tabletop": tabletop,
    "corridor": corridor,
    "heap": heap,
}


def draw_varied(rng: np.random.Generator, variety: Variety) -> Shot:
    """Draw scenes of one kind until one is good to film."""
    names = list(variety.kinds)
    weights = np.array([variety.kinds[name] for name in names])
    kind = names[rng.choice(len(names), p=weights / weights.sum())]
    shape = variety.shapes[rng.integers(len(variety.shapes))]
    focal = _camera(rng, shape, variety.field_of_view)
    if kind == "room":
        return _room(rng, variety, shape)
    for _ in range(_ATTEMPTS):
        build = Builder(rng, _FINEST)
        setting = _SETTINGS[kind](build)
        shot = _film(build, setting, variety.frames, focal, shape)
        if shot is not None:
            return shot
    raise ValueError(
        f"no camera path found in {_ATTEMPTS} scenes of kind {kind}; a narrower field of view "
        "makes it easier"
    )


def _camera(
    rng: np.random.Generator, shape: tuple[int, int], field_of_view: tuple[float, float]
) -> np.ndarray:
    """Normalised (fx, fy, cx, cy); the principal point is off the centre, at times far off."""
    height, width = shape
    angle = np.radians(rng.uniform(*field_of_view))
    pixels = 0.5 * max(shape) / np.tan(0.5 * angle)
    off = rng.normal(0.0, 0.06 if rng.uniform() < 0.2 else 0.015, 2).clip(-0.15, 0.15)
    stretch = 1.0 + (rng.uniform(-0.03, 0.03) if rng.uniform() < 0.3 else 0.0)
    return np.array([pixels * stretch / width, pixels / height, 0.5 + off[0], 0.5 + off[1]])


def _room(rng: np.random.Generator, variety: Variety, shape: tuple[int, int]) -> Shot:
    """A furnished room, with a way of any length that fits into one."""
    travel = float(rng.uniform(0.15, 1.3))
    narrow, wide = variety.field_of_view
    angles = (max(narrow, 35.0), min(wide, 75.0))
    recipe = Recipe(variety.frames, *shape, travel, angles, 20.0, 10.0, 0)
    shot = draw_shot(rng, recipe)
    softness = rng.uniform(0.3, 1.0)
    materials = shot.world.materials
    finer = materials._replace(
        softness=materials.softness * softness, gain=np.full_like(materials.gain, 0.8)
    )
    return replace(shot, world=shot.world._replace(materials=finer))


def _film(
    build: Builder,
    setting: Setting,
    frames: int,
    focal: np.ndarray,
    shape: tuple[int, int],
) -> Shot | None:
    """A shot of a setting, or None if its path is not good."""
    rng = build.rng
    journey = setting.journeys[rng.integers(len(setting.journeys))]
    share = float(np.exp(rng.uniform(*np.log(setting.shares))))
    poses = journey(rng, frames, setting.eye, setting.focus, share)
    world = build.world(setting.ambient)
    walls = world.walls
    if (poses[:, :3, 3] @ walls.normal.T - walls.offset).min() < 0.2:
        return None
    if _within(world.solids, poses[:, :3, 3]):
        return None
    depths = np.stack([cast_depth(walls, world.solids, pose, focal, *_PROBE) for pose in poses])
    things = depths[depths < setting.end]
    if len(things) < 0.3 * depths.size:
        return None
    near, far = np.quantile(things, [0.01, 0.98])
    if not _LEAST_RATIO < far / near < _MOST_RATIO or near < 0.25:
        return None
    if _shared(depths[0], poses[0], poses[-1], focal) < _LEAST_SHARED:
        return None
    if _shared(depths[-1], poses[-1], poses[0], focal) < _LEAST_SHARED:
        return None
    return Shot(world, poses, focal, shape, 0.85 * float(depths.min()), 1.2 * float(far))


def _within(solids: Solids, eyes: np.ndarray) -> bool:
    """Whether one of the places is in a body's box, or all but touches it."""
    local = np.einsum("sij,nsj->nsi", solids.axes, eyes[:, None] - solids.centre)
    return bool((np.abs(local) < solids.half + _FROM_BODIES).all(-1).any())


def _shared(depth: np.ndarray, pose: np.ndarray, other: np.ndarray, focal: np.ndarray) -> float:
    """The share of a frame's points that lie within another frame, hidden or not."""
    height, width = depth.shape
    y, x = (np.mgrid[:height, :width] + 0.5) / np.array([height, width])[:, None, None]
    ray = np.stack([(x - focal[2]) / focal[0], (y - focal[3]) / focal[1], np.ones_like(x)], -1)
    points = (ray * depth[..., None]) @ pose[:3, :3].T + pose[:3, 3]
    there = (points - other[:3, 3]) @ other[:3, :3]
    ahead = np.maximum(there[..., 2], 1e-6)
    u = focal[0] * there[..., 0] / ahead + focal[2]
    v = focal[1] * there[..., 1] / ahead + focal[3]
    inside = (there[..., 2] > 0) & (u > 0) & (u < 1) & (v > 0) & (v < 1)
    return float(inside.mean())
