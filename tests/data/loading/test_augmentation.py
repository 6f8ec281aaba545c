"""Changes of training samples: cameras follow crops, targets stay clean, bounds are off as told."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from mvsplat.data.data_module import SceneDataModule
from mvsplat.data.loading.augmentation import Augmentation, Place
from mvsplat.data.loading.shapes import StepShapes
from mvsplat.data.transforms import window_depth, window_image, window_intrinsics
from mvsplat.types import Batch, Views

NONE = dict(zoom=1.0, tone=0.0, near=(1.0, 1.0), far=(1.0, 1.0), differing=0.0)
PHOTOMETRY = dict(exposure=0.0, white_balance=0.0, vignetting=0.0, noise=0.0, blur=0.0, jpeg=96)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def views(count, size=(24, 32)):
    return Views(
        image=0.2 + 0.6 * torch.rand(1, count, 3, *size, generator=generator(count)),
        extrinsics=torch.eye(4).repeat(1, count, 1, 1),
        intrinsics=torch.eye(3).repeat(1, count, 1, 1),
        near=torch.full((1, count), 2.0),
        far=torch.full((1, count), 8.0),
    )


BATCH = Batch(views(3), views(2), ["scene"])


@pytest.mark.parametrize("shape", [(32, 32), (24, 40), (40, 24)])
def test_cameras_and_depth_follow_the_window(shape):
    """In a picture whose colours and depths are the pixels' places, each shows where it was."""
    frame = (96, 120)
    x, y = (np.arange(size) + 0.5 for size in (frame[1], frame[0]))
    red = np.broadcast_to(x, frame) * 2
    green = np.broadcast_to(y[:, None], frame) * 2
    picture = np.stack([red, green, 0 * red], axis=-1).round().astype(np.uint8)
    intrinsics = torch.tensor([[0.9, 0, 0.48], [0, 1.1, 0.53], [0, 0, 1]])
    window = Place(1.7, 0.3, 0.8).window(frame, shape)
    assert (window.bottom - window.top) / (window.right - window.left) == pytest.approx(
        shape[0] / shape[1]
    )
    image = window_image(Image.fromarray(picture), window, shape)
    depth = window_depth(red + 1000 * green, window, shape)
    new = window_intrinsics(intrinsics, frame, window)
    # The direction of a pixel of the window is that of the place in the frame that it shows.
    column, row = 0.5 + np.arange(shape[1]), 0.5 + np.arange(shape[0])
    direction = (column / shape[1] - float(new[0, 2])) / float(new[0, 0])
    place = (direction * 0.9 + 0.48) * frame[1]
    inner = slice(2, -2)  # Lanczos knows less at the window's edge
    np.testing.assert_allclose(image[0, 5].numpy()[inner], 2 * place[inner], atol=2)
    np.testing.assert_allclose(depth[5].numpy() % 1000, 2 * place, atol=1.01)
    direction = (row / shape[0] - float(new[1, 2])) / float(new[1, 1])
    place = (direction * 1.1 + 0.53) * frame[0]
    np.testing.assert_allclose(image[1, :, 5].numpy()[inner], 2 * place[inner], atol=2)


def test_crops_are_within_the_frame_and_invent_no_pixels():
    for seed in range(30):
        place = Augmentation(zoom=2.0).place(generator(seed))
        left, top, right, bottom = place.window((90, 120), (64, 64))
        assert 0 <= left < right <= 120 + 1e-9 and 0 <= top < bottom <= 90 + 1e-9
        assert bottom - top >= 64 - 1e-9
    assert Place(2.0, 0.5, 0.5).window((64, 64), (64, 64)) == (0, 0, 64, 64)
    # Where the frame has too few pixels anyway, none more are lost.
    assert Place(2.0, 0.5, 0.5).window((32, 32), (64, 64)) == (0, 0, 32, 32)


