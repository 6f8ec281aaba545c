"""What splat formats cost: ``python tests/benchmarks/benchmark_splats.py [SCENE.ply ...]``.

Without scenes, seconds and memory of writing and reading 2,000,000 random Gaussians of degree 3:
``CPU`` are seconds of all threads together, ``wall`` those on the clock, ``memory`` by how much the
process grew at most, as a multiple of the scene itself (of what was read: the scene among it, and
pages of the file as far as they were mapped). ``taskset -c 0`` shows one core's times.

With scenes, a table for each: bytes a Gaussian, the largest error of each field, and the PSNR of
pictures against the scene's, from the cameras beside it or from an orbit. Positions are compared
with the extent that holds 98 % of the scene along its longest axis, rotations by the angle between
them, colours as they are shown.
"""

import argparse
import gc
import math
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mvsplat.evaluation.splat_comparison import rendered_psnr, viewpoints
from mvsplat.export import load_cameras, load_splat, save_splat
from mvsplat.export.cameras import cameras_of
from mvsplat.export.formats.packing import morton_order, to_colors
from mvsplat.geometry.spherical_harmonics import degree_of
from mvsplat.types import Gaussians

FORMATS = ("ply", "compressed.ply", "splat", "spz", "sog", "glb", "gltf")
LIMIT = 10.0
"""CPU seconds that 2,000,000 Gaussians may take; writing .sog has no limit."""
FIELDS = ("means", "scales", "rotations", "harmonics", "opacities")


def random_gaussians(count: int) -> Gaussians:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(1, count, *shape, generator=generator)

    return Gaussians(
        means=3 * normal(3),
        scales=(0.7 * normal(3) - 4).exp(),
        rotations=torch.nn.functional.normalize(normal(4), dim=-1),
        harmonics=0.1 * normal(3, 16),
        opacities=(2 * normal()).sigmoid(),
    )


def memory(name: str) -> int:
    """Bytes of this process, now (VmRSS) or at most since the last reset (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1])


def measure(action: Callable[[], object], size: int) -> tuple[float, float, float]:
    """CPU seconds, seconds on the clock, and growth as a multiple of a size."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # starts a new peak
    before, wall, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    result = action()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    del result
    return cpu, wall, (memory("VmHWM") - before) / size


def speed(count: int, formats: list[str], folder: Path) -> None:
    gaussians = random_gaussians(count)
    size = sum(getattr(gaussians, name).nbytes for name in FIELDS)
    print(
        f"{count:,} Gaussians of degree 3, {size / 1e6:.0f} MB, {torch.get_num_threads()} threads"
    )
    print(f"{'':16}{'write':^27}{'read':^27}{'bytes a':>10}")
    print(f"{'':16}" + 2 * f"{'CPU':>8}{'wall':>9}{'memory':>10}" + f"{'Gaussian':>10}")
    for suffix in formats:
        path = folder / f"scene.{suffix}"
        written = measure(lambda path=path: save_splat(gaussians, path), size)
        read = measure(lambda path=path: load_splat(path), size)
        numbers = "".join(
            f"{cpu:6.1f} s{wall:7.1f} s{grown:10.2f}" for cpu, wall, grown in (written, read)
        )
        limited = [read[0]] if suffix == "sog" else [written[0], read[0]]
        slow = "" if max(limited) * 2e6 / count <= LIMIT else f"  over {LIMIT:.0f} s"
        print(f".{suffix:<15}{numbers}{path.stat().st_size / count:10.1f}{slow}", flush=True)
        path.unlink()


def errors(truth: Gaussians, found: Gaussians) -> list[str]:
    """The largest error of each field, in words; formats keep the order, or sort by position."""
    order = morton_order(truth.means[0])
    kept, sorted_ = ((truth.means[0, o] - found.means[0]).abs().mean() for o in (..., order))
    a = {name: getattr(truth, name)[0] for name in FIELDS}
    if sorted_ < kept:
        a = {name: value[order] for name, value in a.items()}
    b = {name: getattr(found, name)[0] for name in FIELDS}
    ends = torch.tensor([0.01, 0.99])
    some = a["means"][:: max(1, len(a["means"]) // 100_000)]
    extent = float((some.quantile(ends, dim=0).diff(dim=0)).max())
    shared = min(a["harmonics"].shape[-1], b["harmonics"].shape[-1])
    rest = (a["harmonics"] - padded(b["harmonics"], a)).abs()[..., 1:]
    cosine = (a["rotations"] * b["rotations"]).sum(-1).abs().clamp(max=1)
    colors = (to_colors(x["harmonics"][..., 0]).clamp(0, 1) for x in (a, b))
    scales = (a["scales"].log() - b["scales"].log()).abs().max().expm1()
    texts = [
        said(100 * float((a["means"] - b["means"]).abs().max()) / extent, " %"),
        said(100 * float(scales), " %"),
        said(math.degrees(2 * float(cosine.double().acos().max())), "°"),
        said(float((a["opacities"] - b["opacities"]).abs().max())),
        said(float(torch.sub(*colors).abs().max())),
    ]
    if rest.numel():
        texts.append("left out" if shared == 1 else said(float(rest.max())))
    return texts


def said(error: float, unit: str = "") -> str:
    """Two digits; what float32 rounds is no error."""
    return "0" if error < (0.1 if unit == "°" else 2e-5) else f"{error:.2g}{unit}"


def padded(harmonics: torch.Tensor, like: dict[str, torch.Tensor]) -> torch.Tensor:
    more = like["harmonics"].shape[-1] - harmonics.shape[-1]
    return torch.nn.functional.pad(harmonics, (0, more))


def loss(path: Path, formats: list[str], folder: Path) -> None:
    scene, cameras = load_splat(path), cameras_of(path)
    views = viewpoints(scene, None if cameras is None else load_cameras(cameras))
    count = scene.means.shape[1]
    print(f"{path}: {count:,} Gaussians of degree {degree_of(scene.harmonics.shape[-1])}\n")
    names = ["", "bytes", "position", "scale", "rotation", "opacity", "colour", "harmonics", "PSNR"]
    if scene.harmonics.shape[-1] == 1:
        names.remove("harmonics")
    print(f"| {' | '.join(names)} |".replace("|  |", "| |"))
    print("| --- " * len(names) + "|")
    for suffix in formats:
        file = folder / f"loss.{suffix}"
        save_splat(scene, file)
        found = load_splat(file)
        psnr = sum(rendered_psnr(scene, found, view) for view in views) / len(views)
        cells = [f"`.{suffix}`", f"{file.stat().st_size / count:.1f}", *errors(scene, found)]
        cells.append("same" if psnr >= 90 else f"{psnr:.1f} dB")
        print(f"| {' | '.join(cells)} |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scenes", nargs="*", type=Path)
    parser.add_argument("--count", type=int, default=2_000_000)
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        for scene in arguments.scenes:
            loss(scene, arguments.formats, Path(folder))
        if not arguments.scenes:
            speed(arguments.count, arguments.formats, Path(folder))


if __name__ == "__main__":
    main()
