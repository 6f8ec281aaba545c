"""Every reader, on thousands of damaged files: a result, or an error that names the file.

Memory is limited meanwhile, so that a file of a few bytes that asks for gigabytes fails the test.
"""

import io
import json
import resource
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from captures import dtu_camera, pose, re10k_line, write_colmap_text, write_transforms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_captures import (
    write_co3d,
    write_llff,
    write_metashape,
    write_nerfies,
    write_nsvf,
    write_polycam,
    write_realityscan,
    write_record3d,
)
from test_colmap import reconstruction
from tiny_scenes import make_entry

from mvsplat.data import open_scenes
from mvsplat.data.chunks.chunk_scenes import ChunkScene
from mvsplat.data.chunks.storage import load_chunk, read_index, save_chunk
from mvsplat.data.readers.colmap import ColmapScenes
from mvsplat.data.readers.colmap_model import ColmapModel
from mvsplat.data.readers.dtu import read_camera
from mvsplat.data.readers.picture_files import open_picture, to_rgb
from mvsplat.data.readers.realestate10k import read_cameras
from mvsplat.data.readers.transforms_json import TransformsScenes
from mvsplat.export import load_ply, load_splat, save_ply, save_splat
from mvsplat.types import Gaussians

pytestmark = pytest.mark.slow

_HEADROOM = 3 << 30
_WORDS = [
    *(b"nan", b"-1", b"0", b"1e999", b"-1e-320", b"99999999999999999999", b"null", b"true", b'""'),
    *(
        b"[]",
        b"{}",
        b"../../etc/passwd",
        b"/etc/passwd",
        b"\xc3\xa9" * 300,
        b"\n",
        b"\0",
        b"[" * 99,
    ),
    *(b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\xff\xff\xff\x7f"),
]
_PLACE = st.floats(0, 1, exclude_max=True, width=32)
_CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), _PLACE, st.integers(0, 7)),
        st.tuples(st.just("set"), _PLACE, st.integers(0, 255)),
        st.tuples(st.just("cut"), _PLACE, st.integers(1, 400)),
        st.tuples(st.just("end"), _PLACE, st.just(0)),
        st.tuples(st.just("copy"), _PLACE, st.integers(1, 400)),
        st.tuples(st.just("word"), _PLACE, st.sampled_from(_WORDS)),
        st.tuples(st.just("number"), _PLACE, st.sampled_from(_WORDS)),
    ),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, changes: list) -> bytes:
    data = bytearray(content)
    for kind, fraction, value in changes:
        place = int(fraction * len(data))
        if not data:
            break
        if kind == "flip":
            data[place] ^= 1 << value
        elif kind == "set":
            data[place] = value
        elif kind == "cut":
            del data[place : place + value]
        elif kind == "end":
            del data[place:]
        elif kind == "copy":
            data[place:place] = data[place : place + value]
        elif kind == "word":
            data[place : place + len(value)] = value
        else:  # replace the number (or other word) at this place
            stop = next((i for i in range(place, len(data)) if chr(data[i]) in " ,\n]}"), len(data))
            data[place:stop] = value
    return bytes(data)


@contextmanager
def little_memory():
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _HEADROOM, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def hurt(path: Path, read: Callable[[], object], examples: int) -> None:
    """Read many damaged versions of a file."""
    whole = path.read_bytes()
    read()  # undamaged, it is read

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(_CHANGES)
    def try_one(changes):
        path.write_bytes(damaged(whole, changes))
        try:
            read()
        except (ValueError, OSError) as error:
            assert str(path.parent) in str(error) or "scene" in str(error), error

    with little_memory():
        try_one()


def test_chunks(tmp_path):
    path = tmp_path / "000000.torch"
    save_chunk(path, [make_entry("one", 2, depth=True), make_entry("two", 2)])

    def read():
        for entry in load_chunk(path).values():
            scene = ChunkScene(entry, path)
            for frame in range(len(scene)):
                scene.image(frame), scene.depth(frame)

    hurt(path, read, 1200)


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pictures(tmp_path, kind):
    path = tmp_path / "picture"
    path.write_bytes(picture(kind))

    def read():
        to_rgb(open_picture(path))
        entry = make_entry("one", 1)
        entry["images"] = [
            torch.frombuffer(bytearray(path.read_bytes() or b"0"), dtype=torch.uint8)
        ]
        ChunkScene(entry, path).image(0)

    hurt(path, read, 700)


def test_transforms_json(tmp_path):
    write_transforms(tmp_path, [pose(1), pose(2)], k1=0.01, camera_model="OPENCV")
    hurt(
        tmp_path / "transforms.json",
        lambda: TransformsScenes(str(tmp_path), key="k").scene("test", "k").image(0),
        1000,
    )


