from . import data, evaluation, export, geometry, published
from .decoder import SplattingDecoder
from .encoder import CostVolumeEncoder, DepthSplatDepth, DepthSplatEncoder, Encoder
from .losses import Loss
from .model import MVSplat, load_model
from .reconstruction.pipeline import reconstruct
from .reconstruction.result import Reconstruction
from .refinement.refining import refine
from .types import Batch, DepthEstimate, Gaussians, Rendering, Views

__version__: str
__all__ = [
    "Batch",
    "CostVolumeEncoder",
    "DepthEstimate",
    "DepthSplatDepth",
    "DepthSplatEncoder",
    "Encoder",
    "Gaussians",
    "Loss",
    "MVSplat",
    "Reconstruction",
    "Rendering",
    "SplattingDecoder",
    "Views",
    "__version__",
    "data",
    "evaluation",
    "export",
    "geometry",
    "load_model",
    "published",
    "reconstruct",
    "refine",
]
