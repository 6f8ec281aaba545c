"""Camera paths to film a scene along: through given cameras, around one, around a point.

Conventions as in ``mvsplat.types``: OpenCV camera-to-world extrinsics (x right, y down, z forward),
normalised intrinsics. Paths are computed in float64 and returned as float32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.geometry.rotations import (
    axis_angle_to_quaternion,
    matrix_to_quaternion,
    quaternion_product,
    quaternion_to_axis_angle,
    quaternion_to_matrix,
    relative_rotation,
    slerp,
)


@dataclass
class CameraPath:
    """The cameras of a film, one a frame.

    Args:
        extrinsics: Camera-to-world matrices.
        intrinsics: Normalised intrinsics.
    """

    extrinsics: Float[Tensor, "n 4 4"]
    intrinsics: Float[Tensor, "n 3 3"]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.extrinsics)

    def __getitem__(self, frames: slice) -> "CameraPath":
        """Some of the frames."""
        return CameraPath(self.extrinsics[frames], self.intrinsics[frames])

    def there_and_back(self) -> "CameraPath":
        """The path and its way back, without showing either end twice: for films in a loop."""
        way = [*range(len(self)), *range(len(self) - 2, 0, -1)]
        return CameraPath(self.extrinsics[way], self.intrinsics[way])


def through_cameras(
    extrinsics: Float[Tensor, "v 4 4"],
    intrinsics: Float[Tensor, "v 3 3"],
    frames: int,
    ease: bool = False,
) -> CameraPath:
    """A smooth path that begins at the first camera, passes through all and ends at the last.

    Between two cameras this is a straight line at constant speed, and the shortest rotation at
    constant speed (slerp). Through more, positions and rotations are cubic Bezier curves (by de
    Casteljau's algorithm, with slerp for rotations: Shoemake, SIGGRAPH 1985) whose velocities agree
    at the cameras. A stretch lasts the longer, the farther the camera moves and turns.

    Args:
        extrinsics: The cameras, in the order in which the path passes through them.
        intrinsics: Their intrinsics; interpolated linearly.
        frames: Number of frames, both ends included.
        ease: Start and stop gently instead of at full speed.

    Raises:
        ValueError: There is no camera, or no frame is asked for.
    """
    if len(extrinsics) == 0:
        raise ValueError("a path needs at least one camera to pass through")
    if len(extrinsics) == 1:
        extrinsics, intrinsics = extrinsics.expand(2, 4, 4), intrinsics.expand(2, 3, 3)
    poses = extrinsics.double().cpu()
    centers, rotations = poses[:, :3, 3], matrix_to_quaternion(poses[:, :3, :3])
    durations = _durations(centers, rotations)
    knots = torch.cat([durations.new_zeros(1), durations.cumsum(0)])
    time = _times(frames)
    time = (time * time * (3 - 2 * time) if ease else time) * knots[-1]
    segment = torch.searchsorted(knots[1:-1].contiguous(), time, right=True)
    share = ((time - knots[segment]) / durations[segment])[:, None]
    position = _bezier(centers, durations, _MOVING, segment, share)
    rotation = _bezier(rotations, durations, _TURNING, segment, share)
    k = intrinsics.double().cpu()
    lenses = torch.lerp(k[segment], k[segment + 1], share[..., None])
    return CameraPath(_poses(rotation, position), lenses.float())


def wobble(
    extrinsics: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    frames: int,
    radius: float,
    focus: float | None = None,
) -> CameraPath:
    """A small circle of the camera in its own image plane, once around; loops.

    Args:
        extrinsics: The camera at the circle's centre.
        intrinsics: Its intrinsics.
        frames: Number of frames.
        radius: The circle's radius, in the scene's unit.
        focus: Turn the camera so that it keeps looking at the point this far ahead of it; without,
            it keeps its direction.
    """
    pose = extrinsics.double().cpu()
    angle = 2 * torch.pi * _times(frames, loop=True)
    offset = radius * torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], dim=-1)
    centers = pose[:3, 3] + offset @ pose[:3, :3].mT
    rotation = matrix_to_quaternion(pose[:3, :3]).expand(frames, 4)
    if focus is not None:
        ahead = pose[:3, 2].expand(frames, 3)
        rotation = quaternion_product(_turn(ahead, ahead * focus + pose[:3, 3] - centers), rotation)
    lenses = intrinsics.float().cpu().expand(frames, 3, 3).clone()
    return CameraPath(_poses(rotation, centers), lenses)


def spin(
    extrinsics: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    frames: int,
    pivot: Float[Tensor, "3"],
    up: Float[Tensor, "3"] | None = None,
    degrees: float = 360.0,
) -> CameraPath:
    """The camera carried around a point, which stays where it is in the picture.

    Args:
        extrinsics: The camera at the start.
        intrinsics: Its intrinsics.
        frames: Number of frames; a full turn loops, anything less includes both ends.
        pivot: The point in the world that the camera is carried around.
        up: Direction of the axis; the start camera's own upward direction by default.
        degrees: How far, counter-clockwise seen from above; negative for the other way.
    """
    pose = extrinsics.double().cpu()
    axis = -pose[:3, 1] if up is None else up.double().cpu()
    axis = torch.nn.functional.normalize(axis, dim=-1)
    full = abs(degrees) >= 360
    angle = torch.pi / 180 * degrees * _times(frames, loop=full)
    turn = axis_angle_to_quaternion(axis * angle[:, None])
    arm = pose[:3, 3] - pivot.double().cpu()
    centers = pivot.double().cpu() + quaternion_to_matrix(turn) @ arm
    rotation = quaternion_product(turn, matrix_to_quaternion(pose[:3, :3])[None])
    lenses = intrinsics.float().cpu().expand(frames, 3, 3).clone()
    return CameraPath(_poses(rotation, centers), lenses)


def mean_camera(extrinsics: Float[Tensor, "v 4 4"]) -> Float[Tensor, "4 4"]:
    """Where all cameras are on average: mean position, the rotation nearest to the mean one.

    Rotations are averaged as the matrix nearest to their sum (chordal mean, by singular values).
    """
    poses = extrinsics.double().cpu()
    u, _, vh = torch.linalg.svd(poses[:, :3, :3].sum(0))
    u = torch.cat([u[:, :2], u[:, 2:] * torch.linalg.det(u @ vh)], dim=-1)
    mean = torch.eye(4, dtype=torch.float64)
    mean[:3, :3], mean[:3, 3] = u @ vh, poses[:, :3, 3].mean(0)
    return mean.float()


def upwards(extrinsics: Float[Tensor, "v 4 4"]) -> Float[Tensor, "3"]:
    """What is up for the cameras on average, as a unit vector; for the first if they do not agree.

    Args:
        extrinsics: Camera-to-world matrices, whose y axis is down in the picture.
    """
    ups = -extrinsics[:, :3, 1]
    mean = ups.mean(0)
    return torch.nn.functional.normalize(mean if mean.norm() > 1e-3 else ups[0], dim=0)


def visiting_order(extrinsics: Float[Tensor, "v 4 4"]) -> list[int]:
    """A short way past all cameras, for photographs in no useful order.

    The nearest unvisited camera next, starting from the camera farthest from the others' mean; then
    stretches are reversed as long as that shortens the way (2-opt). Deterministic.
    """
    centers = extrinsics[:, :3, 3].double().cpu()
    distance = torch.cdist(centers, centers, compute_mode="donot_use_mm_for_euclid_dist").tolist()
    order = [int((centers - centers.mean(0)).norm(dim=-1).argmax())]
    left = set(range(len(centers))) - set(order)
    while left:
        order.append(min(left, key=lambda camera: (distance[order[-1]][camera], camera)))
        left.remove(order[-1])
    shorter = True
    while shorter:
        shorter = False
        for i in range(len(order) - 1):
            for j in range(i + 1, len(order)):
                if _gain(distance, order, i, j) > 1e-9:
                    order[i : j + 1] = reversed(order[i : j + 1])
                    shorter = True
    return order


def _gain(distance: list[list[float]], order: list[int], i: int, j: int) -> float:
    """How much shorter an open way gets if its stretch from i to j is reversed."""
    gain = 0.0
    if i > 0:
        gain += distance[order[i - 1]][order[i]] - distance[order[i - 1]][order[j]]
    if j < len(order) - 1:
        gain += distance[order[j]][order[j + 1]] - distance[order[i]][order[j + 1]]
    return gain


def _times(frames: int, loop: bool = False) -> Float[Tensor, " n"]:
    """Times from 0 to 1; in a loop without 1, which would show the first frame again."""
    if frames < 1:
        raise ValueError(f"a path of {frames} frames was asked for; expected at least 1")
    if loop:
        return torch.arange(frames, dtype=torch.float64) / frames
    return torch.linspace(0, 1, frames, dtype=torch.float64)


def _durations(
    centers: Float[Tensor, "v 3"], rotations: Float[Tensor, "v 4"]
) -> Float[Tensor, " s"]:
    """How long each stretch lasts: its share of all movement plus its share of all turning."""
    moves = centers.diff(dim=0).norm(dim=-1)
    turns = _TURNING.difference(rotations[:-1], rotations[1:]).norm(dim=-1)
    shares = [x / x.mean() for x in (moves, turns) if x.mean() > 1e-6]
    total = torch.stack(shares).sum(0) if shares else torch.ones_like(moves)
    return total.clamp(min=1e-3 * total.mean())


@dataclass
class _Space:
    """What a curve needs to know of the space it runs in: differences, steps, and straight ways."""

    difference: Callable[[Tensor, Tensor], Tensor]
    step: Callable[[Tensor, Tensor], Tensor]
    between: Callable[[Tensor, Tensor, Tensor], Tensor]


_MOVING = _Space(lambda a, b: b - a, torch.add, torch.lerp)
_TURNING = _Space(
    lambda a, b: quaternion_to_axis_angle(relative_rotation(a, b)),
    lambda q, turn: quaternion_product(axis_angle_to_quaternion(turn), q),
    slerp,
)


def _bezier(
    keys: Float[Tensor, "v d"],
    durations: Float[Tensor, " s"],
    space: _Space,
    segment: Tensor,
    share: Float[Tensor, "n 1"],
) -> Float[Tensor, "n d"]:
    """Points of the curve through the keys, at a share of a segment each."""
    times = durations[:, None]
    speeds = space.difference(keys[:-1], keys[1:]) / times
    # Inside, the parabola's through three keys; at both ends, so that two keys give a line.
    inner = (times[1:] * speeds[:-1] + times[:-1] * speeds[1:]) / (times[1:] + times[:-1])
    velocities = torch.cat([speeds[:1], inner, speeds[-1:]])
    leaving = space.step(keys[:-1], velocities[:-1] * times / 3)
    arriving = space.step(keys[1:], -velocities[1:] * times / 3)
    points = [keys[:-1][segment], leaving[segment], arriving[segment], keys[1:][segment]]
    while len(points) > 1:
        points = [space.between(a, b, share) for a, b in zip(points, points[1:], strict=False)]
    return points[0]


def _turn(start: Float[Tensor, "n 3"], end: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """The smallest rotation from one direction to another that is not opposite."""
    a, b = (torch.nn.functional.normalize(x, dim=-1) for x in (start, end))
    scalar = 1 + (a * b).sum(dim=-1, keepdim=True)
    turn = torch.cat([scalar, torch.linalg.cross(a, b)], dim=-1)
    return torch.nn.functional.normalize(turn, dim=-1)


def _poses(rotation: Float[Tensor, "n 4"], center: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4 4"]:
    poses = torch.eye(4, dtype=torch.float64).repeat(len(center), 1, 1)
    poses[:, :3, :3], poses[:, :3, 3] = quaternion_to_matrix(rotation), center
    return poses.float()
