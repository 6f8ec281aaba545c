"""Cameras and exposures of photographs, estimated."""

from dataclasses import replace

import pytest
import torch
from worlds import cameras, photographs, world

from mvsplat.refinement.corrections import Corrections, adjoint, motion
from mvsplat.refinement.cpu.engine import CpuEngine
from mvsplat.refinement.engine import StepResult
from mvsplat.refinement.parameters import Parameters, Rates

STILL = Rates(*[0.0] * 6)


def test_an_adjoint_carries_a_motion_from_the_camera_to_the_world():
    generator = torch.Generator().manual_seed(0)
    twists = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    pose = motion(twists[0])
    torch.testing.assert_close(pose @ motion(twists[1]), motion(adjoint(pose) @ twists[1]) @ pose)


@pytest.fixture(scope="module")
def scene():
    truth = world()
    return Parameters.from_gaussians(truth), photographs(truth, 3)


def corrected(scene, photos, steps=150, **which):
    """Corrections by steps that leave the scene alone."""
    parameters, _ = scene
    options = {"poses": False, "exposures": False} | which
    corrections, engine = Corrections(photos, 1.0, **options), CpuEngine()
    for step in range(steps):
        index = step % len(photos)
        photo = corrections.corrected(photos[index], index)
        found = engine.step(parameters, photo, STILL, 1.0, 1, corrections.exposure(index))
        corrections.update(index, found, 0.2)
    return corrections


def test_a_camera_that_is_a_little_off_comes_nearer(scene):
    _, photos = scene
    off = motion(torch.tensor([0.004, -0.006, 0.003, 0.01, -0.005, 0.0], dtype=torch.float64))
    shaken = [replace(photos[0], extrinsics=photos[0].extrinsics @ off), *photos[1:]]
    found = corrected(scene, shaken, poses=True).extrinsics()
    truth = photos[0].extrinsics
    before, after = (distance(pose, truth) for pose in (shaken[0].extrinsics, found[0]))
    assert after < 0.6 * before
    assert distance(found[1], photos[1].extrinsics) < 0.3 * before


def distance(pose, truth):
    """How far pixels' rays of the middle move, two or three units away."""
    points = torch.tensor([[0.0, 0, 3, 1], [0.5, 0, 2, 1], [0, 0.5, 2, 1]], dtype=torch.float64)
    return (torch.linalg.inv(pose) @ truth @ points.T - points.T).norm().item()


def test_an_exposure_is_found(scene):
    _, photos = scene
    darker = (photos[0].pixels * 0.85).round().to(torch.uint8)
    found = corrected(scene, [replace(photos[0], pixels=darker), *photos[1:]], exposures=True)
    gains = found.exposures()[:, :, 0]
    assert (gains[0] < 0.965).all() and (gains[1:] > 0.98).all()


def test_nothing_is_corrected_where_it_is_switched_off(scene):
    _, photos = scene
    found = corrected(scene, photos, steps=3)
    assert torch.equal(found.extrinsics(), torch.stack([p.extrinsics for p in photos]))
    assert found.exposure(0) is None and found.corrected(photos[0], 0) is photos[0]
    assert torch.equal(found.exposures(), torch.tensor([[1.0, 0.0]] * 3).repeat(3, 1, 1))


def test_what_all_corrections_have_in_common_is_taken_out():
    """A motion of the world, and a brightness of it, are no corrections of photographs."""
    _, photos = None, photographs(world(5), 4, (16, 16))
    corrections = Corrections(photos, 1.0, True, True)
    generator = torch.Generator().manual_seed(0)
    own = 1e-3 * torch.randn(4, 6, generator=generator, dtype=torch.float64)
    common = torch.tensor([0.002, -0.001, 0.003, 0.01, 0.02, -0.01], dtype=torch.float64)
    middle = cameras(4)
    middle[:, :3, 3] -= middle[:, :3, 3].mean(dim=0)
    shared = (torch.linalg.inv(adjoint(middle)) @ common[:, None])[..., 0]
    corrections._poses.values[:] = own
    corrections.center(range(4))
    alone = corrections.extrinsics()
    corrections._poses.values[:] = own + shared
    corrections._exposures.values[:, :, 0] = 1.3
    corrections._exposures.values[:, :, 1] = -0.1
    corrections.center([0, 1, 2, 3])
    torch.testing.assert_close(corrections.extrinsics(), alone)
    assert torch.allclose(corrections.exposures()[..., 0], torch.tensor(1.0))
    assert torch.allclose(corrections.exposures()[..., 1], torch.tensor(0.0), atol=1e-7)


def test_in_the_beginning_nothing_is_corrected(scene):
    _, photos = scene
    corrections = Corrections(photos, 1.0, True, True)
    nothing = torch.zeros(1)
    step = StepResult(
        0.0, 0.0, nothing > 0, nothing, nothing, nothing,
        torch.ones(6, dtype=torch.float64), torch.ones(3, 2),
    )  # fmt: skip
    corrections.update(0, step, 0.01)
    assert corrections.corrected(photos[0], 0).extrinsics.equal(photos[0].extrinsics)
    corrections.update(0, step, 0.5)
    assert not corrections.corrected(photos[0], 0).extrinsics.equal(photos[0].extrinsics)
