"""The scene in the page's frame, and the splats as the browser is sent them."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from viewer_scenes import FAR, LENS, NEAR, make_gaussians, make_poses, render

from mvsplat.decoder.reference import project
from mvsplat.export import Cameras, Frame
from mvsplat.types import Gaussians
from mvsplat.viewer.frusta import Frusta
from mvsplat.viewer.scene import (
    DISTANCE,
    ViewedScene,
    fitting_tangent,
    pose_of,
    quaternion_of,
)
from mvsplat.viewer.session import Session
from mvsplat.viewer.splats import buffers


def make_cameras(count: int = 3, **fields) -> Cameras:
    frames = [Frame(f"{i}", pose, LENS, 64, 48) for i, pose in enumerate(make_poses(count))]
    return Cameras(frames, NEAR, FAR, **fields)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_pages_frame_shows_the_same_picture_in_any_unit(scale):
    gaussians, cameras = make_gaussians(0), make_cameras()
    expected = render(gaussians, cameras.frames[1].extrinsics, 60, 80)
    gaussians.means, gaussians.scales = gaussians.means * scale, gaussians.scales * scale
    cameras.near, cameras.far = cameras.near * scale, cameras.far * scale
    for frame in cameras.frames:
        frame.extrinsics[:3, 3] *= scale
    scene = ViewedScene(gaussians, cameras)
    distance = (scene.gaussians.means[0] - scene.frames[1].extrinsics[:3, 3]).norm(dim=-1)
    assert 0.5 * DISTANCE < distance.median() < 2 * DISTANCE
    pose = scene.frames[1].extrinsics
    picture = scene.render(scene.gaussians, pose, 0.5, 60, 80).color[0, 0].clamp(0, 1)
    torch.testing.assert_close(picture, expected, atol=2e-3, rtol=0)
    world = scene.to_world(pose)
    torch.testing.assert_close(world, cameras.frames[1].extrinsics, rtol=1e-5, atol=1e-5 * scale)
    torch.testing.assert_close(scene.to_page(world), pose, rtol=1e-4, atol=1e-4)


def test_up_is_what_the_cameras_agree_on():
    assert ViewedScene(make_gaussians(0)).up.tolist() == [0, -1, 0]
    up = ViewedScene(make_gaussians(0), make_cameras()).up
    assert up @ [0, -1, 0] > 0.9 and np.linalg.norm(up) == pytest.approx(1)


def test_paths_begin_and_end_at_cameras_and_exist_without_any():
    scene = ViewedScene(make_gaussians(0), make_cameras())
    for number, frame in ((0, scene.frames[0]), (-1, scene.frames[-1])):
        pose = scene.path.extrinsics[number]
        torch.testing.assert_close(pose, frame.extrinsics, atol=1e-5, rtol=0)
    for cameras in (None, make_cameras(1)):
        scene = ViewedScene(make_gaussians(0), cameras)
        start, end = scene.path.extrinsics[0], scene.path.extrinsics[-1]
        assert torch.isfinite(scene.path.extrinsics).all()
        assert (start - end).abs().max() < 0.2  # a loop


def test_filling_gaps_adds_the_dilation_of_the_finest_photograph():
    gaussians = make_gaussians(0)
    scene = ViewedScene(gaussians, make_cameras())
    filled = scene.adjusted(1.0, 4, True)
    added = (filled.scales.square() - scene.gaussians.scales.square())[0]
    expected = []
    for frame in scene.frames:
        to_camera = torch.linalg.inv(frame.extrinsics)
        depth = (scene.gaussians.means[0] @ to_camera[:3, :3].T + to_camera[:3, 3])[:, 2]
        expected.append(0.3 * (depth / 48) ** 2)  # focal length 1.0, 48 pixels high
    expected = torch.stack(expected).amin(dim=0)[:, None].expand(-1, 3)
    torch.testing.assert_close(added, expected, rtol=1e-3, atol=1e-5)
    for unfilled in (
        scene.adjusted(1.0, 4, False),
        ViewedScene(gaussians, make_cameras(dilated=True)).adjusted(1.0, 4, True),
    ):
        torch.testing.assert_close(unfilled.scales, scene.gaussians.scales)
    assert scene.adjusted(2.0, 1, False).harmonics.shape[-1] == 4
    torch.testing.assert_close(scene.adjusted(2.0, 1, False).scales, 2 * scene.gaussians.scales)


def test_cameras_survive_the_way_to_viser_and_back():
    for pose in make_poses(5):
        there = pose_of(quaternion_of(pose), pose[:3, 3].numpy())
        torch.testing.assert_close(there, pose, atol=1e-5, rtol=0)


def test_a_canvas_shows_the_whole_photograph():
    frame = make_cameras().frames[0]  # half its height at distance 1 is 1/2, half its width 2/3
    assert fitting_tangent(frame, aspect=4 / 3) == pytest.approx(0.5)
    assert fitting_tangent(frame, aspect=3.0) == pytest.approx(0.5)
    assert fitting_tangent(frame, aspect=2 / 3) == pytest.approx(1.0)


def one_gaussian(sigma: float, opacity: float) -> Gaussians:
    return Gaussians(
        means=torch.tensor([[[0.0, 0.0, 10.0]]]),
        scales=torch.full((1, 1, 3), sigma),
        rotations=torch.tensor([[[1.0, 0, 0, 0]]]),
        harmonics=torch.zeros(1, 1, 3, 1),
        opacities=torch.tensor([[opacity]]),
    )


def footprint(covariance: np.ndarray, focal: float) -> float:
    """Determinant of the dilated footprint, by the reference rasterizer's projection."""
    axes = torch.linalg.cholesky(torch.from_numpy(covariance).double())
    lens = torch.tensor([focal, focal, 50.0, 50.0]).double()
    point = torch.tensor([[0.0, 0.0, 10.0]]).double()
    return float(torch.det(project(point, axes, lens, 100, 100)[1])[0])


