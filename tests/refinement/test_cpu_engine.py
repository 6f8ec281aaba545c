"""Steps on the CPU against those of torch, and what they tell against the dense reference."""

from dataclasses import replace

import pytest
import torch
from worlds import LENS, photographs, world, worsened

from mvsplat.decoder import reference
from mvsplat.decoder.cameras import engine_cameras
from mvsplat.geometry.rotations import quaternion_to_matrix
from mvsplat.refinement.cpu.engine import CpuEngine
from mvsplat.refinement.engine import TorchEngine
from mvsplat.refinement.parameters import FIELDS, Parameters, Rates

RATES = Rates(means=1e-3, harmonics_rest=1e-3)
LIGHT = torch.tensor([[1.1, 0.02], [0.9, -0.03], [1.0, 0.05]])


def compare(parameters, photos, steps=3, near=1.0, degree=3, light=None, rates=RATES):
    """Steps of both engines from the same start."""
    ours, theirs = parameters.copy(), parameters.copy()
    mine, truth = CpuEngine(), TorchEngine()
    for step in range(steps):
        photo = photos[step % len(photos)]
        found = mine.step(ours, photo, rates, near, degree, light)
        expected = truth.step(theirs, photo, rates, near, degree, light)
        assert found.loss == pytest.approx(expected.loss, rel=1e-4, abs=1e-7)
        assert found.mse == pytest.approx(expected.mse, rel=1e-4, abs=1e-9)
        assert torch.equal(found.seen, expected.seen)
        torch.testing.assert_close(found.pose, expected.pose, rtol=1e-3, atol=1e-6)
        if light is None:
            assert found.exposure is None
        else:
            torch.testing.assert_close(found.exposure, expected.exposure, rtol=1e-3, atol=1e-6)
        assert torch.equal(ours.updates, theirs.updates)
        for name in FIELDS:
            for a, b, size in (
                (getattr(ours, name), getattr(theirs, name), 1e-4),
                (ours.first[name], theirs.first[name], 1e-3),
                (ours.second[name], theirs.second[name], 1e-3),
            ):
                assert (a - b).norm() <= size * b.norm() + 1e-12, (step, name)
    return ours, found


def scene(degree: int = 1, shape=(36, 48), count: int = 60):
    truth = world(count, degree=degree)
    return Parameters.from_gaussians(worsened(truth)), photographs(truth, 3, shape)


@pytest.mark.parametrize("degree", range(5))
def test_steps_are_those_of_torch(degree):
    parameters, photos = scene(degree)
    changed, _ = compare(parameters, photos, degree=4)
    for name in FIELDS:
        assert not torch.equal(getattr(changed, name), getattr(parameters, name))


@pytest.mark.parametrize("shape", [(37, 51), (11, 11), (10, 40), (40, 10), (1, 1), (130, 17)])
def test_any_size_of_picture(shape):
    compare(*scene(shape=shape), steps=2)


def test_exposure():
    compare(*scene(), light=LIGHT)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_masks(share):
    parameters, photos = scene(shape=(40, 50))
    masked = [replace(photo, mask=torch.rand(40, 50) < share) for photo in photos]
    compare(parameters, masked, light=LIGHT)


def test_harmonics_of_higher_degrees_stay_until_they_are_shown():
    parameters, photos = scene(degree=3)
    changed, _ = compare(parameters, photos, degree=1)
    assert torch.equal(changed.harmonics[..., 4:], parameters.harmonics[..., 4:])
    assert not torch.equal(changed.harmonics[..., :4], parameters.harmonics[..., :4])


def test_near_and_skew():
    parameters, photos = scene()
    lens = LENS.clone()
    lens[0, 1] = 0.1
    skewed = [replace(photo, intrinsics=lens) for photo in photos]
    compare(parameters, skewed, near=0.4)


def test_nothing_in_view():
    parameters, photos = scene()
    parameters.means[:, 2] -= 20
    changed, found = compare(parameters, photos, steps=1)
    assert not found.seen.any()
    for tensor in (found.screen_gradients, found.absolute_gradients, found.radii, found.pose):
        assert not tensor.any()
    for name in FIELDS:
        assert torch.equal(getattr(changed, name), getattr(parameters, name))


def test_one_gaussian():
    compare(*scene(count=1))


def test_radii_and_screen_gradients():
    parameters, (photo, *_) = scene()
    parameters.log_scales += torch.randn(60, 3) * 0.5
    found = CpuEngine().step(parameters.copy(), photo, RATES, 1.0, 1)
    rows, _, lens = (
        part[0, 0]
        for part in engine_cameras(
            photo.extrinsics[None, None], LENS[None, None], torch.ones(1, 1), photo.shape
        )
    )
    points = parameters.means.double() @ rows[:, :3].T + rows[:, 3]
    axes = quaternion_to_matrix(parameters.quaternions.double())
    axes = rows[:, :3] @ (axes * parameters.log_scales.double().exp()[:, None])
    _, covariance, _ = reference.project(points, axes, lens, *photo.shape)
    radii = 3 * torch.linalg.eigvalsh(covariance)[:, -1].sqrt()
    assert found.seen.sum() > 50
    torch.testing.assert_close(
        found.radii[found.seen].double(), radii[found.seen], rtol=1e-4, atol=0
    )
    assert not found.radii[~found.seen].any()
    # Nearly what follows from the gradients of the centres; absolute sums are never smaller.
    expected = TorchEngine().step(parameters.copy(), photo, RATES, 1.0, 1)
    error = (found.screen_gradients - expected.screen_gradients).norm()
    assert error < 0.1 * expected.screen_gradients.norm()
    assert (found.absolute_gradients >= found.screen_gradients * 0.9999).all()


def test_same_bits_for_any_number_of_threads():
    parameters, photos = scene(count=5000, shape=(130, 40))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            ours = parameters.copy()
            result = CpuEngine().step(ours, photos[0], RATES, 1.0, 1, LIGHT)
            found.append([*ours.tensors().values(), *vars(result).values()])
    finally:
        torch.set_num_threads(before)
    for one, several in zip(*found):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(several))


def test_an_engine_keeps_memory_but_no_values():
    parameters, photos = scene(shape=(60, 80))
    used, small = CpuEngine(), scene(shape=(20, 30))[1]
    used.step(parameters.copy(), photos[0], RATES, 1.0, 1)
    for photo in (small[1], photos[2]):
        parameters.append(parameters.copy())
        parameters.keep(torch.rand(len(parameters)) < 0.9)
        ours, fresh = parameters.copy(), parameters.copy()
        found = used.step(ours, photo, RATES, 1.0, 1)
        expected = CpuEngine().step(fresh, photo, RATES, 1.0, 1)
        assert found.loss == expected.loss
        for name in FIELDS:
            assert torch.equal(getattr(ours, name), getattr(fresh, name))
        picture = used.render(ours, photo, 1.0, 1)
        kept = picture.clone()
        used.step(ours, photo, RATES, 1.0, 1)
        assert torch.equal(picture, kept)
        torch.testing.assert_close(picture, TorchEngine().render(fresh, photo, 1.0, 1))


def test_what_is_hidden_is_not_seen():
    parameters, photos = scene()
    wall = slice(0, 5)
    parameters.means[wall] = torch.tensor([0.0, 0.0, 1.0])
    parameters.log_scales[wall] = torch.tensor([1.2, 0.8, 0.5])
    parameters.opacity_logits[wall] = 9.0
    changed, found = compare(parameters, photos, steps=1)
    assert found.seen[:2].any() and not found.seen[5:].any()
    assert torch.equal(changed.means[5:], parameters.means[5:])
