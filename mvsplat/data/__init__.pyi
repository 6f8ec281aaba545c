from .chunks.chunk_scenes import ChunkScenes, write_chunks
from .data_module import SceneDataModule
from .evaluation_index.context_choice import ContextChoice, NearestViews, WholeScene
from .evaluation_index.context_stretches import FrameGaps, OverlapTiers
from .evaluation_index.index_file import (
    read_evaluation_index,
    write_evaluation_index,
)
from .evaluation_index.making import make_index
from .evaluation_index.view_sampler import EvaluationViewSampler
from .faults import UnsuitableScene
from .generated.generated_scenes import GeneratedScenes
from .generated.varied_scenes import VariedScenes
from .loading.augmentation import Augmentation
from .loading.loaders import LoaderSettings
from .loading.mixture import MixedSource
from .loading.spread_views import SpreadViewSampler
from .loading.view_samplers import (
    AllViewSampler,
    ArbitraryViewSampler,
    BoundedViewSampler,
    MiddleViewSampler,
    ViewSampler,
)
from .readers.colmap import ColmapScenes
from .readers.dtu import DTUScenes
from .readers.lens import Lens
from .readers.opening import AnyScenes, open_scenes
from .readers.photos import Photo, PhotoScene
from .readers.reader import Reader
from .readers.realestate10k import RealEstate10KScenes
from .readers.transforms_json import TransformsScenes
from .scene import Scene, SceneSource
from .storage.cache import FileCache

__all__ = [
    "AllViewSampler",
    "AnyScenes",
    "ArbitraryViewSampler",
    "Augmentation",
    "BoundedViewSampler",
    "ChunkScenes",
    "ColmapScenes",
    "ContextChoice",
    "DTUScenes",
    "EvaluationViewSampler",
    "FileCache",
    "FrameGaps",
    "GeneratedScenes",
    "Lens",
    "LoaderSettings",
    "MiddleViewSampler",
    "MixedSource",
    "NearestViews",
    "OverlapTiers",
    "Photo",
    "PhotoScene",
    "Reader",
    "RealEstate10KScenes",
    "Scene",
    "SceneDataModule",
    "SceneSource",
    "SpreadViewSampler",
    "TransformsScenes",
    "UnsuitableScene",
    "VariedScenes",
    "ViewSampler",
    "WholeScene",
    "make_index",
    "open_scenes",
    "read_evaluation_index",
    "write_chunks",
    "write_evaluation_index",
]
