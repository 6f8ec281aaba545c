"""Patches matched between photographs of rooms whose depth is known exactly."""

import torch

from mvsplat.data.transforms import crop_image, crop_intrinsics, stack_images
from mvsplat.geometry.matching import match_patches
from mvsplat.reconstruction.moving import moved_share


def pair(room, first=1, second=5, shape=(192, 192)):
    frames = [room.image(i) for i in (first, second)]
    size = (frames[0].height, frames[0].width)
    intrinsics = torch.stack(
        [crop_intrinsics(room.intrinsics[i], size, shape) for i in (first, second)]
    )
    images = stack_images([crop_image(frame, shape) for frame in frames])
    return images, room.extrinsics[[first, second]], intrinsics


def test_epipolar_distance_of_true_correspondences_is_zero(room):
    """A point of the room, projected into both views, is on its line to a fraction of a pixel."""
    images, extrinsics, intrinsics = pair(room, shape=(300, 400))
    matches = match_patches(images, extrinsics, intrinsics)
    middle = len(matches.start) // 2
    start = matches.start[middle]
    depth = float(room.depth(1)[int(start[1] * 300), int(start[0] * 400)])
    ray = torch.linalg.inv(intrinsics[0]) @ torch.tensor([start[0], start[1], 1.0])
    world = extrinsics[0] @ torch.cat([depth * ray, torch.ones(1)])
    seen = intrinsics[1] @ (torch.linalg.inv(extrinsics[1]) @ world)[:3]
    distance = ((matches.positions - seen[:2] / seen[2]) * matches.size).norm(dim=-1)
    nearest = int(distance.argmin())
    assert float(matches.off_line[middle, nearest]) <= float(distance[nearest]) + 1e-3
    assert float(matches.off_line[middle].max()) > 20


def test_nothing_moved_in_a_still_room(room):
    assert moved_share(*pair(room, 1, 5)) == 0 and moved_share(*pair(room, 0, 7)) < 0.01


def test_a_thing_that_moved_is_found(room):
    """A textured square sinks while the camera walks sideways: off every epipolar line."""
    images, extrinsics, intrinsics = pair(room)
    thing = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))
    thing = thing.repeat_interleave(5, 1).repeat_interleave(5, 2)
    moved = images.clone()
    moved[0, :, 20:80, 60:120] = thing
    moved[1, :, 110:170, 60:120] = thing
    assert moved_share(moved, extrinsics, intrinsics) > 0.02
    masks = torch.ones(2, *images.shape[-2:], dtype=torch.bool)
    masks[0, 14:86, 54:126] = masks[1, 104:176, 54:126] = False
    for ignored in ([masks[0], None], [None, masks[1]], [*masks]):
        assert moved_share(moved, extrinsics, intrinsics, ignored) == 0
    still = moved.flip(0)[[0, 0]]
    assert moved_share(still, extrinsics[[0, 0]], intrinsics[[0, 0]]) == 0


def test_pictures_without_texture_match_nothing(room):
    images, extrinsics, intrinsics = pair(room)
    grey = torch.full_like(images, 0.5)
    assert moved_share(grey, extrinsics, intrinsics) == 0
