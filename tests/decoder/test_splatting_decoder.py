"""The decoder as others use it: options, numerical hygiene, bad input, memory."""

import tracemalloc
from dataclasses import replace

import pytest
import torch
from rendering import FIELDS, SHAPE, gradients, render
from splatting_scenes import camera, intrinsics, random_gaussians

from mvsplat import Gaussians, SplattingDecoder
from mvsplat.configurable import from_config
from mvsplat.decoder.filling import fill_uncovered


def test_prepare_compiles(capsys):
    SplattingDecoder(engine="cpu").prepare()
    assert capsys.readouterr().out == ""


def test_a_checkpoint_rebuilds_it():
    decoder = SplattingDecoder(background=(1.0, 0.5, 0.0), depth="disparity", sh_degree=1)
    again = from_config(decoder.config)
    assert again.background == decoder.background and again.config == decoder.config


def test_background_shows_through():
    gaussians = random_gaussians(30, scale=0.1)
    black, blue = render(gaussians), render(gaussians, background=(0.1, 0.2, 1.0))
    behind = torch.tensor([0.1, 0.2, 1.0])[:, None, None] * (1 - black.alpha[:, :, None])
    torch.testing.assert_close(blue.color, black.color + behind, rtol=0, atol=1e-6)


def test_what_nothing_covers_is_filled_from_the_colours_around_it():
    """A wall over the left part of the picture; the rest is to continue it, not to be black."""
    gaussians = random_gaussians(600, scale=0.3)
    gaussians.means[..., 2] = 2.5
    gaussians.means[..., 0] = -gaussians.means[..., 0].abs() - 0.3
    gaussians.harmonics[:] = 0
    gaussians.harmonics[..., 0] = torch.tensor([0.2, -0.4, 1.0])  # one colour
    gaussians.opacities[:] = 0.95
    pose, behind = torch.eye(4)[None, None], (0.3, 0.1, 0.9)
    plain = render(gaussians, extrinsics=pose, background=behind)
    filled = render(gaussians, extrinsics=pose, background=behind, fill=True)
    assert 0.2 < (plain.alpha < 0.01).float().mean() < 0.8
    color = 0.5 + 0.28209479 * torch.tensor([0.2, -0.4, 1.0])
    torch.testing.assert_close(
        filled.color, color[:, None, None].expand_as(filled.color), rtol=0, atol=2e-3
    )
    torch.testing.assert_close(filled.alpha, plain.alpha)
    nothing = replace(gaussians, means=-gaussians.means)  # behind the camera
    empty = render(nothing, extrinsics=pose, background=behind, fill=True)
    torch.testing.assert_close(empty.color[0, 0, :, 3, 4], torch.tensor(behind))


@pytest.mark.parametrize("shape", [(1, 1), (5, 8), (13, 6)])
def test_filling_changes_nothing_that_is_covered_and_has_finite_gradients(shape):
    generator = torch.Generator().manual_seed(shape[0])
    color = torch.rand(2, 3, *shape, generator=generator)
    whole = torch.ones(2, 1, *shape)
    torch.testing.assert_close(fill_uncovered(color, whole, torch.zeros(3)), color)
    alpha = (torch.rand(2, 1, *shape, generator=generator) > 0.6).float()
    premultiplied = (color * alpha).double().requires_grad_()
    cover = alpha.double().requires_grad_()
    filled = fill_uncovered(premultiplied, cover, torch.zeros(3).double())
    assert filled.max() <= color.max() + 1e-6 and filled.min() >= -1e-6
    filled.sum().backward()
    assert premultiplied.grad.isfinite().all() and cover.grad.isfinite().all()


def test_depth_kinds_of_an_opaque_wall():
    """Many opaque Gaussians at depth 2.5: expected depth, its inverse, and the weighted sum."""
    gaussians = random_gaussians(800, scale=0.3)
    gaussians.means[..., :2] *= 2.5 / gaussians.means[..., 2:]
    gaussians.means[..., 2] = 2.5
    gaussians.opacities[:] = 0.9
    pose = torch.eye(4)[None, None]
    expected = render(gaussians, extrinsics=pose)
    drawn = expected.alpha > 0.5
    assert drawn.float().mean() > 0.9
    torch.testing.assert_close(expected.depth[drawn], torch.full((int(drawn.sum()),), 2.5))
    summed = render(gaussians, extrinsics=pose, depth="accumulated")
    torch.testing.assert_close(summed.depth, 2.5 * expected.alpha, rtol=1e-5, atol=1e-5)
    disparity = render(gaussians, extrinsics=pose, depth="disparity")
    torch.testing.assert_close(disparity.depth[drawn], 1 / expected.depth[drawn])
    nothing = render(random_gaussians(0), depth="disparity")
    assert (nothing.depth == 0).all() and (nothing.alpha == 0).all()


