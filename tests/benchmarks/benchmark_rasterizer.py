"""How fast the splatting decoder is: ``python tests/benchmarks/benchmark_rasterizer.py``.

Gaussians as MVSplat makes them: two views' pixel grids with jittered depth, standard deviations of
0.3 to 1.5 rendered pixels before dilation, random opacities, harmonics of degree 3.  Times are the
best of several calls of the decoder, in milliseconds a view.  ``raster`` is binning, sorting and
compositing (what other CPU rasterizers report); the shares are those of the forward pass's kernels.
``bytes`` a Gaussian are the most that forward and backward hold at once beside the Gaussians,
their gradients and the images.

After each number of threads: the plain renderer of ``plain_rasterizer.py`` on the same Gaussians,
and the decoder's call against the sum of its kernels.
"""

import argparse
import math
import time
import tracemalloc
from collections import defaultdict

import plain_rasterizer
import torch

from mvsplat import Gaussians, SplattingDecoder
from mvsplat.decoder.cpu import footprint as fp
from mvsplat.decoder.cpu import rasterizer

FORWARD = ("project", "fill_tiles", "sort_tiles", "composite")
FIELDS = ("means", "scales", "rotations", "harmonics", "opacities")
FOCAL = 0.9


def mvsplat_like(number: int, size: int) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    side = math.isqrt(number // 2)
    grid = (torch.arange(side) + 0.5) / side
    uv = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), dim=-1).reshape(-1, 2).repeat(2, 1)
    count = len(uv)
    uv = uv + 0.3 / side * torch.randn(count, 2, generator=generator)
    z = 3.5 + 1.5 * torch.sin(6 * uv[:, :1]) + 0.5 * torch.rand(count, 1, generator=generator)
    pixels = 0.3 + 1.2 * torch.rand(count, 3, generator=generator)
    return Gaussians(
        means=torch.cat([(uv - 0.5) / FOCAL * z, z], dim=-1)[None],
        scales=(pixels * z / (FOCAL * size))[None],
        rotations=torch.nn.functional.normalize(
            torch.randn(1, count, 4, generator=generator), dim=-1
        ),
        harmonics=0.3 * torch.randn(1, count, 3, 16, generator=generator),
        opacities=torch.rand(1, count, generator=generator),
    )


