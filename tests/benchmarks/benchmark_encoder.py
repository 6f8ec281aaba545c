"""Time, work and peak memory of encoders: ``python tests/benchmarks/benchmark_encoder.py``.

Without options, MVSplat's whole table: 2, 3, 4, 8 views x 256, 512 x forward, forward + backward x
float32, bf16; ``--model``, ``--views``, ``--size`` (one number or HEIGHTxWIDTH), ``--backward`` and
``--precision`` choose a piece, as in

    --model small base --views 2 --size 256
    --model small --views 12 --size 256x448 --backward 0

where ``small`` and ``base`` are DepthSplat's. Rows of many pixels run less often, and where a step
would keep more than fits, with checkpointing (marked).

Each row runs in a process of its own, so that its peak memory is its own. The limit is the work
(multiplications and additions, counted in float32) over the fastest rate at which a 3x3 convolution
ran in the same process; forward + backward counts three times the work. With one thread, times are
of the processor, which other programs disturb less; with several, of the wall clock.

Freed memory is kept, as the command line does; ``--plain-memory`` leaves it to the C library.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from math import prod

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from mvsplat import CostVolumeEncoder, DepthSplatEncoder, Views
from mvsplat.encoder import Encoder
from mvsplat.encoder.cpu.correlation import pieces
from mvsplat.machine import keep_freed_memory

# Two views of 512 x 512.
FEW_PIXELS = 2 * 512**2
MODELS: dict[str, Callable[..., Encoder]] = {
    "mvsplat": CostVolumeEncoder,
    "small": DepthSplatEncoder,
    "base": partial(
        DepthSplatEncoder,
        vit_width=768,
        scales=2,
        dpt_widths=(96, 192, 384, 768),
        offset_width=48,
        feature_width=96,
    ),
}


def shape(text: str) -> tuple[int, int]:
    """Height and width."""
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def checkpoints(options: argparse.Namespace) -> bool:
    """Whether activations are computed again: a step keeps about 17 KB a pixel otherwise."""
    many = options.views * prod(options.size) > FEW_PIXELS
    return options.checkpointing or (options.backward and many)


def make_views(count: int, size: tuple[int, int]) -> Views:
    """Noise, seen by cameras side by side."""
    extrinsics = torch.eye(4).repeat(1, count, 1, 1)
    extrinsics[:, :, 0, 3] = 0.1 * torch.arange(count)
    intrinsics = torch.tensor([[0.9, 0, 0.5], [0, 0.9, 0.5], [0, 0, 1]]).repeat(1, count, 1, 1)
    near, far = torch.ones(1, count), torch.full((1, count), 100.0)
    return Views(torch.rand(1, count, 3, *size), extrinsics, intrinsics, near, far)


def seconds(function: Callable, repeats: int, first: int = 1) -> float:
    """The best of some runs after some first ones, which take the memory that the others use."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for _ in range(first):
        function()
    best = float("inf")
    for _ in range(repeats):
        start = clock()
        function()
        best = min(best, clock() - start)
    return best


