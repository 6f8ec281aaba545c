"""Scene sources, view samplers, crops and flips, generated scenes, the data module.

Imported on first use: the data module brings Lightning, generated scenes bring numba.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_EXPORTS = {
    "AllViewSampler": "loading.view_samplers",
    "AnyScenes": "readers.opening",
    "ArbitraryViewSampler": "loading.view_samplers",
    "BoundedViewSampler": "loading.view_samplers",
    "ChunkScenes": "chunks.chunk_scenes",
    "ColmapScenes": "readers.colmap",
    "ContextChoice": "evaluation_index.context_choice",
    "DTUScenes": "readers.dtu",
    "EvaluationViewSampler": "loading.view_samplers",
    "FrameGaps": "evaluation_index.context_stretches",
    "GeneratedScenes": "generated.generated_scenes",
    "LoaderSettings": "loading.loaders",
    "MiddleViewSampler": "loading.view_samplers",
    "NearestViews": "evaluation_index.context_choice",
    "OverlapTiers": "evaluation_index.context_stretches",
    "RealEstate10KScenes": "readers.realestate10k",
    "Scene": "scene",
    "SceneDataModule": "data_module",
    "SceneSource": "scene",
    "TransformsScenes": "readers.transforms_json",
    "UnsuitableScene": "loading.view_samplers",
    "ViewSampler": "loading.view_samplers",
    "WholeScene": "evaluation_index.context_choice",
    "make_index": "evaluation_index.making",
    "open_scenes": "readers.opening",
    "read_evaluation_index": "evaluation_index.index_file",
    "write_chunks": "chunks.chunk_scenes",
    "write_evaluation_index": "evaluation_index.index_file",
}

__all__ = list(_EXPORTS)

if TYPE_CHECKING:
    from mvsplat.data.chunks.chunk_scenes import ChunkScenes, write_chunks
    from mvsplat.data.data_module import SceneDataModule
    from mvsplat.data.evaluation_index.context_choice import ContextChoice, NearestViews, WholeScene
    from mvsplat.data.evaluation_index.context_stretches import FrameGaps, OverlapTiers
    from mvsplat.data.evaluation_index.index_file import (
        read_evaluation_index,
        write_evaluation_index,
    )
    from mvsplat.data.evaluation_index.making import make_index
    from mvsplat.data.generated.generated_scenes import GeneratedScenes
    from mvsplat.data.loading.loaders import LoaderSettings
    from mvsplat.data.loading.view_samplers import (
        AllViewSampler,
        ArbitraryViewSampler,
        BoundedViewSampler,
        EvaluationViewSampler,
        MiddleViewSampler,
        UnsuitableScene,
        ViewSampler,
    )
    from mvsplat.data.readers.colmap import ColmapScenes
    from mvsplat.data.readers.dtu import DTUScenes
    from mvsplat.data.readers.opening import AnyScenes, open_scenes
    from mvsplat.data.readers.realestate10k import RealEstate10KScenes
    from mvsplat.data.readers.transforms_json import TransformsScenes
    from mvsplat.data.scene import Scene, SceneSource


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'mvsplat.data' has no attribute {name!r}")
    value = getattr(import_module(f"mvsplat.data.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
