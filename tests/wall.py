"""A flat wall photographed by a camera that goes sideways: captures about which all is known.

Every pixel shows the depth ``DEPTH``, and each picture shows what the one before it shows, moved to
the left by ``SHIFT`` pixels.
"""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mvsplat.data.chunks.chunk_scenes import pack_cameras, write_chunks

DEPTH, STEP, SHIFT = 3.0, 0.2, 8
FOCAL = SHIFT * DEPTH / STEP  # in pixels
Size = tuple[int, int]
"""Width and height of pictures."""


def overlap(gap: int, width: int, depth: float = DEPTH) -> float:
    """Share of a picture ``width`` wide that the one ``gap`` frames later shows, too."""
    return max(0.0, 1 - gap * SHIFT * DEPTH / depth / width)


def pictures(count: int, size: Size) -> list[Image.Image]:
    """Photographs of the wall, from left to right."""
    width, height = size
    whole = (width + SHIFT * count, height)
    generator, wall = np.random.default_rng(0), np.zeros((height, whole[0], 3))
    for scale in (2, 5, 13):
        coarse = (height // scale + 2, whole[0] // scale + 2, 3)
        noise = generator.integers(0, 256, coarse, np.uint8)
        wall += np.asarray(Image.fromarray(noise).resize(whole, Image.Resampling.BICUBIC)) / 3
    picture = Image.fromarray(wall.round().astype(np.uint8))
    return [
        picture.crop((SHIFT * number, 0, SHIFT * number + width, height)) for number in range(count)
    ]


def write_pictures(folder: Path, count: int, size: Size) -> list[str]:
    folder.mkdir(parents=True)
    names = [f"{number:02d}.png" for number in range(count)]
    for name, picture in zip(names, pictures(count, size), strict=True):
        picture.save(folder / name)
    return names


def write_colmap(folder: Path, count: int, size: Size) -> Path:
    """A text model with points all over the wall, as dense as every sixth pixel."""
    names = write_pictures(folder / "images", count, size)
    width, height = size
    model = folder / "sparse/0"
    model.mkdir(parents=True)
    camera = f"1 PINHOLE {width} {height} {FOCAL} {FOCAL} {width / 2} {height / 2}\n"
    (model / "cameras.txt").write_text(camera)
    # World-to-camera: a quaternion of no turn, and minus the place.
    lines = [f"{n + 1} 1 0 0 0 {-STEP * n} 0 0 1 {name}\n\n" for n, name in enumerate(names)]
    (model / "images.txt").write_text("".join(lines))
    pixels = np.mgrid[3 : width + SHIFT * (count - 1) : 6, 3:height:6].reshape(2, -1).T
    points = (pixels - np.array(size) / 2) * DEPTH / FOCAL
    lines = [f"{n} {x} {y} {DEPTH} 9 9 9 0.1\n" for n, (x, y) in enumerate(points)]
    (model / "points3D.txt").write_text("".join(lines))
    return folder


def write_transforms(folder: Path, count: int, size: Size, **lens: float) -> Path:
    """A transforms.json; its matrices are OpenGL camera-to-world."""
    names = write_pictures(folder / "images", count, size)
    frames = []
    for number, name in enumerate(names):
        matrix = np.diag([1.0, -1, -1, 1])
        matrix[0, 3] = STEP * number
        frames.append({"file_path": f"images/{name}", "transform_matrix": matrix.tolist()})
    width, height = size
    content = {"fl_x": FOCAL, "fl_y": FOCAL, "w": width, "h": height} | lens
    (folder / "transforms.json").write_text(json.dumps(content | {"frames": frames}))
    return folder


def write_chunk(folder: Path, count: int, size: Size, key: str = "wall") -> Path:
    """Chunks with the one test scene ``key``, which says no bounds, as RealEstate10K's do."""
    extrinsics = torch.eye(4).repeat(count, 1, 1)
    extrinsics[:, 0, 3] = STEP * torch.arange(count)
    width, height = size
    camera = [[FOCAL / width, 0, 0.5], [0, FOCAL / height, 0.5], [0, 0, 1]]
    images = []
    for picture in pictures(count, size):
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        images.append(torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8))
    cameras = pack_cameras(extrinsics, torch.tensor(camera).repeat(count, 1, 1))
    write_chunks(folder / "test", [{"key": key, "cameras": cameras, "images": images}])
    return folder
