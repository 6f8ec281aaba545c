"""Fixtures of the data tests."""

from pathlib import Path

import pytest
from tiny_scenes import write_dataset

from mvsplat.data.chunks.chunk_scenes import ChunkScenes


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """13 training and 5 test scenes of 9 frames, three scenes a chunk."""
    return write_dataset(tmp_path_factory.mktemp("scenes"))


@pytest.fixture
def source(root) -> ChunkScenes:
    return ChunkScenes(str(root))
