"""How fast refinement is: ``python tests/benchmarks/benchmark_refinement.py [PHOTOGRAPHS]``.

First the milliseconds of a step by part, best of several, for Gaussians as the rasterizer's
benchmark makes them (harmonics of degree 3, all in view): projection and tile lists, compositing,
loss with its gradient, compositing backward, the rest of the way back with Adam, and what Python
does between the kernels. ``ratio`` is a step's time to that of the rasterizer's forward and
backward: of its kernels alone, and of the decoder with autograd. ``MiB`` is what an engine keeps.

Then, if photographs with cameras and points are given (a COLMAP model, say): PSNR on every eighth
photograph, none of which is trained on, by seconds of optimising (measuring does not count); ours
against a plain loop over the decoder, autograd and torch's Adam, from the same Gaussians at the
points, on the same photographs of the same size.
"""

import argparse
import math
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from benchmark_rasterizer import FIELDS, cameras, mvsplat_like, print_row

from mvsplat import Gaussians, SplattingDecoder
from mvsplat.decoder.cpu import rasterizer
from mvsplat.reconstruction.depth_range import depth_range
from mvsplat.reconstruction.inputs import open_input
from mvsplat.refinement import run as run_module
from mvsplat.refinement.cpu import engine as engine_module
from mvsplat.refinement.cpu import photometric
from mvsplat.refinement.cpu.engine import CpuEngine
from mvsplat.refinement.engine import masked_mse
from mvsplat.refinement.judging import decibels
from mvsplat.refinement.loss import photometric_loss
from mvsplat.refinement.optimization import Settings, optimise
from mvsplat.refinement.parameters import FIELDS as PARAMETERS
from mvsplat.refinement.parameters import Parameters, Rates
from mvsplat.refinement.photographs import Photograph, read_photographs
from mvsplat.refinement.points import gaussians_from_points

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
    """A table of milliseconds a step, and how they grow."""
    rows: list[tuple[float, ...]] = []
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
            rows.append((1.0, number, size**2, step["all"]))
    if len(rows) > 3:
        print_growth(np.array(rows))


def print_growth(rows: np.ndarray) -> None:
    """Fit milliseconds by what each Gaussian and each pixel adds; errors are relative."""
    known, found = rows[:, :3] / rows[:, 3:], np.ones(len(rows))
    base, gaussian, pixel = np.linalg.lstsq(known, found, rcond=None)[0]
    error = np.abs(known @ [base, gaussian, pixel] - 1).max()
    print(
        f"\nA step takes {base:.1f} ms, {1e6 * gaussian:.0f} ns a Gaussian and {1e6 * pixel:.0f} "
        f"ns a pixel, to {100 * error:.0f} % for every row.\n"
    )


class Race:
    """PSNR on photographs that are not trained on, by seconds; measuring them stops the clock."""

    def __init__(self, held_out: list[Photograph], near: float, seconds: float):
        self.held_out, self.near, self.limit = held_out, near, seconds
        self.curve: list[tuple[float, float]] = []
        self.steps, self.paused, self.begun = 0, 0.0, clock()

    def monotonic(self) -> float:
        """Stands in for the module ``time`` of what is timed."""
        return clock() - self.begun - self.paused

    def step_done(self, parameters: Callable[[], Parameters]) -> bool:
        """Whether time is left; measures every thirtieth part of it."""
        self.steps += 1
        now = self.monotonic()
        if now >= (len(self.curve) + 1) * self.limit / 30:
            start = clock()
            self.curve.append((now, self.measure(parameters())))
            self.paused += clock() - start
        return now < self.limit

    def measure(self, parameters: Parameters) -> float:
        engine = CpuEngine()
        return fmean(
            decibels(masked_mse(engine.render(parameters, p, self.near, 3), p.pixels / 255, p.mask))
            for p in self.held_out
        )

    def cells(self, final: Parameters) -> list[str]:
        """Seconds to 20, 25 and 30 dB, PSNR in the end, steps, Gaussians."""
        last = self.measure(final)
        times = [
            next((f"{t:.1f}" for t, psnr in self.curve if psnr >= goal), "-")
            for goal in (20, 25, 30)
        ]
        return [*times, f"{last:.2f}", f"{self.steps}", f"{len(final):,}"]


