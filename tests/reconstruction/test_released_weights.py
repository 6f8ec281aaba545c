"""Released weights in ``reconstruct``: what they were trained with, and bounds from depth alone."""

import shutil
from dataclasses import replace

import pytest
import torch
from golden.cases import published_state as mvsplat_state
from tiny_depthsplat import published_state, small_depthsplat
from torch import nn

import mvsplat
from mvsplat.data.bounds import Bounds
from mvsplat.reconstruction.checkpoint import TrainedDepth, load_trained, load_trained_depth
from mvsplat.reconstruction.depth_range import DepthRange
from mvsplat.reconstruction.depth_weights import bounds_of_photos
from mvsplat.reconstruction.frames import UsedPhoto
from mvsplat.refinement.photographs import read_photographs
from mvsplat.types import DepthEstimate


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Small weights by the published names: with Gaussians, at both resolutions, and of depth."""
    folder = tmp_path_factory.mktemp("released")
    for kind, name in (("small low", "low.pth"), ("base low", "base.pth"), ("small", "high.pth")):
        torch.save({"state_dict": published_state(small_depthsplat(kind))}, folder / name)
    depth = published_state(small_depthsplat("small").depth)
    for name in ("depth.pth", "depth-32x48-randview2-8.pth"):
        torch.save({"model": depth}, folder / name)
    torch.save({"state_dict": mvsplat_state("tiny_2views")}, folder / "mvsplat.ckpt")
    return folder


@pytest.mark.parametrize(
    ("file", "name", "shape", "views", "near", "far"),
    [
        ("mvsplat.ckpt", "re10k.ckpt", (256, 256), (2, 2), 1, 100),
        ("high.pth", "mine.pth", (256, 256), (2, 2), 0.5, 100),
        ("low.pth", "mine.pth", (448, 768), (4, 10), 0.5, 200),
        ("base.pth", "mine.pth", (256, 448), (2, 6), 0.5, 200),
        (
            "base.pth",
            "depthsplat-gs-base-re10k-256x448-view2-fea94f65.pth",
            (256, 448),
            (2, 2),
            0.5,
            100,
        ),
        (
            "base.pth",
            "depthsplat-gs-base-re10kdl3dv-448x768-randview2-6-f8ddd845.pth",
            (448, 768),
            (2, 6),
            0.5,
            200,
        ),
        # The first characters of the hash are no number of views.
        ("high.pth", "depthsplat-gs-x-256x256-view2-12345678.pth", (256, 256), (2, 2), 0.5, 100),
    ],
)
def test_views_of_released_weights(files, tmp_path, file, name, shape, views, near, far):
    shutil.copy(files / file, tmp_path / name)
    model = load_trained(tmp_path / name)
    assert (model.image_shape, model.context_views) == (shape, views)
    assert (model.near, model.far, model.name) == (near, far, name)


def test_views_of_a_training_here(checkpoint, tmp_path):
    assert load_trained(checkpoint).context_views == (2, 2)
    content = torch.load(checkpoint, weights_only=True)
    content["mvsplat"]["views"]["context_views"] = [2, 6]
    torch.save(content, tmp_path / "own.ckpt")
    assert load_trained(tmp_path / "own.ckpt").context_views == (2, 6)


# Bounds from depth


class KnownDepth(mvsplat.DepthSplatDepth):
    """Tells the room's depth, as it is in the unit that it is handed the cameras in."""

    divisor = 4

    def __init__(self, room):
        nn.Module.__init__(self)
        self.room, self.seen = room, []
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, views):
        frames = views.index[0].tolist()
        self.seen.append((frames, float(views.near[0, 0]), float(views.far[0, 0])))
        unit = 1.0
        if len(frames) > 1:
            ours, theirs = (
                (x[0, :3, 3] - x[1, :3, 3]).norm()
                for x in (views.extrinsics[0], self.room.extrinsics[frames])
            )
            unit = ours / theirs
        depth = torch.stack([torch.as_tensor(self.room.depth(frame)) for frame in frames])
        depth = depth[None].float() * unit
        none = torch.zeros(1, len(frames), 1, 1)
        return DepthEstimate(depth, none, none[:, :, None], none[..., 0])


def reduced(depth, shape):
    return nn.functional.interpolate(torch.as_tensor(depth)[None, None].float(), shape)[0, 0]