def test_scale_of_the_scene_does_not_matter():
    gaussians, pose = random_gaussians(100, depth=(0.5, 3.0)), camera()
    large = Gaussians(
        gaussians.means * 50, gaussians.scales * 50, *(getattr(gaussians, n) for n in FIELDS[2:])
    )
    far_pose = pose.clone()
    far_pose[..., :3, 3] *= 50
    small, scaled = render(gaussians), render(large, near=50.0, extrinsics=far_pose)
    torch.testing.assert_close(scaled.color, small.color, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scaled.depth, 50 * small.depth, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("invariant, visible", [(True, True), (False, False)])
def test_near_plane(invariant: bool, visible: bool):
    """A Gaussian at depth 0.15 with near 0.5: nearer than 0.2, but not than 0.2 times near."""
    gaussians = random_gaussians(1, scale=0.05)
    gaussians.means[:] = torch.tensor([0.0, 0.0, 0.15])
    gaussians.opacities[:] = 1
    out = render(gaussians, 0.5, torch.eye(4)[None, None], scale_invariant=invariant)
    assert bool(out.alpha.max() > 0.5) == visible


def test_degree_is_limited_by_the_decoder_and_by_the_coefficients():
    gaussians = random_gaussians(50, degree=4)
    cut = Gaussians(*(getattr(gaussians, n) for n in FIELDS))
    cut.harmonics = gaussians.harmonics[..., :4]
    assert torch.equal(render(gaussians, sh_degree=1).color, render(cut, sh_degree=4).color)
    assert not torch.equal(render(gaussians, sh_degree=1).color, render(gaussians).color)


def test_float32_under_autocast_and_from_half_precision():
    gaussians = random_gaussians(50)
    plain = render(gaussians)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = render(gaussians)
    assert torch.equal(inside.color, plain.color) and torch.equal(inside.depth, plain.depth)
    half = gaussians.to(torch.bfloat16)
    half.means.requires_grad_()
    out = render(half)
    assert out.color.dtype == out.depth.dtype == out.alpha.dtype == torch.float32
    out.color.sum().backward()
    assert half.means.grad.dtype == torch.bfloat16


def test_no_grad_and_inference_mode():
    gaussians = random_gaussians(50)
    plain = render(gaussians)
    with torch.no_grad():
        assert torch.equal(render(gaussians).color, plain.color)
    with torch.inference_mode():
        assert torch.equal(render(gaussians).color, plain.color)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_numbers(field: str, value: float):
    gaussians = random_gaussians(20)
    getattr(gaussians, field).view(-1)[[3, 5]] = value
    with pytest.raises(ValueError, match=rf"{field}: 2 of \d+ values are NaN or infinite.*index"):
        render(gaussians)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["extrinsics", "intrinsics", "near"])
def test_cameras_that_are_not_numbers(name: str, value: float):
    tensors = {"extrinsics": camera(), "intrinsics": intrinsics(), "near": torch.ones(1, 1)}
    tensors[name].view(-1)[0] = value
    with pytest.raises(ValueError, match=rf"{name}.*: "):
        SplattingDecoder()(random_gaussians(20), **tensors, far=torch.ones(1, 1), image_shape=SHAPE)


def test_large_but_finite_values_are_no_error():
    gaussians = random_gaussians(20)
    gaussians.means[0, :4] = 3e38
    gaussians.scales[0, 4:8] = 3e38
    gaussians.harmonics[0, 8:10] = -3e38
    gaussians.rotations[0, 10] = 0
    results = gradients(gaussians)
    assert torch.isfinite(results[0]).all()


def test_wrong_shapes_and_cameras():
    decoder, gaussians, near = SplattingDecoder(), random_gaussians(20), torch.ones(1, 1)
    wrong = Gaussians(*(getattr(gaussians, n) for n in FIELDS))
    wrong.scales = wrong.scales[:, :-1]
    with pytest.raises(ValueError, match=r"scales: shape \(1, 19, 3\) found, expected.* = 20"):
        decoder(wrong, camera(), intrinsics(), near, near, SHAPE)
    with pytest.raises(ValueError, match="image shape"):
        decoder(gaussians, camera(), intrinsics(), near, near, (0, 5))
    with pytest.raises(ValueError, match="focal length"):
        decoder(gaussians, camera(), intrinsics(fx=0.0), near, near, SHAPE)
    with pytest.raises(ValueError, match="extrinsics"):
        decoder(gaussians, camera(), intrinsics(), 0 * near, near, SHAPE)
    with pytest.raises(ValueError, match="extrinsics"):
        decoder(gaussians, 0 * camera(), intrinsics(), near, near, SHAPE)
    with pytest.raises(ValueError, match="near"):
        decoder(gaussians, camera(), intrinsics(), -near, near, SHAPE)


@pytest.mark.parametrize(
    "setting", [{"background": (0.0, 1.0)}, {"sh_degree": 5}, {"depth": "x"}, {"engine": "x"}]
)
def test_wrong_settings(setting: dict):
    with pytest.raises(Exception, match=next(iter(setting))):  # shape checkers may come first
        SplattingDecoder(**setting)


def test_memory():
    """Under 200 bytes a Gaussian beside inputs, gradients of the inputs and images."""
    number = 60_000
    gaussians = random_gaussians(number, scale=0.01, degree=0)
    tensors = [getattr(gaussians, name).requires_grad_() for name in FIELDS]
    inputs = sum(t.numel() * 4 for t in tensors)
    gradients(random_gaussians(10))  # compiled, imported
    tracemalloc.start()
    render(gaussians).color.sum().backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - inputs < 200 * number + 80 * SHAPE[0] * SHAPE[1] + 500_000