class Watched(CpuEngine):
    """An engine that tells a race of its steps."""

    def __init__(self, race: Race):
        super().__init__()
        self.race = race

    def step(self, parameters, *arguments):
        result = super().step(parameters, *arguments)
        self.race.step_done(lambda: parameters)
        return result


def ours(start: Gaussians, photos: list[Photograph], race: Race) -> Parameters:
    run_module.time = race
    try:
        settings = Settings(seconds=race.limit)
        refined = optimise(start, photos, race.near, settings, engine=Watched(race))
    finally:
        run_module.time = time
    return Parameters.from_gaussians(refined.gaussians)


def plain(start: Gaussians, photos: list[Photograph], race: Race) -> Parameters:
    """The anchor: one random photograph a step, torch throughout, no growing."""
    parameters, rates = Parameters.from_gaussians(start), Rates(means=5e-4 * race.near)
    leaves = {name: getattr(parameters, name).requires_grad_() for name in PARAMETERS}
    base = leaves["harmonics"][..., :1].detach().clone().requires_grad_()
    rest = leaves["harmonics"][..., 1:].detach().clone().requires_grad_()
    groups = [
        {"params": [leaves[name]], "lr": getattr(rates, name)}
        for name in PARAMETERS
        if name != "harmonics"
    ]
    groups += [{"params": [base], "lr": rates.harmonics_base}]
    groups += [{"params": [rest], "lr": rates.harmonics_rest}]
    adam = torch.optim.Adam(groups, eps=1e-15)
    decoder, unit = SplattingDecoder(), torch.full((1, 1), race.near)

    def present() -> Parameters:
        shown = leaves | {"harmonics": torch.cat([base, rest], dim=-1)}
        return Parameters.fresh(*(shown[name] for name in PARAMETERS))

    while True:
        photo = photos[int(torch.randint(len(photos), ()))]
        harmonics = torch.cat([base, rest], dim=-1)
        shown = Gaussians(
            leaves["means"][None],
            leaves["log_scales"].exp()[None],
            torch.nn.functional.normalize(leaves["quaternions"], dim=-1)[None],
            harmonics[None],
            leaves["opacity_logits"].sigmoid()[None],
        )
        view = photo.extrinsics[None, None], photo.intrinsics[None, None]
        color = decoder(shown, *view, unit, unit, photo.shape).color[0, 0]
        adam.zero_grad()
        photometric_loss(color, photo.pixels / 255).backward()
        adam.step()
        if not race.step_done(present):
            return present()


def print_races(path: str, size: int, seconds: float) -> None:
    """A table of our optimising and the plain loop on photographs."""
    with tempfile.TemporaryDirectory() as work:
        source = open_input(path, Path(work))
        scene = source.scene
        found = depth_range(scene, None, None, (1.0, 100.0))
        held = range(3, len(scene), 8)
        trained = [i for i in range(len(scene)) if i not in held]
        photos, held_out = (
            read_photographs(scene, list(part), source.names, size).photographs
            for part in (trained, held)
        )
    assert found.points is not None, "the data has no points to start from"
    start, near = gaussians_from_points(found.points, photos), found.bounds.near
    height, width = photos[0].shape
    print(f"{len(photos)} photographs of {width} x {height}, {seconds:.0f} s, start from points:\n")
    columns = ["", "20 dB after", "25 dB", "30 dB", "PSNR", "steps", "gaussians"]
    print_row(columns)
    print_row(["---:"] * len(columns))
    measure(1000, 64, 1)  # whatever must be compiled is compiled before
    for name, loop in (("ours", ours), ("plain", plain)):
        torch.manual_seed(0)
        race = Race(held_out, near, seconds)
        print_row([name, *race.cells(loop(start, photos, race))])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nPeak of memory, all of the process: {peak:.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photographs", nargs="?", help="photographs with cameras and points")
    parser.add_argument("--side", type=int, default=256, help="the photographs' longer side")
    parser.add_argument("--seconds", type=float, default=60, help="of optimising, for each loop")
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
    if options.gaussians:
        print_steps(options.gaussians, options.sizes, options.repeats)
    if options.photographs is not None:
        print_races(options.photographs, options.side, options.seconds)


if __name__ == "__main__":
    main()
