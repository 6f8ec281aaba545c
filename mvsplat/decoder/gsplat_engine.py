"""The CUDA engine: gsplat through its public API, its build made visible and diagnosable."""

import os
import shutil
import subprocess
import sys
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from mvsplat.geometry.numbers_beside import numbers_beside
from mvsplat.private_names import gsplat_kernels
from mvsplat.types import Gaussians

NEAR_PLANE, FAR_PLANE = 0.2, 1e10
MISSING = "not found"


def splat(
    gaussians: Gaussians,
    cameras: Tensor,
    centers: Tensor,
    lenses: Tensor,
    background: tuple[float, ...],
    height: int,
    width: int,
    degree: int,
    antialiased: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour [b, v, 3, h, w], accumulated depth and transmittance [b, v, h, w], on CUDA.

    Args:
        gaussians: Scenes on a CUDA device.
        cameras: World-to-camera rows [b, v, 3, 4].
        centers: Camera centres [b, v, 3], from which colours are seen.
        lenses: fx, fy, cx, cy in pixels [b, v, 4]; gsplat gives no gradient for them.
        background: Red, green, blue.
        height: Image height in pixels.
        width: Image width in pixels.
        degree: Highest spherical-harmonics degree to evaluate.
        antialiased: Mip-Splatting's compensation.

    Raises:
        RuntimeError: gsplat cannot be imported or built here; says why and what to install.
        ValueError: The tensors are not on CUDA.
    """
    gsplat = gsplat_for(gaussians.means.device)
    color = numbers_beside(cameras, *background)
    if gaussians.means.shape[1] == 0:  # gsplat's kernels expect at least one
        image = color[:, None, None].expand(*cameras.shape[:2], 3, height, width)
        return image, torch.zeros_like(image[:, :, 0]), torch.ones_like(image[:, :, 0])
    view_matrices, pixels = _as_matrices(cameras, lenses)
    image, alpha, _ = gsplat.rasterization(
        means=gaussians.means.float(),
        quats=gaussians.rotations.float(),
        scales=gaussians.scales.float(),
        opacities=gaussians.opacities.float(),
        colors=_colors(gsplat, gaussians, centers, degree),
        viewmats=view_matrices,
        Ks=pixels,
        width=width,
        height=height,
        near_plane=NEAR_PLANE,
        far_plane=FAR_PLANE,
        # Dense intermediates: a feed-forward model's views see nearly all of its Gaussians.
        packed=False,
        backgrounds=color.expand(*cameras.shape[:2], 3),
        render_mode="RGB+D",
        rasterize_mode="antialiased" if antialiased else "classic",
    )
    image = image.movedim(-1, -3)
    return image[..., :3, :, :], image[..., 3, :, :], 1 - alpha[..., 0]


def _as_matrices(cameras: Tensor, lenses: Tensor) -> tuple[Tensor, Tensor]:
    """World-to-camera matrices [b, v, 4, 4] and intrinsics in pixels [b, v, 3, 3]."""
    last_row = numbers_beside(cameras, 0, 0, 0, 1).expand(*cameras.shape[:2], 1, 4)
    fx, fy, cx, cy = lenses.unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    pixels = torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], dim=-1)
    return torch.cat([cameras, last_row], dim=-2), pixels.unflatten(-1, (3, 3))


def _colors(gsplat: Any, gaussians: Gaussians, centers: Tensor, degree: int) -> Tensor:
    """What each view sees of each Gaussian's colour, [b, v, g, 3].

    ``rasterization`` could evaluate the harmonics, too, but would copy them, and their gradient,
    for every view: 1.4 GB each for 14 scenes of 131,072 Gaussians in four views.
    """
    harmonics = gaussians.harmonics[..., : (degree + 1) ** 2].float().mT.contiguous()
    views = []
    for center in centers.unbind(1):
        toward = gaussians.means.float() - center[:, None]
        has_direction = (toward != 0).any(dim=-1)
        views.append(gsplat.spherical_harmonics(degree, toward, harmonics, has_direction))
    return (torch.stack(views, dim=1) + 0.5).clamp(min=0)


def gsplat_for(device: torch.device) -> Any:
    """The gsplat package, ready to render on ``device``.

    Raises:
        RuntimeError: It cannot be imported or built here; says why and what to install.
        ValueError: The device is none of CUDA's.
    """
    if device.type != "cuda":
        raise ValueError(
            f"engine gsplat: the Gaussians are on {device}, expected a CUDA device; move them "
            "there, or choose engine cpu or auto"
        )
    return load_gsplat()


@cache
def load_gsplat() -> Any:
    """Import gsplat and have its CUDA extension ready, building it where no binary came along.

    Raises:
        RuntimeError: With the versions found, and what to install.
    """
    if not torch.cuda.is_available():
        raise RuntimeError(_diagnosis("torch finds no CUDA device"))
    start = time.monotonic()
    what = "loading" if extension() else "building (once, which takes minutes)"
    print(f"mvsplat: {what} gsplat's CUDA extension ...", file=sys.stderr, flush=True)
    # torch starts ninja by name, which a virtual environment that is not activated would hide; and
    # processes that build at the same time would delete each other's files.
    binaries = str(Path(sys.executable).parent)
    if binaries not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([binaries, os.environ.get("PATH", "")])
    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "mvsplat")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "gsplat-build.lock"):
            import gsplat

            kernels = gsplat_kernels()
    except Exception as error:  # a failing compiler surfaces as many kinds of exceptions
        raise RuntimeError(_diagnosis(f"{type(error).__name__}: {error}")) from error
    if kernels is None:
        raise RuntimeError(_diagnosis("gsplat found no CUDA toolkit to build its extension with"))
    print(f"mvsplat: gsplat is ready after {time.monotonic() - start:.0f} s", file=sys.stderr)
    return gsplat


def extension() -> Path | None:
    """gsplat's CUDA extension: part of its package, or built on this machine; None before that.

    Looks at files only: nothing is imported, built or loaded.
    """
    package = find_spec("gsplat")
    folders = [Path(folder) for folder in (package and package.submodule_search_locations) or ()]
    root = os.environ.get("TORCH_EXTENSIONS_DIR")
    if root is not None:
        folders.append(Path(root) / "gsplat_cuda")
    else:
        from torch.utils.cpp_extension import get_default_build_root

        version = (torch.version.cuda or "").replace(".", "")
        builds = Path(get_default_build_root()).glob(f"py*_cu{version}")
        folders += [build / "gsplat_cuda" for build in builds]
    patterns = ("csrc*.so", "csrc*.pyd", "gsplat_cuda.so", "gsplat_cuda.pyd")
    found = [file for folder in folders for pattern in patterns for file in folder.glob(pattern)]
    return found[0] if found else None


def toolchain() -> tuple[str, str]:
    """The CUDA compiler and the C++ compiler that a build would use: version, or what is wrong."""
    from torch.utils.cpp_extension import CUDA_HOME

    nvcc = shutil.which("nvcc") or (CUDA_HOME and shutil.which("nvcc", path=f"{CUDA_HOME}/bin"))
    return _version(nvcc, "release"), _version(shutil.which(os.environ.get("CXX", "c++")), "")


ADVICE = (
    "Install a CUDA toolkit of torch's CUDA version (nvcc) and a C++ compiler that it supports, or "
    "a gsplat wheel prebuilt for this torch (https://docs.gsplat.studio/whl), or choose engine cpu."
)


def _diagnosis(problem: str) -> str:
    nvcc, compiler = toolchain()
    return (
        f"engine gsplat is not usable: {problem}\n"
        f"  torch {torch.__version__} built for CUDA {torch.version.cuda or 'none'}; "
        f"nvcc: {nvcc}; compiler: {compiler}\n"
        f"  {ADVICE}"
    )


def _version(path: str | None, keyword: str) -> str:
    """The first line of ``path --version`` that holds ``keyword``."""
    if path is None:
        return MISSING
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"{path} does not run ({error})"
    return next((line.strip() for line in answer.splitlines() if keyword in line), path)
