"""The CPU rasterizer: numba kernels, driven by a thread pool, registered as a torch operator."""