@pytest.mark.parametrize(
    ("sigma", "opacity"), [(0.001, 1.0), (0.02, 0.9), (0.05, 0.3), (0.02, 0.1)]
)
def test_splats_that_viser_would_drop_are_drawn_at_the_same_integrated_opacity(sigma, opacity):
    gaussians, focal = one_gaussian(sigma, opacity), 100.0
    sent = buffers(gaussians, torch.eye(4), focal)
    before = footprint(gaussians.covariances[0].numpy(), focal)
    after, shown = footprint(sent.covariances, focal), float(sent.opacities[0, 0])
    assert opacity * before < 0.25 < shown * after < 0.28  # viser draws from 1/4
    assert shown * math.sqrt(after) == pytest.approx(opacity * math.sqrt(before), rel=1e-3)


def test_other_splats_are_sent_as_they_are():
    gaussians = one_gaussian(0.3, 0.9)
    for pose in (torch.eye(4), torch.diag(torch.tensor([-1.0, 1, -1, 1]))):  # ahead, behind
        sent = buffers(gaussians, pose, 100.0)
        np.testing.assert_allclose(sent.covariances, gaussians.covariances[0].numpy(), rtol=1e-6)
        np.testing.assert_allclose(sent.opacities, 0.9, rtol=1e-6)


def test_colours_are_those_of_the_pages_camera():
    gaussians = one_gaussian(0.3, 0.9)
    gaussians.harmonics = torch.zeros(1, 1, 3, 4)
    gaussians.harmonics[0, 0, 0, 2] = 1.0  # red grows along z
    factor = math.sqrt(3 / (4 * math.pi))
    pose = torch.eye(4)
    assert buffers(gaussians, pose, 100.0).rgbs[0] == pytest.approx([0.5 + factor, 0.5, 0.5], 1e-5)
    pose[2, 3] = 20.0  # beyond it
    assert buffers(gaussians, pose, 100.0).rgbs[0] == pytest.approx([0.5 - factor, 0.5, 0.5], 1e-5)


class FakeFrustum:
    def __init__(self):
        self.visible, self.callback = True, None

    def on_click(self, callback):
        self.callback = callback


class FakeScene:
    def __init__(self):
        self.frusta = []

    def add_camera_frustum(self, name, **arguments):
        self.frusta.append(FakeFrustum())
        return self.frusta[-1]


def test_frusta_leave_the_view_of_a_camera_free_and_can_be_clicked(tmp_path):
    scene = ViewedScene(make_gaussians(0), make_cameras())
    scene.frames[1].image = tmp_path / "broken.png"
    scene.frames[1].image.write_bytes(b"no picture")
    page, clicked = FakeScene(), []
    frusta = Frusta(page, scene.frames, clicked.append)
    far_away = torch.tensor([0.0, -5 * DISTANCE, 0.0])
    for show, position, expected in (
        (True, far_away, True),
        (False, far_away, False),
        (True, scene.frames[2].extrinsics[:3, 3], False),
    ):
        frusta.declutter(show, position)
        assert [frustum.visible for frustum in page.frusta] == [expected] * 3
    page.frusta[2].callback(None)
    assert clicked == [2]
    Frusta(page, [], clicked.append).declutter(True, far_away)


@pytest.mark.parametrize("shown", [True, False])
def test_frusta_that_replace_others_are_shown_as_these_were(shown):
    """Cameras that change while nobody moves: those hidden, or where one stands, do not appear."""
    scene = ViewedScene(make_gaussians(0), make_cameras())
    page = Session.__new__(Session)
    page._client = SimpleNamespace(
        scene=FakeScene(), camera=SimpleNamespace(position=scene.frames[2].extrinsics[:3, 3])
    )
    page._controls = SimpleNamespace(show_cameras=SimpleNamespace(value=shown))
    page._frusta, page._playing_since = Frusta(FakeScene(), [], print), None
    page._replace_frusta(scene)
    assert len(page._client.scene.frusta) == 3
    assert not any(frustum.visible for frustum in page._client.scene.frusta)
