"""How the CPU's kernels run: threads, processes, compilation, caching, bounds."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from rendering import FIELDS, gradients, render
from splatting_scenes import camera, random_gaussians

from mvsplat import Gaussians, SplattingDecoder, kernels
from mvsplat.decoder.cpu.threads import run_all


@pytest.fixture(autouse=True)
def as_many_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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
        assert torch.equal(torch.from_numpy(queue.get(timeout=120)), expected)
    finally:
        child.join(5)
        child.kill()
        torch.set_num_threads(before)


def test_no_more_threads_than_torch_was_told():
    seen = set()

    def square(number: int) -> int:
        seen.add(threading.get_ident())
        time.sleep(0.005)
        return number**2

    for threads in (1, 3):
        seen.clear()
        torch.set_num_threads(threads)
        assert run_all(square, [(i,) for i in range(20)]) == [i**2 for i in range(20)]
        assert len(seen) == threads and threading.get_ident() in seen


def test_a_job_that_raises():
    """The others finish before the error comes out: nobody writes to arrays that are gone."""
    done = []

    def job(number: int) -> None:
        if number == 3:
            raise ValueError("the third")
        time.sleep(0.002)
        done.append(number)

    for threads in (2, 4):
        torch.set_num_threads(threads)
        done.clear()
        with pytest.raises(ValueError, match="the third"):
            run_all(job, [(i,) for i in range(12)])
        finished = len(done)
        time.sleep(0.02)
        assert len(done) == finished


def test_kernels_compile_where_nothing_can_be_cached(monkeypatch):
    """numba raises where no folder is writable; that must not stop the import."""

    def read_only(*arguments):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr("numba.core.caching.FunctionCache.__init__", read_only)
    compiled = kernels.kernel(lambda x: x + 1)
    assert compiled(2) == 3
    assert kernels.cache_folder(compiled) is None


NOTICES = """
import numba
from mvsplat.kernels import kernel
numba.njit(lambda x: x + 1)(1)
print("others' functions are not our business", flush=True)
kernel(lambda x: x + 1)(1)
kernel(lambda x: x + 2)(1)
"""


def test_one_line_is_printed_when_kernels_are_compiled():
    command = [sys.executable, "-c", NOTICES]
    run = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    first, notice = run.stdout.splitlines()
    assert first.startswith("others'") and "compiling CPU kernels" in notice


def operator_arguments() -> tuple:
    gaussians, pose = random_gaussians(30), camera()
    tensors = [getattr(gaussians, name).requires_grad_() for name in FIELDS]
    lens = torch.tensor([[[35.0, 35.0, 30.0, 20.0]]])
    cameras = (pose[..., :3, :], pose[..., :3, 3], lens)
    return (*tensors, *cameras, [0.0, 0.0, 0.0], 40, 60, 2, False)


def test_operator_under_compile():
    """Opaque in a full graph: same picture, same gradients."""
    from mvsplat.decoder.cpu.operator import splat

    arguments = operator_arguments()

    def loss(means: torch.Tensor) -> torch.Tensor:
        color, depth, *_ = splat(means, *arguments[1:])
        return color.square().sum() + depth.sum()

    expected = torch.autograd.grad(loss(arguments[0]), arguments[:5])
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    found = torch.autograd.grad(compiled(arguments[0]), arguments[:5])
    assert all(torch.equal(a, b) for a, b in zip(expected, found))


@pytest.mark.parametrize("number", [1, 2, 3, 50, 999])
def test_records_start_at_cache_lines(number: int):
    from mvsplat.decoder.cpu.operator import splat

    scene, lens = random_gaussians(number), torch.tensor([[[30.0, 28.0, 31.0, 18.0]]])
    fields = [getattr(scene, name) for name in FIELDS]
    view = torch.linalg.inv(camera())[..., :3, :]
    seen = (view, camera()[..., :3, 3], lens, [0.0, 0.0, 0.0])
    keep = [splat(*fields, *seen, 40, 60, 2, False)[4] for _ in range(20)]
    assert all(records.data_ptr() % 64 == 0 for records in keep)
    assert all(records.shape[2] == number for records in keep)


COMPILE = """
import sys, torch
sys.path.insert(0, {folder!r})
from rendering import FIELDS, SHAPE
from splatting_scenes import camera, intrinsics, random_gaussians
from mvsplat import Gaussians, SplattingDecoder
gaussians, near = random_gaussians(30), torch.ones(1, 1)
decoder = SplattingDecoder(background=(0.1, 0.2, 0.3))
leaves = [getattr(gaussians, name).requires_grad_() for name in FIELDS]
leaves.append(camera().requires_grad_())

def loss(*leaves):
    out = decoder(Gaussians(*leaves[:5]), leaves[5], intrinsics(), near, near, SHAPE)
    return out.color.square().sum() + out.depth.sum() + out.alpha.sum()

expected = torch.autograd.grad(loss(*leaves), leaves)
compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
found = torch.autograd.grad(compiled(*leaves), leaves)
print(*(torch.equal(a, b) for a, b in zip(expected, found)))
"""


def test_another_process_takes_kernels_from_the_cache_and_compiles_the_decoder():
    """In one graph, which the shape checks of this process would prevent."""
    from mvsplat.decoder.cpu.project import project

    SplattingDecoder().prepare()
    command = [sys.executable, "-c", COMPILE.format(folder=str(Path(__file__).parent))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout.split() == ["True"] * 6, run.stderr
    if kernels.cache_folder(project) is not None:
        assert "compiling" not in run.stderr


def test_operator_registration():
    from mvsplat.decoder.cpu.operator import splat

    torch.library.opcheck(
        splat,
        operator_arguments(),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def test_importing_the_package_builds_nothing():
    code = (
        "import sys, mvsplat; mvsplat.SplattingDecoder();"
        "assert not {'gsplat', 'numba'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


EXTREMES = """
import sys, numpy, torch
sys.path.insert(0, {folder!r})
from splatting_scenes import awkward_scenes, camera, intrinsics, random_gaussians
from mvsplat import SplattingDecoder
from mvsplat.kernels import kernel
from mvsplat.decoder.cpu.simd import total
from mvsplat.decoder.cpu.simd_memory import load
for outside in (lambda array: array[array.size], lambda array: total(load(array, 1))):
    try:
        kernel(outside)(numpy.zeros(16, numpy.float32))
    except IndexError:
        continue
    sys.exit("bounds are not checked")
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
