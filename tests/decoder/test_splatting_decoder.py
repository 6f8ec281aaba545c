"""The decoder as others use it: options, numerical hygiene, threads, processes, compilation."""

import multiprocessing
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest
import torch
from splatting_scenes import camera, intrinsics, random_gaussians

from mvsplat import Gaussians, SplattingDecoder
from mvsplat.configurable import from_config

SHAPE = (45, 70)
FIELDS = ("means", "scales", "rotations", "harmonics", "opacities")


def render(gaussians: Gaussians, near: float = 1.0, extrinsics=None, **settings):
    extrinsics = camera() if extrinsics is None else extrinsics
    bound = torch.full(extrinsics.shape[:2], near)
    k = intrinsics().expand(*extrinsics.shape[:2], 3, 3)
    return SplattingDecoder(**settings)(gaussians, extrinsics, k, bound, 100 * bound, SHAPE)


def gradients(gaussians: Gaussians) -> list[torch.Tensor]:
    tensors = [getattr(gaussians, name).detach().requires_grad_() for name in FIELDS]
    pose = camera().expand(1, 2, 4, 4).contiguous().requires_grad_()
    out = render(Gaussians(*tensors), extrinsics=pose)
    (out.color.square().sum() + out.depth.sum() + out.alpha.sum()).backward()
    return [out.color.detach(), out.depth.detach(), *(t.grad for t in (*tensors, pose))]


def test_prepare_compiles(capsys):
    SplattingDecoder(engine="cpu").prepare()
    assert capsys.readouterr().out == ""


def test_a_checkpoint_rebuilds_it():
    decoder = SplattingDecoder(background=(1.0, 0.5, 0.0), depth="disparity", sh_degree=1)
    again = from_config(decoder.config)
    assert again.background == decoder.background and again.config == decoder.config


def test_kernels_compile_where_nothing_can_be_cached(monkeypatch):
    """numba raises where no folder is writable; that must not stop the import."""
    from mvsplat.decoder.cpu import compilation

    def read_only(function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(compilation, "_Cache", read_only)
    assert compilation.kernel(lambda x: x + 1)(2) == 3


def test_background_shows_through():
    gaussians = random_gaussians(30, scale=0.1)
    black, blue = render(gaussians), render(gaussians, background=(0.1, 0.2, 1.0))
    behind = torch.tensor([0.1, 0.2, 1.0])[:, None, None] * (1 - black.alpha[:, :, None])
    torch.testing.assert_close(blue.color, black.color + behind, rtol=0, atol=1e-6)


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


def test_same_bits_for_any_number_of_threads():
    gaussians, before = random_gaussians(9000, scale=0.03), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 7, 1):
            torch.set_num_threads(threads)
            results.append(gradients(gaussians))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_concurrent_calls():
    """A viewer renders from several threads at once; the pool grows meanwhile."""
    scenes = [random_gaussians(3000, seed, scale=0.03) for seed in range(4)]
    expected = [gradients(gaussians) for gaussians in scenes]
    found: dict[tuple[int, int], list] = {}
    before = torch.get_num_threads()

    def work(index: int) -> None:
        torch.set_num_threads(2 + index % 3)
        for attempt in range(5):
            found[index, attempt] = gradients(scenes[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    torch.set_num_threads(before)
    assert len(found) == 20
    for (index, _), tensors in found.items():
        assert all(torch.equal(a, b) for a, b in zip(tensors, expected[index]))


def _render_in_child(queue, gaussians: Gaussians) -> None:
    torch.set_num_threads(3)
    queue.put(render(gaussians).color.numpy())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_after_use_in_the_parent():
    gaussians, before = random_gaussians(3000, scale=0.03), torch.get_num_threads()
    torch.set_num_threads(3)
    expected = render(gaussians).color
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_render_in_child, args=(queue, gaussians))
    child.start()
    try:
        assert torch.equal(torch.from_numpy(queue.get(timeout=30)), expected)
    finally:
        child.join(5)
        child.kill()
        torch.set_num_threads(before)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_numbers(field: str, value: float):
    gaussians = random_gaussians(20)
    getattr(gaussians, field).view(-1)[[3, 5]] = value
    with pytest.raises(ValueError, match=rf"{field}: 2 of \d+ values are NaN or infinite.*index"):
        render(gaussians)


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


def operator_arguments() -> tuple:
    gaussians = random_gaussians(30)
    tensors = [getattr(gaussians, name).requires_grad_() for name in FIELDS]
    lens = torch.tensor([[[35.0, 35.0, 30.0, 20.0]]])
    background = [0.0, 0.0, 0.0]
    pose = camera()
    return (*tensors, pose[..., :3, :], pose[..., :3, 3], lens, background, 40, 60, 2, False)


def test_operator_under_compile():
    """An opaque operator in a full graph: same picture, same gradients."""
    from mvsplat.decoder.cpu.operator import splat

    arguments = operator_arguments()

    def loss(means: torch.Tensor) -> torch.Tensor:
        color, depth, *_ = splat(means, *arguments[1:])
        return color.square().sum() + depth.sum()

    expected = torch.autograd.grad(loss(arguments[0]), arguments[:5])
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    found = torch.autograd.grad(compiled(arguments[0]), arguments[:5])
    assert all(torch.equal(a, b) for a, b in zip(expected, found))


def test_operator_registration():
    from mvsplat.decoder.cpu.operator import splat

    torch.library.opcheck(
        splat,
        operator_arguments(),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


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


def test_gsplat_engine_is_asked_for_without_a_gpu():
    with pytest.raises(ValueError, match=r"on cpu, expected a CUDA device.*engine cpu or auto"):
        render(random_gaussians(5), engine="gsplat")


def test_gsplat_diagnosis_names_versions(monkeypatch):
    from mvsplat.decoder import gsplat_engine

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gsplat_engine.load_gsplat.cache_clear()
    with pytest.raises(RuntimeError, match=r"torch \d.*nvcc: .*compiler: .*\n.*Install") as caught:
        gsplat_engine.load_gsplat()
    assert torch.__version__ in str(caught.value)


def test_importing_the_package_builds_nothing():
    code = (
        "import sys, mvsplat; mvsplat.SplattingDecoder();"
        "assert not {'gsplat', 'numba'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


EXTREMES = """
import sys, torch
sys.path.insert(0, {folder!r})
from splatting_scenes import camera, intrinsics, random_gaussians
from mvsplat import SplattingDecoder
scenes = list(awkward_scenes().values())
for value in (1e-30, 1e6, 1e18, 3e38):
    scene = random_gaussians(60, depth=(-1.0, 1.0))
    scene.means[0, :20] *= value
    scene.scales[0, 10:40] *= value
    scene.opacities[0, 20:60] = min(value, 1.0)
    scenes.append(scene)
near = torch.ones(1, 1)
for scene in scenes:
    for shape in ((1, 1), (16, 16), (31, 65)):
        scene.means.requires_grad_()
        out = SplattingDecoder(antialiased=shape[0] == 16)(
            scene, camera(), intrinsics(), near, near, shape
        )
        out.color.sum().backward()
print("done")
"""


@pytest.mark.slow
def test_nothing_is_touched_out_of_bounds(tmp_path: Path):
    """Every kernel, compiled with bounds checks, on awkward and absurd scenes."""
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    script = EXTREMES.format(folder=str(Path(__file__).parent))
    command = [sys.executable, "-c", script]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0 and run.stdout.strip() == "done", run.stderr
