"""Feed-forward 3-D Gaussian splatting: posed photographs in, a renderable scene out.

The public names below are imported on first use, so that ``import mvsplat`` costs little
more than ``import torch``; Lightning is imported by what trains.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "Batch": "mvsplat.types",
    "CostVolumeEncoder": "mvsplat.encoder",
    "DepthEstimate": "mvsplat.types",
    "Encoder": "mvsplat.encoder",
    "Gaussians": "mvsplat.types",
    "Loss": "mvsplat.losses",
    "MVSplat": "mvsplat.model",
    "Rendering": "mvsplat.types",
    "SplattingDecoder": "mvsplat.decoder",
    "Views": "mvsplat.types",
    "Reconstruction": "mvsplat.reconstruction.result",
    "load_model": "mvsplat.model",
    "reconstruct": "mvsplat.reconstruction.pipeline",
}
_MODULES = ("data", "evaluation", "export", "geometry", "published")

__all__ = [*_EXPORTS, *_MODULES, "__version__"]

if TYPE_CHECKING:
    from mvsplat import data, evaluation, export, geometry, published
    from mvsplat.decoder import SplattingDecoder
    from mvsplat.encoder import CostVolumeEncoder, Encoder
    from mvsplat.losses import Loss
    from mvsplat.model import MVSplat, load_model
    from mvsplat.reconstruction.pipeline import reconstruct
    from mvsplat.reconstruction.result import Reconstruction
    from mvsplat.types import Batch, DepthEstimate, Gaussians, Rendering, Views


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(import_module(_EXPORTS[name]), name)
    elif name in _MODULES:
        value = import_module(f"mvsplat.{name}")
    else:
        raise AttributeError(f"module 'mvsplat' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
