"""All photographs through a network, a few at a time: what is asked of it, what is kept."""

from dataclasses import replace

import pytest
import torch

from mvsplat import Encoder, Gaussians, SplattingDecoder
from mvsplat.data.bounds import Bounds
from mvsplat.decoder.widening import widened_by_pixels
from mvsplat.geometry.projection import camera_rays, pixel_centers
from mvsplat.reconstruction import checkpoint, scaling
from mvsplat.reconstruction.checkpoint import TrainedModel
from mvsplat.reconstruction.frames import CroppedFrame
from mvsplat.reconstruction.starting import predict_all, whole_shape
from mvsplat.refinement.merging import DepthView
from mvsplat.types import DepthEstimate

SIZE, WALL = 16, 5.0
LENS = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
BOUNDS = Bounds(2.0, 10.0, "given")


class WallEncoder(Encoder):
    """Knows that there is a wall at z = 5 in the scene, of which it is told in its own unit."""

    def __init__(self, each: int = 1, estimates: bool = True):
        super().__init__()
        self.each, self.estimates = each, estimates
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[int]] = []
        self.in_bf16: set[bool] = set()

    def forward(self, views):
        self.in_bf16.add(torch.is_autocast_enabled("cpu"))
        self.seen.append(views.index[0].tolist())
        v = views.image.shape[1]
        depth = WALL * views.near / BOUNDS.near  # cameras stand at z = 0
        pixels = pixel_centers(SIZE, SIZE, LENS.device).view(1, -1, 2)
        rays = camera_rays(pixels.expand(v, -1, 2), views.intrinsics[0])
        means = rays * depth[0, :, None, None] + views.extrinsics[0, :, None, :3, 3]
        means = means.repeat_interleave(self.each, dim=1).flatten(0, 1)
        count = len(means)
        color = views.image[0].flatten(2).mT.repeat_interleave(self.each, dim=1).flatten(0, 1)
        estimate = DepthEstimate(
            depth[..., None, None].expand(1, v, SIZE, SIZE),
            torch.full((1, v, 4, 4), 0.5),
            torch.zeros(1, v, 3, 4, 4),
            torch.ones(1, v, 3),
        )
        return Gaussians(
            means[None],
            torch.full((1, count, 3), 0.1),
            torch.tensor([1.0, 0, 0, 0]).repeat(1, count, 1),
            color[None, ..., None],
            torch.full((1, count), 0.9),
            estimate if self.estimates else None,
        )


def photographs(places):
    """Cameras along x that look at a wall whose colour is the place."""
    frames = []
    for number, x in enumerate(places):
        pose = torch.eye(4)
        pose[0, 3] = x
        points = camera_rays(pixel_centers(SIZE, SIZE, LENS.device).view(-1, 2), LENS) * WALL
        wave = 0.5 + 0.4 * (points + pose[:3, 3])[:, :2].sin()
        color = torch.cat([wave, torch.zeros(len(wave), 1)], dim=1)
        pixels = (255 * color).round().to(torch.uint8).T.reshape(3, SIZE, SIZE)
        frames.append(CroppedFrame(number, str(number), pixels, pose, LENS))
    return frames


def model(context_views=(2, 2), **settings) -> TrainedModel:
    encoder, decoder = WallEncoder(**settings), SplattingDecoder()
    return TrainedModel(encoder, decoder, (SIZE, SIZE), 1.0, 100.0, context_views=context_views)


ROW = photographs([0.4 * i for i in range(7)])


@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("views", [None, 3])
def test_every_photograph_is_predicted_and_nothing_twice(each, views):
    asked = model(each=each)
    told = []
    scene = predict_all(asked, ROW, BOUNDS, views, progress=lambda *x: told.append(x))
    groups = asked.encoder.seen
    assert all(len(group) == (views or 2) for group in groups) and len(groups) <= 7
    assert told == [(done, len(groups)) for done in range(len(groups) + 1)]
    assert torch.allclose(scene.depth, torch.tensor(WALL)) and scene.depth.shape == (7, SIZE, SIZE)
    assert torch.allclose(scene.gaussians.means[..., 2], torch.tensor(WALL))
    # The wall that any of them shows is there, in about one Gaussian a pixel and not seven.
    left, right = -0.5 * WALL, 0.5 * WALL + 2.4
    density = scene.gaussians.means.shape[1] / (each * (right - left) * WALL / (WALL / SIZE) ** 2)
    assert 0.9 < density < 0.9 * (views or 2)  # what is seen together is not merged
    x = scene.gaussians.means[0, :, 0]
    assert x.min() < left + 0.3 and x.max() > right - 0.3
    assert torch.allclose(scene.confidence, torch.tensor(0.5))
    assert torch.allclose(scene.pixel, torch.tensor(WALL / SIZE))
    # What a Gaussian shows is what its photograph shows.
    for number, frame in enumerate(ROW):
        mine = scene.photograph == number
        offset = scene.gaussians.means[0, mine] - frame.extrinsics[:3, 3]
        place = ((offset[:, :2] / WALL + 0.5) * SIZE).long()
        pixels = frame.pixels[:, place[:, 1], place[:, 0]].T / 255
        assert torch.allclose(scene.gaussians.harmonics[0, mine, :, 0], pixels, atol=1e-6)


@pytest.mark.parametrize("faster", [False, True])
@pytest.mark.parametrize("precision", ["auto", "32", "bf16"])
def test_the_network_computes_in_the_precision_that_is_asked_for(precision, faster, monkeypatch):
    """And by itself in bf16 where the processor is faster in it; never what is made of it."""
    monkeypatch.setattr(checkpoint, "bf16_is_faster", lambda: faster)
    asked = model()
    asked.precision = checkpoint.precision_named(precision, asked.device)
    undone = []
    monkeypatch.setattr(
        scaling.Scaling, "undo", lambda _, x: undone.append(torch.is_autocast_enabled("cpu")) or x
    )
    predict_all(asked, ROW[:2], BOUNDS)
    assert asked.encoder.in_bf16 == {precision == "bf16" or (precision == "auto" and faster)}
    assert not any(undone) and undone


