"""How fast the splatting decoder is: ``python tests/benchmarks/benchmark_rasterizer.py``.

Gaussians as MVSplat makes them: two views' pixel grids with jittered depth, standard deviations of
0.3 to 1.5 rendered pixels before dilation, random opacities, harmonics of degree 3.  Times are the
best of several calls, in milliseconds a view.  ``raster`` is binning, sorting and compositing (what
other CPU rasterizers report); the shares are those of the forward pass's kernels.
"""

import argparse
import math
import time
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


def measure_anchor(number: int, size: int, threads: int, repeats: int) -> float:
    """Best seconds of the plain renderer on the same projected Gaussians."""
    from mvsplat.decoder.cpu.operator import _scene

    gaussians, (extrinsics, _, _) = mvsplat_like(number, size), cameras(1)
    lens = size * torch.tensor([[[FOCAL, FOCAL, 0.5, 0.5]]])
    fields = [getattr(gaussians, name) for name in FIELDS]
    scene = _scene(
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


def print_row(number: int, size: int, threads: int, best: dict[str, float]) -> None:
    kernels = sum(best[name] for name in FORWARD)
    raster = kernels - best["project"]
    shares = "".join(f"{100 * best[name] / kernels:10.0f} %" for name in FORWARD)
    print(
        f"{number:9,d} {size:5d} {threads:7d} {1e3 * best['forward']:9.1f} "
        f"{1e3 * best['both']:9.1f} {1e3 * raster:9.1f} {shares}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--gaussians", type=int, nargs="+", default=[16384, 131072, 524288, 2097152]
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(
        f"{'gaussians':>9} {'size':>5} {'threads':>7} {'forward':>9} {'+backward':>9} "
        f"{'raster':>9} {'project':>11} {'bin':>11} {'sort':>11} {'composite':>11}"
    )
    for threads in options.threads:
        torch.set_num_threads(threads)
        for number in options.gaussians:
            for size in options.sizes:
                print_row(number, size, threads, measure(number, size, 1, "cpu", options.repeats))
        best = measure(131072, 256, 4, "cpu", options.repeats)
        anchor = measure_anchor(131072, 256, threads, options.repeats)
        alone = measure(131072, 256, 1, "cpu", options.repeats)
        raster = sum(alone[name] for name in FORWARD[1:])
        print(
            f"131,072 Gaussians, 256 x 256, {threads} threads: four views forward and backward "
            f"{1e3 * best['both']:.0f} ms, {best['both'] / best['kernels']:.2f} times their "
            f"kernels; plain renderer {1e3 * anchor:.0f} ms forward, "
            f"{anchor / raster:.1f} times ours"
        )
    if torch.cuda.is_available():
        print("gsplat on", torch.cuda.get_device_name())
        for number in options.gaussians:
            for size in options.sizes:
                best = measure(number, size, 1, "cuda", options.repeats)
                forward, both = 1e3 * best["forward"], 1e3 * best["both"]
                print(f"{number:9,d} {size:5d} {forward:17.2f} {both:9.2f}")


if __name__ == "__main__":
    main()
