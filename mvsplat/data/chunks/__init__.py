"""RealEstate10K-style chunks: read, written, converted to and verified."""

from mvsplat.data.chunks.chunk_scenes import ChunkScenes, write_chunks

__all__ = ["ChunkScenes", "write_chunks"]