def test_changes_are_a_function_of_the_sample():
    augmentation = Augmentation(differing=1.0)
    first, again, other = (augmentation.change(BATCH, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.context.image, again.context.image)
    assert torch.equal(first.target.image, again.target.image)
    assert first.context.far[0, 0] == again.context.far[0, 0]
    assert not torch.allclose(first.context.image, other.context.image)
    for batch in (first, other):
        assert batch.context.image.min() >= 0 and batch.context.image.max() <= 1


def test_what_is_set_to_nothing_changes_nothing():
    changed = Augmentation(**NONE, **PHOTOMETRY).change(BATCH, generator())
    torch.testing.assert_close(changed.context.image, BATCH.context.image)
    torch.testing.assert_close(changed.target.image, BATCH.target.image)
    assert torch.equal(changed.context.near, BATCH.context.near)


def test_context_views_differ_about_the_targets_brightness():
    settings = NONE | PHOTOMETRY | dict(differing=1.0, exposure=1.0, white_balance=0.05)
    changed = Augmentation(**settings).change(BATCH, generator(3))
    torch.testing.assert_close(changed.target.image, BATCH.target.image)
    gains = (changed.context.image / BATCH.context.image)[0].flatten(2)
    log_gains = gains.median(dim=-1).values.log()
    assert log_gains.std(dim=0).max() > 0.02
    torch.testing.assert_close(log_gains.mean(0), torch.zeros(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "change", [dict(vignetting=0.5), dict(noise=0.1), dict(blur=2.0), dict(jpeg=5)]
)
def test_each_photometric_change_shows_in_context_views_only(change):
    settings = NONE | PHOTOMETRY | dict(differing=1.0) | change
    changed = [Augmentation(**settings).change(BATCH, generator(seed)) for seed in range(6)]
    differences = [(batch.context.image - BATCH.context.image).abs().mean() for batch in changed]
    assert max(differences) > 0.01
    assert all(torch.equal(batch.target.image, BATCH.target.image) for batch in changed)


def test_bounds_are_off_by_the_factors_and_stay_in_order():
    augmentation = Augmentation(near=(0.5, 2.0), far=(0.25, 4.0))
    near, far = [], []
    for seed in range(60):
        batch = augmentation.change(BATCH, generator(seed))
        assert (batch.context.near[0] == batch.target.near[0, 0]).all()
        assert (batch.context.far > batch.context.near).all()
        near.append(float(batch.context.near[0, 0]) / 2)
        far.append(float(batch.context.far[0, 0]) / 8)
    assert 0.5 <= min(near) < 0.6 and 1.7 < max(near) <= 2.0
    assert max(far) <= 4.0 + 1e-6 and max(far) > 3.4
    assert abs(np.mean(np.log(near))) < 0.2  # as often too near as too far


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zoom": 0.5}, "zoom is 0.5; it must be at least 1"),
        ({"near": (2.0, 1.0)}, "near is .2.0, 1.0.; expected two positive factors"),
        ({"far": (0.0, 1.0)}, "far is"),
        ({"differing": 1.5}, "differing is 1.5; expected 0 to 1"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"blur": math.inf}, "blur is inf"),
        ({"jpeg": 100}, "jpeg is 100; expected 1 to 96"),
    ],
)
def test_settings_that_make_no_sense_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**change)


def test_shapes_are_drawn_as_often_as_told():
    shapes = StepShapes({"64x96": 3.0, "32x32": 1.0, "96x64": 0.5})
    drawn = [shapes.draw(generator(seed)) for seed in range(900)]
    shares = [drawn.count(shape) / 900 for shape in ((64, 96), (32, 32), (96, 64))]
    assert shares == pytest.approx([3 / 4.5, 1 / 4.5, 0.5 / 4.5], abs=0.05)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"64": 1.0}, "train_shapes has '64'; expected a height and a width"),
        ({"0x64": 1.0}, "'0x64'"),
        ({"64x64": 0.0}, "draws 64x64 0.0 times"),
    ],
)
def test_shapes_that_make_no_sense_are_named(shapes, message):
    with pytest.raises(ValueError, match=message):
        SceneDataModule(train_shapes=shapes)