def test_the_work_grows_with_the_photographs_and_no_faster(monkeypatch):
    looked = []
    look = DepthView.look
    monkeypatch.setattr(
        DepthView, "look", lambda self, points: looked.append(len(points)) or look(self, points)
    )
    sizes = {}
    for count in (25, 200):
        looked.clear()
        asked = model()
        scene = predict_all(asked, photographs([0.4 * i for i in range(count)]), BOUNDS)
        assert count / 2 <= len(asked.encoder.seen) <= count
        sizes[count] = len(asked.encoder.seen), sum(looked), scene.gaussians.means.shape[1]
    for few, many in zip(sizes[25], sizes[200], strict=True):
        assert many < 9 * few


def test_two_photographs_are_what_the_network_says_of_them():
    asked = model()
    scene = predict_all(asked, ROW[:2], BOUNDS)
    assert asked.encoder.seen == [[0, 1]] and scene.gaussians.means.shape[1] == 2 * SIZE**2


def test_an_encoder_that_tells_no_depth_has_all_it_says_kept():
    asked = model(estimates=False)
    scene = predict_all(asked, ROW, BOUNDS)
    assert scene.depth is None
    assert scene.gaussians.means.shape[1] == len(asked.encoder.seen) * 2 * SIZE**2
    assert torch.allclose(scene.confidence, torch.tensor(1.0))
    assert torch.allclose(scene.pixel, torch.tensor(WALL / SIZE))


@pytest.mark.parametrize(("each", "estimates"), [(1, True), (3, True), (2, False)])
def test_nothing_is_predicted_of_pixels_that_do_not_count(each, estimates):
    """Whether their photographs tell which pixels Gaussians are of, or only where these are."""
    asked = model(each=each, estimates=estimates)
    masks = torch.ones(2, SIZE, SIZE, dtype=torch.bool)
    masks[0, :5] = masks[1, :, :6] = False
    pair = [replace(frame, mask=mask) for frame, mask in zip(ROW[::4], masks, strict=False)]
    scene = predict_all(asked, pair, BOUNDS)
    means = scene.gaussians.means[0]
    counted = torch.zeros(len(means), dtype=torch.bool)
    for number, (frame, mask) in enumerate(zip(pair, masks, strict=True)):
        x, y = (((means - frame.extrinsics[:3, 3])[:, :2] / WALL + 0.5) * SIZE).floor().long().T
        inside = (x >= 0) & (x < SIZE) & (y >= 0) & (y < SIZE)
        shown = inside & mask[y.clamp(0, SIZE - 1), x.clamp(0, SIZE - 1)]
        if estimates:
            mine = scene.photograph == number
            assert shown[mine].all() and mine.sum() == each * mask.sum()
            assert torch.equal(scene.depth[number] > 0, mask)
        counted |= shown
    assert counted.all()
    if not estimates:  # nothing else is left out
        whole = predict_all(model(each=each), ROW[:5:4], BOUNDS).gaussians.means[0]
        assert 0.6 * len(whole) < len(means) < len(whole)


def test_widening_is_that_of_the_own_pixels():
    scene = predict_all(model(), ROW[:2], BOUNDS)
    assert torch.equal(
        widened_by_pixels(scene.gaussians, scene.pixel, 1).scales, scene.gaussians.scales
    )
    assert torch.allclose(
        widened_by_pixels(scene.gaussians, scene.pixel).scales,
        torch.tensor(0.2**2 + 0.3 * (WALL / SIZE) ** 2).sqrt(),
    )


def test_the_work_ends_between_groups():
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    asked = model()
    with pytest.raises(KeyboardInterrupt):
        predict_all(asked, ROW, BOUNDS, progress=stop)
    assert len(asked.encoder.seen) == 2


@pytest.mark.parametrize(
    "shape, photo, divisor, whole",
    [
        ((64, 64), (719, 480), 16, (96, 64)),
        ((64, 64), (480, 640), 16, (64, 80)),
        ((256, 256), (480, 270), 32, (448, 256)),
        ((64, 64), (100, 100), 16, (64, 64)),
        ((48, 64), (100, 110), 16, (48, 48)),
        # Of 4:3, 256 x 352 would lose 3 %, 288 x 384 nothing; of 3:2 nothing is lost as it is.
        ((256, 448), (480, 640), 32, (288, 384)),
        ((256, 448), (640, 480), 32, (384, 288)),
        ((256, 448), (480, 720), 32, (256, 384)),
        # 448 x 608 loses 1.8 %, which is hardly anything.
        ((448, 768), (480, 640), 32, (448, 608)),
    ],
)
def test_whole_photographs_have_room(shape, photo, divisor, whole):
    assert whole_shape(shape, photo, divisor) == whole


@pytest.mark.parametrize(
    ("trained", "photos", "asked", "at_once"),
    [
        ((4, 10), 7, None, 7),
        ((4, 10), 3, None, 3),
        ((2, 4), 7, None, 3),
        ((2, 2), 7, None, 2),
        ((2, 4), 7, 5, 5),
    ],
)
def test_as_many_are_seen_at_once_as_in_training(trained, photos, asked, at_once):
    network = model(context_views=trained)
    predict_all(network, ROW[:photos], BOUNDS, asked)
    assert {len(seen) for seen in network.encoder.seen} == {at_once}
