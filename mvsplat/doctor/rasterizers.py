"""The rasterizers: their compiled code, and whether they draw a known splat as they should."""

import time
from collections.abc import Iterator
from typing import Literal

from mvsplat.doctor.findings import Finding

OTHERWISE = {
    "cpu": "empty the kernel cache",
    "gsplat": "choose --model.decoder.engine cpu",
}


def cpu() -> Iterator[Finding]:
    """The CPU's rasterizer: where its kernels are kept, and what it draws."""
    from mvsplat.decoder.cpu.project import project
    from mvsplat.kernels import cache_folder

    yield _draws("cpu", "cpu")
    folder = cache_folder(project)
    if folder is None:
        yield Finding(
            "kernel cache",
            "note",
            "no folder is writable, so that every process compiles the kernels again",
            "set NUMBA_CACHE_DIR to a folder of yours",
        )
    else:
        yield Finding("kernel cache", "ok", str(folder))


def gsplat(build: bool) -> Iterator[Finding]:
    """gsplat's rasterizer, where there is a CUDA device: where its build stands, what it draws.

    Args:
        build: Build its CUDA extension, if that has not been done.
    """
    import torch

    from mvsplat.decoder import gsplat_engine

    if not torch.cuda.is_available():
        yield Finding("engine gsplat", "ok", "not needed: there is no CUDA device")
        return
    extension = gsplat_engine.extension()
    if extension is None and not build:
        nvcc, compiler = gsplat_engine.toolchain()
        text = f"its CUDA extension is not built; nvcc: {nvcc}; compiler: {compiler}"
        if gsplat_engine.MISSING in (nvcc, compiler):
            yield Finding("engine gsplat", "problem", text, gsplat_engine.ADVICE)
        else:
            advice = "built on first use, which takes minutes; mvsplat doctor --build does it now"
            yield Finding("engine gsplat", "note", text, advice)
        return
    yield _draws("gsplat", "cuda")
    if extension := gsplat_engine.extension():
        yield Finding("gsplat's extension", "ok", str(extension))


def engine_in_use() -> Iterator[Finding]:
    """Which engine the decoder's default choice, auto, comes to."""
    import torch

    text = "cpu" if not torch.cuda.is_available() else "gsplat for tensors on CUDA, else cpu"
    yield Finding("engine auto", "ok", text)


def _draws(engine: Literal["cpu", "gsplat"], device: str) -> Finding:
    from mvsplat.doctor.known_splat import deviation

    subject, start = f"engine {engine}", time.perf_counter()
    try:
        found = deviation(engine, device)
    except Exception as error:
        first, *rest = (str(error).strip() or "no message").splitlines()
        advice = " ".join(line.strip() for line in rest)
        return Finding(subject, "problem", f"{type(error).__name__}: {first}", advice)
    text = (
        f"{100 * found.pixels:.2g} % of a known splat's pixels differ from the reference; "
        f"gradients by {found.gradient:.1g} at most; {time.perf_counter() - start:.1f} s"
    )
    if found.acceptable:
        return Finding(subject, "ok", text)
    return Finding(
        subject,
        "problem",
        text,
        f"do not trust its pictures; {OTHERWISE[engine]}, and report this with the output of: "
        "mvsplat doctor --json",
    )