def test_bounds_from_depth_are_the_scenes_in_its_own_unit(room):
    found = read_photographs(room, range(len(room)), [f"{i}" for i in range(len(room))], 64)
    photos = [UsedPhoto(index, photo, 0.0) for index, photo in enumerate(found.photographs)]
    model = KnownDepth(room)
    trained = TrainedDepth(model, (36, 64), 0.5, 200.0, "known", (2, 3))
    guess = DepthRange(Bounds(3.0, 5.0, "a guess"), None)
    bounds = bounds_of_photos(trained, photos, guess)
    truth = torch.cat([torch.as_tensor(room.depth(i)).flatten() for i in range(len(room))]).double()
    low, high = (torch.quantile(truth[::50], share) for share in (0.01, 0.99))
    # Without the few that are nearest and farthest, with a little room.
    assert 0.8 * low < bounds.near < 1.1 * low and 0.9 * high < bounds.far < 1.4 * high
    assert bounds.origin == "the depth of known"
    # It is asked from half of the guess on, which is its own near bound, as far as in training.
    assert all((near, far) == pytest.approx((0.5, 200)) for _, near, far in model.seen)
    assert len(model.seen) <= 4 and {len(frames) for frames, *_ in model.seen} == {2}
    # Pixels that do not count have no part in it: here all from the median on.
    middle = truth[::50].median()
    near_parts = [
        replace(photo, photograph=replace(photo.photograph, mask=mask))
        for photo in photos
        for mask in [reduced(room.depth(photo.index), photo.photograph.shape) < middle]
    ]
    ending = bounds_of_photos(trained, near_parts, guess)
    assert 0.9 * middle < ending.far < min(1.4 * middle, 0.8 * bounds.far)
    assert ending.near == pytest.approx(bounds.near, 0.1)


def test_reconstruct_takes_bounds_from_depth_weights(posed, checkpoint, files):
    options = dict(checkpoint=checkpoint, size=32, refine="off", max_photos=2, held_out=0)
    plain = mvsplat.reconstruct(posed, **options)
    weights = files / "depth-32x48-randview2-8.pth"  # small pictures
    scene = mvsplat.reconstruct(posed, depth_weights=weights, **options)
    assert scene.bounds.origin == f"the depth of {weights.name}" != plain.bounds.origin
    assert scene.bounds[:2] != plain.bounds[:2] and 0 < scene.bounds.near < scene.bounds.far
    assert scene.gaussians.means.isfinite().all()
    near = 0.5 * scene.bounds.near
    given = mvsplat.reconstruct(posed, near=near, depth_weights=weights, **options)
    assert given.bounds.near == near < given.bounds.far
    assert given.bounds.origin == scene.bounds.origin


def test_depth_is_taken_from_files_with_gaussians_too_and_from_no_others(files, checkpoint):
    # As in the files' name: those of depth alone saw other views.
    assert load_trained_depth(files / "depth.pth").image_shape == (352, 640)
    assert load_trained_depth(files / "depth.pth").context_views == (2, 8)
    assert load_trained_depth(files / "depth-32x48-randview2-8.pth").image_shape == (32, 48)
    assert load_trained_depth(files / "low.pth").image_shape == (448, 768)
    for file in (checkpoint, files / "mvsplat.ckpt"):
        with pytest.raises(ValueError, match=f"{file.name} holds no model of depth: .* would fit"):
            load_trained_depth(file)


def test_gaussians_from_depth_alone_are_refused(posed, files):
    with pytest.raises(ValueError, match="depth.pth is a DepthSplat checkpoint of depth alone"):
        mvsplat.reconstruct(posed, checkpoint=files / "depth.pth")


def test_the_scene_comes_back_in_its_own_unit(posed, files):
    """From released weights, which know scenes whose nearest content is about 1."""
    scene = mvsplat.reconstruct(
        posed, checkpoint=files / "high.pth", size=32, refine="off", max_photos=2, held_out=0
    )
    depth = scene.before.depth
    low, high = scene.bounds.near, scene.bounds.far
    assert depth.min() >= low * 0.999 and depth.max() <= high * 1.001
    # At most 3 of their units, which are 2 a near bound.
    assert 0 < scene.gaussians.scales.max() <= 6 * low * 1.001
    assert scene.before.shape == (32, 32)
