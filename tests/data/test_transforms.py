"""Crops and flips move pictures and cameras together, exactly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from noise import noise
from PIL import Image

from mvsplat.data.transforms import (
    cover,
    crop_depth,
    crop_image,
    crop_intrinsics,
    flip_views,
    stack_images,
)
from mvsplat.types import Views

sizes = st.tuples(st.integers(16, 400), st.integers(16, 400))


def random_views(generator, depth=True) -> Views:
    rotation, _ = torch.linalg.qr(torch.randn(2, 3, 3, 3, generator=generator))
    extrinsics = torch.eye(4).repeat(2, 3, 1, 1)
    extrinsics[..., :3, :3] = rotation * torch.linalg.det(rotation)[..., None, None]
    extrinsics[..., :3, 3] = torch.randn(2, 3, 3, generator=generator)
    intrinsics = torch.tensor([[0.9, 0.05, 0.4], [0, 1.3, 0.62], [0, 0, 1]]).repeat(2, 3, 1, 1)
    image = torch.rand(2, 3, 3, 4, 6, generator=generator)
    return Views(image, extrinsics, intrinsics, torch.ones(2, 3), torch.full((2, 3), 9.0),
                 depth=image[:, :, 0] + 1 if depth else None)  # fmt: skip


def project(points, extrinsics, intrinsics):
    """Normalised image positions of world points [n, 3] in every view."""
    homogeneous = torch.cat([points, torch.ones(len(points), 1)], -1)
    camera = torch.einsum("...ij,nj->...ni", torch.linalg.inv(extrinsics), homogeneous)[..., :3]
    image = torch.einsum("...ij,...nj->...ni", intrinsics, camera)
    return image[..., :2] / image[..., 2:]


def test_flip_projects_mirrored_points_to_mirrored_pixels():
    generator = torch.Generator().manual_seed(0)
    views = random_views(generator)
    flipped = flip_views(views)
    points = torch.randn(50, 3, generator=generator) + torch.tensor([0.0, 0, 5])
    before = project(points, views.extrinsics, views.intrinsics)
    after = project(points * torch.tensor([-1.0, 1, 1]), flipped.extrinsics, flipped.intrinsics)
    torch.testing.assert_close(after[..., 0], 1 - before[..., 0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(after[..., 1], before[..., 1], rtol=1e-3, atol=1e-3)
    assert torch.equal(flipped.image, views.image.flip(-1))
    assert torch.equal(flipped.depth, views.depth.flip(-1))
    rotations = flipped.extrinsics[..., :3, :3]
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(2, 3))


def test_flipping_twice_changes_nothing():
    views = random_views(torch.Generator().manual_seed(1), depth=False)
    twice = flip_views(flip_views(views))
    torch.testing.assert_close(twice.extrinsics, views.extrinsics, rtol=0, atol=0)
    torch.testing.assert_close(twice.intrinsics, views.intrinsics)
    assert torch.equal(twice.image, views.image) and twice.depth is None


def test_crop_is_the_plain_steps_pixel_for_pixel():
    picture = noise((640, 360), 60)
    plain = picture.resize((455, 256), Image.Resampling.LANCZOS).crop((99, 0, 355, 256))
    cropped = stack_images([crop_image(picture, (256, 256))])[0]
    expected = torch.from_numpy(np.array(plain)).permute(2, 0, 1) / 255
    assert torch.equal(cropped, expected)
    same = noise((64, 64), 60)
    assert torch.equal(
        crop_image(same, (64, 64)), torch.from_numpy(np.array(same)).permute(2, 0, 1)
    )


@settings(max_examples=150, deadline=None)
@given(sizes, sizes, st.integers(0, 99))
def test_resizing_a_part_gives_the_pixels_of_the_whole(frame, shape, seed):
    noise = np.random.default_rng(seed).integers(0, 256, (*frame, 3), np.uint8)
    (height, width), (top, left) = cover(frame, shape)
    whole = Image.fromarray(noise).resize((width, height), Image.Resampling.LANCZOS)
    expected = np.array(whole)[top : top + shape[0], left : left + shape[1]]
    found = crop_image(Image.fromarray(noise), shape).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("frame", [(360, 640), (270, 480), (480, 640), (719, 480), (1080, 1920)])
@pytest.mark.parametrize("shape", [(256, 256), (224, 320), (64, 64)])
def test_usual_sizes_are_the_plain_steps_too(frame, shape):
    test_resizing_a_part_gives_the_pixels_of_the_whole.hypothesis.inner_test(frame, shape, 0)


@settings(max_examples=50, deadline=None)
@given(sizes, sizes)
def test_a_crop_has_its_shape_and_lies_inside(frame, shape):
    resized, corner = cover(frame, shape)
    for axis in (0, 1):
        assert 0 <= corner[axis] <= corner[axis] + shape[axis] <= resized[axis]
        margins = corner[axis], resized[axis] - shape[axis] - corner[axis]
        assert abs(margins[0] - margins[1]) <= 1
    assert crop_image(Image.new("RGB", frame[::-1]), shape).shape == (3, *shape)
    assert crop_depth(np.ones(frame, np.float32), shape).shape == shape


@pytest.mark.parametrize("frame", [(90, 160), (91, 163), (160, 90), (50, 50), (30, 31)])
@pytest.mark.parametrize("shape", [(64, 64), (48, 80)])
def test_a_point_of_the_scene_stays_under_its_pixel(frame, shape):
    """A smooth blob drawn where the camera sees a point is found where the new camera sees it."""
    intrinsics = torch.tensor([[0.9, 0.0, 0.46], [0.0, 1.1, 0.55], [0.0, 0.0, 1.0]])
    point = torch.tensor([0.02, -0.03, 1.0])
    u, v, _ = (intrinsics @ point).tolist()
    rows, columns = (np.arange(size) + 0.5 for size in frame)
    sigma = 0.06 * min(frame)
    blob = np.exp(
        -((rows[:, None] - v * frame[0]) ** 2 + (columns - u * frame[1]) ** 2) / (2 * sigma**2)
    )
    picture = Image.fromarray((255 * np.repeat(blob[..., None], 3, -1)).astype(np.uint8))
    cropped = crop_image(picture, shape)[0].double()
    weight = cropped / cropped.sum()
    found_v = (weight.sum(1) * (torch.arange(shape[0]) + 0.5)).sum() / shape[0]
    found_u = (weight.sum(0) * (torch.arange(shape[1]) + 0.5)).sum() / shape[1]
    new_u, new_v, _ = (crop_intrinsics(intrinsics, frame, shape) @ point).tolist()
    assert abs(found_u - new_u) * shape[1] < 0.06
    assert abs(found_v - new_v) * shape[0] < 0.06


def test_crop_intrinsics_closed_form():
    intrinsics = torch.tensor([[0.9, 0.0, 0.5], [0.0, 1.6, 0.5], [0.0, 0.0, 1.0]])
    # 640x360 is resized to 455x256, of which columns 99 to 354 remain.
    cropped = crop_intrinsics(intrinsics, (360, 640), (256, 256))
    expected = [[0.9 * 455 / 256, 0, (227.5 - 99) / 256], [0, 1.6, 0.5], [0, 0, 1]]
    torch.testing.assert_close(cropped, torch.tensor(expected))


def test_depth_takes_the_nearest_pixel_and_never_mixes():
    depth = np.where(np.arange(40) < 21, 1.0, 5.0).astype(np.float32) * np.ones((30, 1), np.float32)
    cropped = crop_depth(depth, (16, 16))
    assert set(cropped.unique().tolist()) == {1.0, 5.0}
    # 40x30 -> 21x16; columns 2 to 17 remain; the edge at 21 of 40 is at 21 * 21 / 40 - 2 = 9.03.
    assert (cropped == 1).all(0).sum() == 9
    np.testing.assert_array_equal(crop_depth(depth, (30, 40)), depth)
