"""The machine: processor, threads, memory, and the devices that torch can use."""

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from mvsplat.doctor.findings import Finding
from mvsplat.machine import bf16_instructions, usable_cores

GIB = 2**30
# What the kernels and torch's matrix products gain from, as LLVM names it.
VECTORS = ("avx2", "fma", "avx512f", "neon", "sve")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def processor() -> Iterator[Finding]:
    """Cores, threads, vector instructions and memory."""
    import torch
    from llvmlite import binding

    cores, threads = usable_cores(), torch.get_num_threads()
    text = (
        f"{platform.system()} {platform.machine()} ({binding.get_host_cpu_name()}), {cores} cores"
    )
    yield Finding("processor", "ok", text)
    if threads < cores:
        setting = os.environ.get("OMP_NUM_THREADS")
        advice = f"OMP_NUM_THREADS is {setting}; unset it to use all cores" if setting else ""
        yield Finding("threads", "note", f"{threads} of {cores} cores are used", advice)
    elif threads > cores:
        advice = f"set OMP_NUM_THREADS={cores}"
        yield Finding("threads", "note", f"{threads} threads on {cores} cores", advice)
    else:
        yield Finding("threads", "ok", str(threads))
    yield _instructions(binding.get_host_cpu_features())
    if total := _memory():
        yield Finding("memory", "ok", f"{total / GIB:.0f} GiB")


def _instructions(features: dict[str, bool]) -> Finding:
    vectors = [name for name in VECTORS if features.get(name)]
    bf16 = bf16_instructions()
    text = f"vectors: {', '.join(vectors) or 'none'}; bf16: {', '.join(bf16) or 'none'}"
    if not vectors:
        return Finding("instructions", "note", text, "everything works, but several times slower")
    if not bf16:
        advice = "with precision bf16-mixed (the quickstart's) try --trainer.precision 32-true, too"
        return Finding("instructions", "note", text, advice)
    return Finding("instructions", "ok", text)


def _memory() -> int:
    """Bytes of memory; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


def devices() -> Iterator[Finding]:
    """The CUDA devices."""
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            text = (
                f"{facts.name}, {facts.total_memory / GIB:.0f} GiB, compute capability "
                f"{facts.major}.{facts.minor}; torch is built for CUDA {torch.version.cuda}"
            )
            yield Finding(f"cuda:{index}", "ok", text)
    elif not _has_nvidia_driver():
        yield Finding("cuda", "ok", "no NVIDIA GPU: everything runs on the CPU")
    elif torch.version.cuda is None:
        advice = "install a torch with CUDA, see https://pytorch.org/get-started/locally"
        yield Finding(
            "cuda", "note", f"a driver, but torch {torch.__version__} has no CUDA", advice
        )
    else:
        advice = (
            "see nvidia-smi: CUDA_VISIBLE_DEVICES may hide the GPU, or the driver be older than "
            f"CUDA {torch.version.cuda} needs"
        )
        yield Finding("cuda", "note", "an NVIDIA driver, but torch finds no GPU", advice)


def _has_nvidia_driver() -> bool:
    return NVIDIA_DRIVER.exists() or shutil.which("nvidia-smi") is not None
