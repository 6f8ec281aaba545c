"""A generated room to photograph, and the checkpoint of a tiny model."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from mvsplat import CostVolumeEncoder, SplattingDecoder
from mvsplat.data.generated.generated_scenes import GeneratedScenes


@pytest.fixture(scope="session")
def room(scenes_root):
    """A scene of eight 300x400 frames whose cameras and depths are known exactly."""
    source = GeneratedScenes(str(scenes_root), 1, 1, frames=8, image_shape=(300, 400), travel=1.5)
    source.prepare()
    return source.scene("test", source.keys("test")[0])


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """What a run of a tiny model on 32x32 pixels leaves, as far as it matters here."""
    torch.manual_seed(0)
    encoder = CostVolumeEncoder(
        d_feature=16,
        cnn_widths=(8, 8, 16),
        transformer_blocks=1,
        depth_candidates=8,
        cost_volume_widths=(16, 16),
        cost_volume_attention=(2,),
        refinement_widths=(8, 8),
        refinement_attention=(2,),
        sh_degree=0,
        initialization="matching",
    )
    decoder = SplattingDecoder()
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    described = {"encoder": encoder.config, "decoder": decoder.config}
    views = {"image_shape": [32, 32], "near": 1.0, "far": 10.0}
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    torch.save({"mvsplat": {**described, "views": views}, "state_dict": weights}, path)
    return path


@pytest.fixture(scope="session")
def photos(room, tmp_path_factory):
    """A folder of the room's frames as photographs, without cameras."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(len(room)):
        room.image(index).save(folder / f"IMG_{index}.png")
    return folder


def write_posed(room, folder: Path, indices, size=None) -> Path:
    """Frames with a ``transforms.json`` of their cameras."""
    frames = []
    for index in indices:
        image: Image.Image = room.image(index)
        width, height = size or image.size
        image.resize((width, height)).save(folder / f"{index}.png")
        pose = room.extrinsics[index] @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
        k = room.intrinsics[index]
        frames.append(
            {
                "file_path": f"{index}.png",
                "transform_matrix": pose.tolist(),
                "fl_x": float(k[0, 0]) * width,
                "fl_y": float(k[1, 1]) * height,
                "cx": float(k[0, 2]) * width,
                "cy": float(k[1, 2]) * height,
                "w": width,
                "h": height,
            }
        )
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))
    return folder


@pytest.fixture(scope="session")
def posed(room, tmp_path_factory):
    """The room's frames with their cameras."""
    return write_posed(room, tmp_path_factory.mktemp("posed"), range(len(room)))


@pytest.fixture(scope="session")
def two_posed(room, tmp_path_factory):
    """Two of them."""
    return write_posed(room, tmp_path_factory.mktemp("two"), (1, 5))


@pytest.fixture
def quick(monkeypatch):
    """Films of a few frames, as tests need no more."""
    monkeypatch.setattr("mvsplat.reconstruction.reconstructed.FRAMES_A_STRETCH", 4)
    return SimpleNamespace()
