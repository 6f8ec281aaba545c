"""Which engine makes the steps."""

import torch

from mvsplat.refinement.engine import Engine, TorchEngine


def engine_for(device: torch.device) -> Engine:
    """The fastest engine for Gaussians on ``device``."""
    if device.type != "cpu":
        return TorchEngine()
    from mvsplat.refinement.cpu.engine import CpuEngine  # numba takes a second

    return CpuEngine()