def best_rate(dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of some 3x3 convolutions in the channels-last format."""
    rates = []
    for channels, size in ((64, 128), (128, 64), (128, 128)):
        x = torch.randn(2, channels, size, size, dtype=dtype).to(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, 3, 3, dtype=dtype)
        weight = weight.to(memory_format=torch.channels_last)
        work = 2 * 9 * channels * x.numel()
        rates.append(work / seconds(lambda x=x, w=weight: F.conv2d(x, w, padding=1), 5))
    return max(rates)


def attention_work(query, key, value, *args, out_shape=None, **kwargs) -> int:
    *batch, length, channels = query
    return 4 * torch.Size(batch).numel() * length * key[-2] * channels


def correlation_work(reference, other, grid, *args, out_val=None, **kwargs) -> int:
    """Of the products, which depend on where the cameras stand."""
    found = pieces(reference, other, grid)
    pixels = [prod(range.stop - range.start for range in piece.box) for piece in found]
    rows = [len(reference[piece.item, piece.rows]) for piece in found]
    return sum(2 * reference.shape[2] * n * m for n, m in zip(rows, pixels))


correlation_work._get_raw = True  # how FlopCounterMode is asked for the tensors themselves


def sampled_work(reference, other, grid, *args, out_shape=None, **kwargs) -> int:
    """Of the products; those of sampling do not count, as nobody's do."""
    return 2 * torch.Size(reference).numel() * grid[2]


def count_work(encoder: Encoder, views: Views) -> float:
    """FLOP of a forward pass, fused attention included."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    work = {
        attention: attention_work,
        torch.ops.mvsplat.correlate_at_points: correlation_work,
        torch.ops.mvsplat.correlate_with_samples: sampled_work,
    }
    counter = FlopCounterMode(display=False, custom_mapping=work)
    with counter, torch.no_grad():
        encoder(views)
    return counter.get_total_flops()


def measure(options: argparse.Namespace) -> dict[str, float]:
    """One row of the table."""
    if options.threads:
        torch.set_num_threads(options.threads)
    if not options.plain_memory:
        keep_freed_memory()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pixels = options.views * prod(options.size)
    encoder = MODELS[options.model](checkpointing=checkpoints(options))
    views = make_views(options.views, options.size)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32

    def run() -> None:
        with (
            torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
            torch.set_grad_enabled(options.backward),
        ):
            gaussians = encoder(views)
        if options.backward:
            encoder.zero_grad()  # as a training step does
            parts = (
                gaussians.means,
                gaussians.covariances,
                gaussians.harmonics,
                gaussians.opacities,
            )
            sum(part.mean() for part in parts).backward()

    elapsed = seconds(run, options.repeats, 2) if pixels <= FEW_PIXELS else seconds(run, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
    work = count_work(encoder, views) * (3 if options.backward else 1)
    return {
        "seconds": elapsed,
        "gflop": work / 1e9,
        "limit": work / best_rate(dtype),
        "gigabytes": peak * 1024 / 1e9,
        "checkpointing": checkpoints(options),
    }


def row(arguments: list[str]) -> dict[str, float] | None:
    """``measure`` in a process of its own; None if it was killed, which is for want of memory."""
    command = [sys.executable, __file__, "--row", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode < 0:
        return None
    if result.returncode > 0:
        raise RuntimeError(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, nargs="*", default=["mvsplat"])
    parser.add_argument("--views", type=int, nargs="*", default=[2, 3, 4, 8])
    parser.add_argument("--size", type=shape, nargs="*", default=[(256, 256), (512, 512)])
    parser.add_argument(
        "--precision", choices=["float32", "bf16"], nargs="*", default=["float32", "bf16"]
    )
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's choice")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--checkpointing", action="store_true", help="in every row")
    parser.add_argument("--plain-memory", action="store_true", help="give freed memory back")
    parser.add_argument("--backward", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        for name in ("model", "views", "size", "precision", "backward"):
            setattr(options, name, getattr(options, name)[0])
        options.backward = bool(options.backward)
        print(json.dumps(measure(options)))
        return
    common = ["--threads", str(options.threads), "--repeats", str(options.repeats)]
    common += ["--checkpointing"] * options.checkpointing + [
        "--plain-memory"
    ] * options.plain_memory
    print(
        "| model | views | size | pass | precision | seconds | GFLOP | times the limit | peak GB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    rows = product(options.model, options.size, options.views, options.backward, options.precision)
    for model, (height, width), views, backward, precision in rows:
        size = f"{height}x{width}"
        arguments = ["--model", model, "--views", views, "--size", size, "--precision", precision]
        found = row([*map(str, [*arguments, "--backward", backward]), *common])
        way = "forward + backward" if backward else "forward"
        if found is None:
            print(f"| {model} | {views} | {size} | {way} | {precision} | out of memory |")
            continue
        print(
            f"| {model} | {views} | {size} | {way}"
            f"{' (checkpointing)' if found['checkpointing'] else ''} "
            f"| {precision} | {found['seconds']:.2f} | {found['gflop']:.0f} "
            f"| {found['seconds'] / found['limit']:.2f} | {found['gigabytes']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