def cameras(views: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    extrinsics = torch.eye(4).repeat(1, views, 1, 1)
    extrinsics[0, :, 0, 3] = 0.05 * torch.arange(views)
    intrinsics = torch.tensor([[FOCAL, 0, 0.5], [0, FOCAL, 0.5], [0, 0, 1]])
    return extrinsics, intrinsics.expand(1, views, 3, 3), torch.ones(1, views)


class Stopwatch:
    """Collects the wall time of each kind of kernel, by standing in for ``run_all``."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self.run_all = rasterizer.run_all

    def __call__(self, function, jobs):
        start = time.perf_counter()
        results = self.run_all(function, jobs)
        self.seconds[function.__name__] += time.perf_counter() - start
        return results


def measure(number: int, size: int, views: int, device: str, repeats: int) -> dict[str, float]:
    """Best seconds of forward, backward and, on the CPU, every kernel; all views together."""
    gaussians = mvsplat_like(number, size).to(device)
    tensors = [getattr(gaussians, name).requires_grad_() for name in FIELDS]
    extrinsics, intrinsics, near = (tensor.to(device) for tensor in cameras(views))
    extrinsics.requires_grad_()
    decoder = SplattingDecoder()
    best: dict[str, float] = defaultdict(lambda: math.inf)
    original = rasterizer.run_all
    for _ in range(repeats + 1):
        stopwatch = rasterizer.run_all = Stopwatch()
        stopwatch.run_all = original
        marks = [_now(device)]
        out = decoder(gaussians, extrinsics, intrinsics, near, near, (size, size))
        marks.append(_now(device))
        target = torch.ones_like(out.color)
        torch.autograd.grad(out.color, [*tensors, extrinsics], target)
        marks.append(_now(device))
        found = dict(stopwatch.seconds)
        found |= {"forward": marks[1] - marks[0], "both": marks[2] - marks[0]}
        found["kernels"] = sum(stopwatch.seconds.values())
        for name, seconds in found.items():
            best[name] = min(best[name], seconds)
    rasterizer.run_all = original
    return best


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure_memory(number: int, size: int, device: str) -> float:
    """Bytes a Gaussian at the peak of forward and backward of one view."""
    gaussians = mvsplat_like(number, size).to(device)
    tensors = [getattr(gaussians, name).requires_grad_() for name in FIELDS]
    extrinsics, intrinsics, near = (tensor.to(device) for tensor in cameras(1))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
    else:
        tracemalloc.start()  # sees the arrays that kernels work on
    out = SplattingDecoder()(gaussians, extrinsics, intrinsics, near, near, (size, size))
    out.color.backward(torch.ones_like(out.color))
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() - start
    else:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    gradients = sum(4 * tensor.numel() for tensor in tensors)
    # Color, transmittance and last contribution; on CUDA, the pictures and their gradients, too.
    images = 4 * (11 if device == "cuda" else 5) * size**2
    return (peak - gradients - images) / gaussians.means.shape[1]


def measure_anchor(number: int, size: int, threads: int, repeats: int) -> float:
    """Best seconds of the plain renderer on the same projected Gaussians."""
    from mvsplat.decoder.cpu.operator import scene_arrays

    gaussians, (extrinsics, _, _) = mvsplat_like(number, size), cameras(1)
    lens = size * torch.tensor([[[FOCAL, FOCAL, 0.5, 0.5]]])
    fields = [getattr(gaussians, name) for name in FIELDS]
    scene = scene_arrays(
        [*fields, extrinsics[..., :3, :], extrinsics[..., :3, 3], lens], size, size, 3, False
    )
    records = rasterizer.build_lists(scene).records[0, 0]
    records = records[records[:, fp.Y_LAST] > records[:, fp.Y_FIRST]]
    across, slope = 2 * records[:, fp.SPREAD_X], records[:, fp.SLOPE]
    down = 2 * records[:, fp.SPREAD_Y]
    conics = torch.from_numpy(across)[:, None] * torch.ones(1, 3)
    conics[:, 1] = torch.from_numpy(-across * slope)
    conics[:, 2] = torch.from_numpy(down + across * slope**2)
    sigmas = torch.from_numpy(down**-0.5)[:, None].repeat(1, 2)
    sigmas[:, 0] = torch.from_numpy((1 / across + slope**2 / down) ** 0.5)
    arguments = (
        records[:, [fp.X, fp.Y]].copy(), conics.numpy(), records[:, fp.OPACITY].copy(),
        records[:, fp.RED : fp.DEPTH + 1].copy(), sigmas.numpy(),
    )  # fmt: skip
    best = math.inf
    for _ in range(repeats + 1):
        start = time.perf_counter()
        plain_rasterizer.render(*arguments, size, size, threads)
        best = min(best, time.perf_counter() - start)
    return best


COLUMNS = (
    "gaussians", "size", "threads", "forward", "+ backward", "raster", "project", "bin", "sort",
    "composite", "bytes",
)  # fmt: skip


def print_row(cells: list[str]) -> None:
    """One row of a Markdown table whose columns stand under each other."""
    print("| " + " | ".join(f"{cell:>10}" for cell in cells) + " |", flush=True)


def print_table(options: argparse.Namespace, device: str, threads: int) -> None:
    """Rows for every number of Gaussians and every size."""
    print_row(list(COLUMNS))
    print_row(["---:"] * len(COLUMNS))
    for number in options.gaussians:
        for size in options.sizes:
            best = measure(number, size, 1, device, options.repeats)
            cells = [f"{number:,}", f"{size}", str(threads) if device == "cpu" else device]
            cells += [f"{1e3 * best[name]:.2f}" for name in ("forward", "both")]
            kernels = sum(best[name] for name in FORWARD)
            if device == "cpu":
                cells += [f"{1e3 * (kernels - best['project']):.2f}"]
                cells += [f"{100 * best[name] / kernels:.0f} %" for name in FORWARD]
            else:
                cells += [""] * (1 + len(FORWARD))
            print_row([*cells, f"{measure_memory(number, size, device):.0f}"])
    print()


def print_comparisons(threads: int, repeats: int) -> None:
    """The plain renderer, and the whole call against its kernels, for two 256 x 256 views."""
    anchor = measure_anchor(131072, 256, threads, repeats)
    alone = measure(131072, 256, 1, "cpu", repeats)
    raster = sum(alone[name] for name in FORWARD[1:])
    four = measure(131072, 256, 4, "cpu", repeats)
    print(
        f"131,072 Gaussians, 256 x 256, {threads} threads: the plain renderer takes "
        f"{1e3 * anchor:.0f} ms forward, {anchor / raster:.1f} times our {1e3 * raster:.1f} ms; "
        f"four views forward and backward take {1e3 * four['both']:.0f} ms, "
        f"{four['both'] / four['kernels']:.2f} times their kernels.\n",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    numbers = [16384, 131072, 524288, 2097152]
    parser.add_argument("--gaussians", type=int, nargs="+", default=numbers)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for threads in options.threads:
        torch.set_num_threads(threads)
        print_table(options, "cpu", threads)
        print_comparisons(threads, options.repeats)
    if torch.cuda.is_available():
        SplattingDecoder().prepare("cuda")
        print(f"gsplat on {torch.cuda.get_device_name()}:\n")
        print_table(options, "cuda", 0)


if __name__ == "__main__":
    main()
