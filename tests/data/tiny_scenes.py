"""Tiny chunk data sets whose pictures say which scene and frame they are."""

import gc
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvsplat.data.chunks.chunk_scenes import encode_depth, pack_cameras, write_chunks


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoded(picture: Image.Image, kind: str = "PNG") -> torch.Tensor:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def make_entry(key: str, frames: int = 9, size=(12, 16), depth: bool = False, focal=1.0) -> dict:
    """A scene's dict. The red of every pixel is the frame number; the cameras walk along x."""
    extrinsics = torch.eye(4).repeat(frames, 1, 1)
    extrinsics[:, 0, 3] = 0.1 * torch.arange(frames)
    intrinsics = torch.eye(3).repeat(frames, 1, 1)
    intrinsics[:, :2, 2] = 0.5
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    number = sum(key.encode()) % 256
    entry = {
        "key": key,
        "url": "",
        "timestamps": torch.arange(frames),
        "cameras": pack_cameras(extrinsics, intrinsics),
        "images": [
            encoded(Image.new("RGB", (size[1], size[0]), (frame, number, 0)))
            for frame in range(frames)
        ],
        "near": 1.0,
        "far": 10.0,
    }
    if depth:
        values = 1 + np.arange(size[0] * size[1]).reshape(size) / (size[0] * size[1])
        entry["depths"] = [encode_depth(values + frame, 1.0) for frame in range(frames)]
    return entry


def write_dataset(root: Path, train: int = 13, test: int = 5, **scene) -> Path:
    """``train`` scenes a00, a01, ... and ``test`` scenes t00, ..., a few a chunk."""
    chunk_bytes = 3 * sum(map(len, make_entry("a00", **scene)["images"])) - 1
    for split, letter, count in (("train", "a", train), ("test", "t", test)):
        entries = (make_entry(f"{letter}{number:02d}", **scene) for number in range(count))
        write_chunks(root / split, entries, chunk_bytes)
    return root


def open_files(root: Path) -> set[str]:
    """The files below a folder that this process has mapped into its memory."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux says what is mapped")
    gc.collect()
    paths = {line.split(maxsplit=5)[-1] for line in maps.read_text().splitlines()}
    return {path for path in paths if path.startswith(str(root))}