@pytest.mark.parametrize("table", ["cameras", "images", "points3D"])
def test_colmap_text(tmp_path, table):
    write_transforms(tmp_path, [pose(1), pose(2)])  # for its pictures
    write_colmap_text(tmp_path / "sparse", [pose(1), pose(2)])

    def read():
        scene = ColmapScenes(str(tmp_path), key="k").scene("test", "k")
        return scene.points, scene.image(0)

    hurt(tmp_path / f"sparse/{table}.txt", read, 350)


@pytest.mark.parametrize("table", ["cameras", "images", "points3D"])
def test_colmap_binary(tmp_path, table):
    reconstruction().write_binary(str(tmp_path))
    model = ColmapModel(tmp_path)
    hurt(
        tmp_path / f"{table}.bin",
        lambda: (model.cameras(), model.images(), model.points()),
        600,
    )


def test_realestate10k_and_dtu_text(tmp_path):
    path = tmp_path / "clip.txt"
    path.write_text("\n".join(["https://x", *(re10k_line(10 + i, pose(i)) for i in range(3))]))
    hurt(path, lambda: read_cameras(path), 600)
    camera = tmp_path / "00000000_cam.txt"
    camera.write_text(dtu_camera(pose(0)))
    hurt(camera, lambda: read_camera(camera), 600)


EXPORTS = {
    "keyframes/cameras/1000.json": lambda folder: write_polycam(folder),
    "metadata.json": lambda folder: write_record3d(folder),
    "poses_bounds.npy": lambda folder: write_llff(folder, [f"images/{i}.png" for i in range(3)]),
    "frame_annotations.jgz": lambda folder: write_co3d(folder.parent, "apple"),
    "camera/000001.json": lambda folder: write_nerfies(folder),
    "intrinsics.txt": lambda folder: write_nsvf(folder),
    "pose/0_00001.txt": lambda folder: write_nsvf(folder),
    "IMG_1.xmp": lambda folder: write_realityscan(folder),
    "cameras.xml": lambda folder: write_metashape(folder),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_of_capture_apps(tmp_path, name):
    folder = tmp_path / "apple"
    folder.mkdir()
    EXPORTS[name](folder)

    def read():
        source = open_scenes(folder)
        for key in source.keys("test")[:1]:
            source.scene("test", key).image(0)

    hurt(folder / name, read, 300)


def test_index_json(tmp_path):
    (tmp_path / "index.json").write_text(json.dumps({"a": "0.torch", "é": "1.torch"}))
    hurt(tmp_path / "index.json", lambda: read_index(tmp_path), 700)


def test_ply(tmp_path):
    path = tmp_path / "scene.ply"
    gaussians = Gaussians(
        means=torch.zeros(1, 5, 3),
        scales=torch.ones(1, 5, 3),
        rotations=torch.tensor([1.0, 0, 0, 0]).repeat(1, 5, 1),
        harmonics=torch.zeros(1, 5, 3, 4),
        opacities=torch.full((1, 5), 0.5),
    )
    save_ply(gaussians, path)
    hurt(path, lambda: load_ply(path), 1200)


@pytest.mark.parametrize("suffix", ["compressed.ply", "splat", "spz", "sog", "glb", "gltf"])
def test_splats(tmp_path, suffix):
    generator = torch.Generator().manual_seed(0)
    gaussians = Gaussians(
        means=torch.randn(1, 5, 3, generator=generator),
        scales=torch.ones(1, 5, 3),
        rotations=torch.tensor([1.0, 0, 0, 0]).repeat(1, 5, 1),
        harmonics=torch.rand(1, 5, 3, 4, generator=generator),
        opacities=torch.full((1, 5), 0.5),
    )
    path = tmp_path / f"scene.{suffix}"
    save_splat(gaussians, path)
    hurt(path, lambda: load_splat(path), 150)


@pytest.mark.parametrize("name", ["degree_2_level_1.ksplat", "degree_3_v4.spz"])
def test_splats_of_others(tmp_path, name):
    path = tmp_path / name
    path.write_bytes((Path(__file__).parents[2] / "export" / "samples" / name).read_bytes())
    hurt(path, lambda: load_splat(path), 150)


def test_depth_maps(tmp_path):
    path = tmp_path / "depth.png"
    entry = make_entry("one", 1, depth=True)
    path.write_bytes(bytes(entry["depths"][0].tolist()))

    def read():
        data = torch.frombuffer(bytearray(path.read_bytes() or b"0"), dtype=torch.uint8)
        ChunkScene(entry | {"depths": [data]}, path).depth(0)

    hurt(path, read, 500)
