"""How fast refinement is: ``python tests/benchmarks/benchmark_refinement.py [PHOTOGRAPHS]``.

First the milliseconds of a step by part, best of several, for Gaussians as the rasterizer's
benchmark makes them (harmonics of degree 3, all in view): projection and tile lists, compositing,
loss with its gradient, compositing backward, the rest of the way back with Adam, and what Python
does between the kernels. ``ratio`` is a step's time to that of the rasterizer's forward and
backward: of its kernels alone, and of the decoder with autograd. ``MiB`` is what an engine keeps.
"""

import argparse
import math
import time
from collections import defaultdict

import torch
from benchmark_rasterizer import FIELDS, cameras, mvsplat_like, print_row

from mvsplat import Gaussians, SplattingDecoder
from mvsplat.decoder.cpu import rasterizer
from mvsplat.refinement.cpu import engine as engine_module
from mvsplat.refinement.cpu import photometric
from mvsplat.refinement.cpu.engine import CpuEngine
from mvsplat.refinement.parameters import Parameters, Rates
from mvsplat.refinement.photographs import Photograph

PARTS = {
    "lists": ("project", "fill_tiles", "sort_tiles"),
    "composite": ("composite",),
    "loss": ("compare_rows",),
    "backward": ("composite_backward",),
    "update": ("update_seen", "project_backward"),
}
MODULES = rasterizer, photometric, engine_module
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = CLOCKS["wall"]


class Stopwatch:
    """Wall time of each kind of kernel, by standing in for ``run_all`` while it is open."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)

    def __call__(self, function, jobs):
        start = clock()
        results = self.run_all(function, jobs)
        self.seconds[function.__name__] += clock() - start
        return results

    def __enter__(self):
        self.run_all = rasterizer.run_all
        for module in MODULES:
            module.run_all = self
        self.start = clock()
        return self

    def __exit__(self, *_):
        self.seconds["all"] = clock() - self.start
        for module in MODULES:
            module.run_all = self.run_all


def photograph(gaussians: Gaussians, size: int) -> Photograph:
    """What a camera sees of the Gaussians, too dark by a tenth."""
    extrinsics, intrinsics, near = cameras(1)
    with torch.no_grad():
        color = SplattingDecoder()(gaussians, extrinsics, intrinsics, near, near, (size, size))
    pixels = (0.9 * 255 * color.color[0, 0].clamp(0, 1)).round().to(torch.uint8)
    return Photograph("photo", pixels, extrinsics[0, 0].double(), intrinsics[0, 0].double())


def forward_and_backward(gaussians: Gaussians, size: int) -> None:
    """The rasterizer with autograd, gradients of everything."""
    tensors = [getattr(gaussians, name).requires_grad_() for name in FIELDS]
    extrinsics, intrinsics, near = cameras(1)
    extrinsics.requires_grad_()
    out = SplattingDecoder()(gaussians, extrinsics, intrinsics, near, near, (size, size))
    torch.autograd.grad(out.color, [*tensors, extrinsics], torch.ones_like(out.color))


def measure(number: int, size: int, repeats: int) -> tuple[dict[str, float], dict[str, float], int]:
    """Best milliseconds of a step and of forward and backward, by part; bytes kept."""
    gaussians = mvsplat_like(number, size)
    photo = photograph(gaussians, size)
    parameters, engine, rates = Parameters.from_gaussians(gaussians), CpuEngine(), Rates(1e-5)
    step: dict[str, float] = defaultdict(lambda: math.inf)
    both: dict[str, float] = defaultdict(lambda: math.inf)
    for _ in range(repeats + 1):  # in turn, so that a busy machine is busy for both
        for best, work in (
            (step, lambda: engine.step(parameters, photo, rates, 1.0, 3)),
            (both, lambda: forward_and_backward(gaussians, size)),
        ):
            with Stopwatch() as watch:
                work()
            found = dict(watch.seconds)
            found["kernels"] = sum(found.values()) - found["all"]
            for name, seconds in found.items():
                best[name] = min(best[name], 1e3 * seconds)
    return step, both, engine.bytes_kept


def print_steps(numbers: list[int], sizes: list[int], repeats: int) -> None:
    """A table of milliseconds a step."""
    columns = ["gaussians", "size", *PARTS, "between", "step", "f + b", "ratio", "decoder", "ratio"]
    print_row([*columns, "MiB"])
    print_row(["---:"] * (len(columns) + 1))
    for number in numbers:
        for size in sizes:
            step, both, kept = measure(number, size, repeats)
            parts = [sum(step[k] for k in kinds if k in step) for kinds in PARTS.values()]
            cells = [*parts, step["all"] - step["kernels"], step["all"], both["kernels"]]
            cells += [step["all"] / both["kernels"], both["all"], step["all"] / both["all"]]
            shown = [f"{cell:.2f}" for cell in cells]
            print_row([f"{number:,}", f"{size}", *shown, f"{kept / 2**20:.0f}"])
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gaussians", type=int, nargs="*", default=[10_000, 100_000, 500_000])
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 512, 960])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: all threads' time, on a busy machine"
    )
    options = parser.parse_args()
    global clock
    clock = CLOCKS[options.clock]
    torch.set_num_threads(options.threads)
    print_steps(options.gaussians, options.sizes, options.repeats)


if __name__ == "__main__":
    main()
