"""What the decoder's test modules share."""

import pytest
from gsplat_on_cpu import DenseKernels

from mvsplat.decoder import gsplat_engine


@pytest.fixture
def gsplat_on_cpu(monkeypatch):
    """Let the engine ``gsplat`` render tensors on the CPU; gives the kernels that it then uses."""
    torch_impl = pytest.importorskip("gsplat.cuda._torch_impl")
    import gsplat

    kernels = DenseKernels(torch_impl)
    for name in kernels.names:
        monkeypatch.setattr(gsplat.rendering, name, getattr(kernels, name))
    monkeypatch.setattr(gsplat, "spherical_harmonics", kernels.spherical_harmonics)
    monkeypatch.setattr(gsplat_engine, "gsplat_for", lambda device: gsplat)
    return kernels
