"""Both engines and the dense reference draw the same: batches, lenses, settings, gradients."""

import inspect
from typing import Literal, get_args, get_origin

import pytest
import torch
from splatting_scenes import (
    awkward_scenes,
    camera,
    intrinsics,
    near_a_cut,
    random_gaussians,
    render_reference,
)
from torch import Tensor

from mvsplat import Gaussians, Rendering, SplattingDecoder
from mvsplat.decoder import gsplat_engine
from mvsplat.doctor import known_splat

SHAPE = (26, 45)
NEAR = torch.tensor([[0.7, 1.0, 1.6], [2.0, 0.5, 1.2]])
FIELDS = ("means", "scales", "rotations", "harmonics", "opacities")
BACKGROUND = (0.1, 0.6, 0.3)


def scenes(device: str = "cpu") -> Gaussians:
    """Two scenes; the same for every caller, and leaves of the graph."""
    parts = [random_gaussians(90, seed, scale=0.12, depth=(0.5, 3.0)) for seed in (1, 2)]
    together = (torch.cat([getattr(part, name) for part in parts]) for name in FIELDS)
    return Gaussians(*(tensor.to(device).requires_grad_() for tensor in together))


def cameras(device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Three views of each scene: turned, moved, with off-centre lenses and oblong pixels."""
    poses = [camera(0.25 * i - 0.3, (0.1 * i, -0.05 * i, 0.02)) for i in range(6)]
    lenses = [
        torch.tensor([[0.6 + 0.1 * i, 0, 0.4 + 0.05 * i], [0, 1.1 - 0.1 * i, 0.65], [0, 0, 1.0]])
        for i in range(6)
    ]
    extrinsics = torch.cat(poses).reshape(2, 3, 4, 4).to(device).requires_grad_()
    return extrinsics, torch.stack(lenses).reshape(2, 3, 3, 3).to(device)


def expected_of_reference(depth: str, invariant: bool, antialiased: bool):
    """The reference's rendering, its gradients, and the pixels that rounding may decide about."""
    gaussians, (extrinsics, k) = scenes(), cameras()
    near = NEAR if invariant else torch.ones_like(NEAR)
    parts, close = [], torch.zeros(2, 3, *SHAPE, dtype=torch.bool)
    for b in range(2):
        for v in range(3):
            one = Gaussians(*(getattr(gaussians, name)[b : b + 1] for name in FIELDS))
            view = extrinsics[b : b + 1, v : v + 1], k[b : b + 1, v : v + 1]
            unit = float(near[b, v])
            parts.append(render_reference(one, *view, SHAPE, 2, antialiased, BACKGROUND, near=unit))
            with torch.no_grad():
                close[b, v] = near_a_cut(one, *view, SHAPE, antialiased, unit)
    color, depths, through = (torch.cat(p).reshape(2, 3, *p[0].shape[2:]) for p in zip(*parts))
    alpha = 1 - through
    if depth != "accumulated":
        depths = depths / alpha.clamp(min=1e-10)
    if depth == "disparity":
        depths = torch.where(depths > 0, 1 / depths.clamp(min=1e-10), 0)
    rendering = Rendering(color.float(), depths.float(), alpha.float())
    return rendering, gradients(rendering, close, gaussians, extrinsics), close


def rendered(engine: str, device: str, close: Tensor, **settings):
    """An engine's rendering and gradients."""
    gaussians, (extrinsics, k) = scenes(device), cameras(device)
    near = NEAR.to(device)
    decoder = SplattingDecoder(background=BACKGROUND, engine=engine, **settings)
    rendering = decoder(gaussians, extrinsics, k, near, 100 * near, SHAPE)
    return rendering.to("cpu"), gradients(rendering.to("cpu"), close, gaussians, extrinsics)


def gradients(rendering: Rendering, close: Tensor, gaussians: Gaussians, extrinsics: Tensor):
    """Of a random scalar that sees color, depth and alpha away from the cuts."""
    generator = torch.Generator().manual_seed(3)
    # Expected depth jumps where almost nothing was drawn; compare it where something was.
    keep = ~close & (rendering.alpha.detach() > 0.02)
    total = torch.zeros(())
    for part, mask in ((rendering.color, ~close[:, :, None]), (rendering.depth, keep),
                       (rendering.alpha, ~close)):  # fmt: skip
        total = total + (part * torch.randn(part.shape, generator=generator) * mask).sum()
    leaves = [getattr(gaussians, name) for name in FIELDS] + [extrinsics]
    return [grad.cpu() for grad in torch.autograd.grad(total, leaves)]


def assert_same(found, expected, close: Tensor, forward: float, backward: float) -> None:
    ours, our_grads = found
    truth, true_grads = expected
    assert close.float().mean() < 0.05
    for part, true, mask in ((ours.color, truth.color, close[:, :, None]),
                             (ours.alpha, truth.alpha, close)):  # fmt: skip
        assert (part - true).abs().masked_fill(mask, 0).max() <= forward
    drawn = (truth.alpha > 0.02) & ~close
    assert drawn.float().mean() > 0.5
    error = (ours.depth - truth.depth).abs() / truth.depth.abs().clamp(min=1)
    assert error[drawn].max() <= 20 * forward
    for name, grad, true in zip((*FIELDS, "extrinsics"), our_grads, true_grads):
        assert (grad - true).norm() <= backward * true.norm(), name


SETTINGS = [
    ("expected", True, False),
    ("accumulated", True, True),
    ("disparity", True, False),
    ("expected", False, True),
]


@pytest.mark.parametrize("depth, invariant, antialiased", SETTINGS)
def test_cpu_engine_draws_the_reference(depth: str, invariant: bool, antialiased: bool):
    truth, grads, close = expected_of_reference(depth, invariant, antialiased)
    settings = {"depth": depth, "scale_invariant": invariant, "antialiased": antialiased}
    found = rendered("cpu", "cpu", close, **settings)
    assert_same(found, (truth, grads), close, 1e-5, 1e-4)


@pytest.mark.parametrize("depth, invariant, antialiased", SETTINGS)
def test_gsplat_engine_draws_the_reference(
    gsplat_on_cpu, depth: str, invariant: bool, antialiased: bool
):
    """The call of gsplat: layouts, units, settings; its kernels are PyTorch functions here."""
    truth, grads, close = expected_of_reference(depth, invariant, antialiased)
    settings = {"depth": depth, "scale_invariant": invariant, "antialiased": antialiased}
    found = rendered("gsplat", "cpu", close, **settings)
    assert_same(found, (truth, grads), close, 1e-4, 1e-3)


def test_the_installed_gsplat_takes_what_it_is_given(gsplat_on_cpu, monkeypatch):
    """By the names, the order and the choices that its signatures say, nothing swallowed."""
    import gsplat
    from gsplat.cuda._wrapper import spherical_harmonics

    calls = {}

    def watched(name, function, signature):
        def call(*arguments, **settings):
            calls[name] = signature.bind(*arguments, **settings).arguments
            for parameter, value in calls[name].items():
                annotation = signature.parameters[parameter].annotation
                if get_origin(annotation) is Literal:
                    assert value in get_args(annotation), parameter
            return function(*arguments, **settings)

        return call

    for name, real in (
        ("rasterization", gsplat.rasterization),
        ("spherical_harmonics", spherical_harmonics),  # which the fixture replaces
    ):
        signature = inspect.signature(real)
        assert all(p.kind is not p.VAR_KEYWORD for p in signature.parameters.values())
        monkeypatch.setattr(gsplat, name, watched(name, getattr(gsplat, name), signature))
    gaussians, (extrinsics, k) = scenes(), cameras()
    SplattingDecoder(engine="gsplat")(gaussians, extrinsics, k, NEAR, NEAR, SHAPE)
    harmonics = calls["spherical_harmonics"]
    assert list(harmonics) == ["degrees_to_use", "dirs", "coeffs", "masks"]
    assert harmonics["dirs"].shape == (2, 90, 3) and harmonics["masks"].dtype == torch.bool
    assert harmonics["coeffs"].shape[-2:] == ((harmonics["degrees_to_use"] + 1) ** 2, 3)
    call = calls["rasterization"]
    assert call["viewmats"].shape == (2, 3, 4, 4) and call["Ks"].shape == (2, 3, 3, 3)
    assert call["colors"].shape == (2, 3, 90, 3) and call["backgrounds"].shape == (2, 3, 3)
    assert (call["height"], call["width"]) == SHAPE


def test_gsplat_is_given_the_harmonics_once(gsplat_on_cpu):
    """Not once for every view, as it would copy them: they are the largest of all tensors."""
    gaussians, (extrinsics, k) = scenes(), cameras()
    SplattingDecoder(engine="gsplat")(gaussians, extrinsics, k, NEAR, NEAR, SHAPE)
    assert gsplat_on_cpu.most_coefficients == gaussians.harmonics.numel()


def test_a_gaussian_in_the_camera_centre_has_no_direction(gsplat_on_cpu):
    """gsplat would divide by its distance, 0, and give NaN to the gradient of its centre."""
    gaussians, (extrinsics, _) = scenes(), cameras()
    with torch.no_grad():
        gaussians.means[:, :3] = extrinsics[..., :3, 3]
    import gsplat

    colors = gsplat_engine._colors(gsplat, gaussians, extrinsics[..., :3, 3], 2)
    assert colors.shape == (2, 3, 90, 3)
    in_centre = torch.eye(3, 90, dtype=torch.bool)
    assert torch.isfinite(colors[:, ~in_centre]).all()
    colors.sum().backward()
    assert torch.isfinite(gaussians.means.grad).all()


def test_gsplat_without_gaussians(gsplat_on_cpu):
    extrinsics, k = cameras()
    decoder = SplattingDecoder(engine="gsplat", background=BACKGROUND)
    empty = random_gaussians(0)
    rendering = decoder(empty, extrinsics[:1], k[:1], NEAR[:1], NEAR[:1], SHAPE)
    assert torch.equal(rendering.color[0, 2, :, 5, 7], torch.tensor(BACKGROUND))
    assert (rendering.alpha == 0).all() and (rendering.depth == 0).all()


def test_every_engine_draws_the_known_splat_of_doctor(gsplat_on_cpu):
    for engine in ("cpu", "gsplat"):
        found = known_splat.deviation(engine, "cpu")
        assert found.pixels == 0 and found.gradient < 1e-4 and found.acceptable


on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.cuda
@on_cuda
@pytest.mark.parametrize("depth, invariant, antialiased", SETTINGS)
def test_gsplat_on_cuda_draws_the_reference(depth: str, invariant: bool, antialiased: bool):
    truth, grads, close = expected_of_reference(depth, invariant, antialiased)
    settings = {"depth": depth, "scale_invariant": invariant, "antialiased": antialiased}
    found = rendered("gsplat", "cuda", close, **settings)
    assert_same(found, (truth, grads), close, 1e-3, 1e-2)


@pytest.mark.cuda
@on_cuda
@pytest.mark.parametrize("name", awkward_scenes())
def test_engines_agree_on_awkward_scenes(name: str):
    """99.9 % of the pixels within 1e-3, gradients within 1 %."""
    gaussians = awkward_scenes()[name]
    tensors = [getattr(gaussians, field).requires_grad_() for field in FIELDS]
    results = {}
    for device in ("cpu", "cuda"):
        moved = Gaussians(*(tensor.to(device) for tensor in tensors))
        pose = camera().to(device).requires_grad_()
        near = torch.ones(1, 1, device=device)
        out = SplattingDecoder(background=BACKGROUND, depth="accumulated")(
            moved, pose, intrinsics().to(device), near, near, SHAPE
        )
        total = out.color.square().sum() + out.depth.sum()
        grads = torch.autograd.grad(total, [*tensors, pose], allow_unused=len(tensors[0][0]) == 0)
        results[device] = (out.to("cpu"), [grad.cpu() for grad in grads if grad is not None])
    (ours, our_grads), (theirs, their_grads) = results["cpu"], results["cuda"]
    for a, b in ((ours.color, theirs.color), (ours.alpha, theirs.alpha)):
        assert ((a - b).abs() < 1e-3).float().mean() >= 0.999
    for a, b in zip(our_grads, their_grads):
        assert (a - b).norm() <= 1e-2 * a.norm() + 1e-5


@pytest.mark.cuda
@on_cuda
def test_gsplat_keeps_float32_under_autocast():
    gaussians, (extrinsics, k) = scenes("cuda"), cameras("cuda")
    near, decoder = NEAR.cuda(), SplattingDecoder()
    plain = decoder(gaussians, extrinsics, k, near, near, SHAPE)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        inside = decoder(gaussians, extrinsics, k, near, near, SHAPE)
    assert inside.color.dtype == torch.float32
    torch.testing.assert_close(inside.color, plain.color)


@pytest.mark.cuda
@on_cuda
def test_gsplat_memory_grows_little_with_views():
    """Harmonics of degree 3 are 192 bytes a Gaussian; four views must not hold four copies."""
    number = 200_000
    gaussians = random_gaussians(number, scale=0.005, degree=3).to("cuda")
    gaussians.harmonics.requires_grad_()
    extrinsics, k = (tensor[:1].cuda() for tensor in cameras())
    near = NEAR[:1].cuda()
    peaks = []
    for views in (1, 3):
        for _ in range(2):  # the first call loads what stays loaded
            torch.cuda.reset_peak_memory_stats()
            start = torch.cuda.memory_allocated()
            out = SplattingDecoder()(
                gaussians, extrinsics[:, :views], k[:, :views], near[:, :views], near, (64, 64)
            )
            out.color.sum().backward()
            peak = torch.cuda.max_memory_allocated() - start
            gaussians.harmonics.grad = None
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 2 * 192 * number + 2 * 200 * number
