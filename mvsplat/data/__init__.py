"""Scene sources, view samplers, crops and flips, generated scenes, the data module.

Imported on first use: the data module brings Lightning, generated scenes bring numba.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_EXPORTS = {
    "AllViewSampler": "view_samplers",
    "AnyScenes": "readers.opening",
    "ArbitraryViewSampler": "view_samplers",
    "BoundedViewSampler": "view_samplers",
    "ChunkScenes": "chunks",
    "ColmapScenes": "readers.colmap",
    "ContextChoice": "context_choice",
    "DTUScenes": "readers.dtu",
    "EvaluationViewSampler": "view_samplers",
    "FrameGaps": "context_stretches",
    "GeneratedScenes": "generated",
    "LoaderSettings": "loading",
    "MiddleViewSampler": "view_samplers",
    "NearestViews": "context_choice",
    "OverlapTiers": "context_stretches",
    "RealEstate10KScenes": "readers.realestate10k",
    "Scene": "scenes",
    "SceneDataModule": "data_module",
    "SceneSource": "scenes",
    "TransformsScenes": "readers.transforms_json",
    "UnsuitableScene": "view_samplers",
    "ViewSampler": "view_samplers",
    "WholeScene": "context_choice",
    "make_index": "index_making",
    "open_scenes": "readers.opening",
    "read_evaluation_index": "evaluation_index",
    "write_chunks": "chunks",
    "write_evaluation_index": "evaluation_index",
}

__all__ = list(_EXPORTS)

if TYPE_CHECKING:
    from mvsplat.data.chunks import ChunkScenes, write_chunks
    from mvsplat.data.context_choice import ContextChoice, NearestViews, WholeScene
    from mvsplat.data.context_stretches import FrameGaps, OverlapTiers
    from mvsplat.data.data_module import SceneDataModule
    from mvsplat.data.evaluation_index import read_evaluation_index, write_evaluation_index
    from mvsplat.data.generated import GeneratedScenes
    from mvsplat.data.index_making import make_index
    from mvsplat.data.loading import LoaderSettings
    from mvsplat.data.readers.colmap import ColmapScenes
    from mvsplat.data.readers.dtu import DTUScenes
    from mvsplat.data.readers.opening import AnyScenes, open_scenes
    from mvsplat.data.readers.realestate10k import RealEstate10KScenes
    from mvsplat.data.readers.transforms_json import TransformsScenes
    from mvsplat.data.scenes import Scene, SceneSource
    from mvsplat.data.view_samplers import (
        AllViewSampler,
        ArbitraryViewSampler,
        BoundedViewSampler,
        EvaluationViewSampler,
        MiddleViewSampler,
        UnsuitableScene,
        ViewSampler,
    )


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'mvsplat.data' has no attribute {name!r}")
    value = getattr(import_module(f"mvsplat.data.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
