"""Scenes that a filling decoder was trained with, for viewers that do not fill."""

import pytest
import torch
from walls import BACK, LENS, SHAPE, capture, points_of, pose_at

import mvsplat
from mvsplat import Encoder, Gaussians, SplattingDecoder, Views
from mvsplat.decoder.widening import pixel_size
from mvsplat.geometry.spherical_harmonics import normalization
from mvsplat.refinement.covering import cameras_between, covered
from mvsplat.refinement.engine import TorchEngine
from mvsplat.types import Batch

NEAR = 4.0


@pytest.fixture(autouse=True, scope="module")
def fewer_looks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mvsplat.refinement.covering._LOOKS", 8)
        yield


@pytest.fixture(scope="module")
def photos():
    return capture()[:2]


@pytest.fixture(scope="module")
def faint(photos):
    """A Gaussian for every pixel of two photographs: small, and hardly opaque."""
    means = torch.cat([points_of(*photo) for photo in photos])
    colors = torch.cat([photo.pixels.flatten(1).mT.float() / 255 for photo, _ in photos])
    count = len(means)
    return Gaussians(
        means[None],
        torch.full((1, count, 3), 0.2 * BACK / SHAPE[1]),
        torch.tensor([1.0, 0, 0, 0]).repeat(1, count, 1),
        ((colors - 0.5) / normalization(0, 0))[None, :, :, None],
        torch.full((1, count), 0.2),
    )


@pytest.fixture(scope="module")
def views(photos):
    poses = torch.stack([photo.extrinsics for photo, _ in photos]).float()
    images = torch.stack([photo.pixels for photo, _ in photos]).float() / 255
    near = torch.full((1, 2), NEAR)
    return Views(images[None], poses[None], LENS.float().expand(1, 2, 3, 3), near, 3 * near)


@pytest.fixture(scope="module")
def result(faint, views):
    return cover(faint, views)


def cover(gaussians, views, **options):
    return covered(
        gaussians,
        SplattingDecoder(fill=True),
        cameras_between(views.extrinsics[0], views.intrinsics[0], [(0, 1)]),
        pixel_size(gaussians.means[0], views),
        NEAR,
        SHAPE,
        **options,
    )


def seen(gaussians, pose, fill=False):
    near = torch.full((1, 1), NEAR)
    lens = LENS.float()[None, None]
    shown = SplattingDecoder(fill=fill)(
        gaussians, pose.float()[None, None], lens, near, near, SHAPE
    )
    return shown.color[0, 0].clamp(0, 1)


def psnr(a, b):
    return float(-10 * (a - b).square().mean().log10())


def test_without_filling_the_scene_looks_as_it_did_with_it(faint, result):
    for pose in (pose_at(-0.2, 0.07), pose_at(-0.35, 0.03)):  # no camera that it was fitted for
        right = seen(faint, pose, fill=True)
        assert psnr(seen(faint, pose), right) < 15
        assert psnr(seen(result, pose), right) > 28
    for name in ("means", "rotations", "harmonics"):
        assert torch.equal(getattr(result, name), getattr(faint, name))


def test_without_holes_nothing_grows_where_nothing_is(photos, faint, views):
    """Where the pixels of photographs do not count, a filling decoder smears what is around."""
    pixels = SHAPE[0] * SHAPE[1]
    upper = torch.arange(pixels).repeat(len(photos)) < pixels // 2
    half = Gaussians(
        *(t[:, upper] for t in (faint.means, faint.scales, faint.rotations)),
        *(t[:, upper] for t in (faint.harmonics, faint.opacities)),
    )
    pose = pose_at(-0.35, 0.03)
    shown, filled = seen(cover(half, views, holes=False), pose), seen(half, pose, fill=True)
    rows = SHAPE[0] // 2
    assert psnr(shown[:, : rows - 4], filled[:, : rows - 4]) > 28
    assert shown[:, rows + 4 :].max() < 0.05
    assert filled[:, rows + 4 :].mean() > 0.3
    assert seen(cover(half, views), pose)[:, rows + 4 :].max() > 0.1


def test_the_same_seed_gives_the_same_bits_and_interruptions_go_on(faint, views, result):
    again = cover(faint, views)
    assert torch.equal(again.opacities, result.opacities)
    assert torch.equal(again.scales, result.scales)

    def stop(done, total):
        assert 1 <= done <= total
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cover(faint, views, progress=stop)


def test_engines_agree(faint, views, monkeypatch):
    monkeypatch.setattr("mvsplat.refinement.covering._MOST", 12)
    ours, plain = cover(faint, views), cover(faint, views, engine=TorchEngine())
    # Adam takes whole steps where gradients are all but 0, to whichever side rounding falls.
    close = (ours.opacities - plain.opacities).abs() < 0.02
    assert close.float().mean() > 0.98
    assert not torch.allclose(ours.opacities, faint.opacities, atol=0.1)


def test_cameras_between_are_on_the_way():
    poses = torch.stack([pose_at(0, 0), pose_at(1, 0), pose_at(5, 0)])
    found, lenses = cameras_between(poses, LENS.expand(3, 3, 3), [(0, 1)])
    assert found[:, 0, 3].tolist() == pytest.approx([0, 1, 5, 0.25, 0.5, 0.75], abs=1e-3)
    torch.testing.assert_close(lenses, LENS.expand(6, 3, 3), atol=1e-6, rtol=0)


class Known(Encoder):
    """Predicts what it was given."""

    def __init__(self, gaussians: Gaussians | None = None):
        super().__init__()
        self.gaussians = gaussians

    def forward(self, views):
        return self.gaussians


@pytest.mark.parametrize("fill", [True, False])
def test_predict_covers_what_the_decoder_fills_and_nothing_else(faint, views, result, fill):
    both = Gaussians(
        *(torch.cat([t, t]) for t in (faint.means, faint.scales, faint.rotations)),
        *(torch.cat([t, t]) for t in (faint.harmonics, faint.opacities)),
    )
    model = mvsplat.MVSplat(Known(both), SplattingDecoder(fill=fill), {"lpips": None})
    two = Views(*(torch.cat([t, t]) for t in (views.image, views.extrinsics, views.intrinsics)),
                *(torch.cat([t, t]) for t in (views.near, views.far)))  # fmt: skip
    with torch.inference_mode():  # as the trainer does
        found = model.predict_step(Batch(two, two, ["a", "b"]), 0)
    if not fill:
        assert found is both
        return
    for number in range(2):
        torch.testing.assert_close(found.opacities[number], result.opacities[0])
        torch.testing.assert_close(found.scales[number], result.scales[0])
    assert torch.equal(found.means, both.means)
