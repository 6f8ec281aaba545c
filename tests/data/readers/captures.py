"""Small captures in the published formats, written from the formats' definitions."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SIZE = (40, 30)


def rotation(seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.linalg.det(q)


def pose(seed: int) -> np.ndarray:
    """A camera-to-world matrix, OpenCV axes."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(seed)
    matrix[:3, 3] = np.random.default_rng(seed + 100).normal(size=3)
    return matrix


def write_picture(path: Path, red: int, size=SIZE, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (red, 100, 50)).save(path, **options)


def quaternion(matrix: np.ndarray) -> np.ndarray:
    """(w, x, y, z) by COLMAP's own hand."""
    import pycolmap

    x, y, z, w = pycolmap.Rotation3d(matrix).quat
    return np.array([w, x, y, z])


def write_colmap_text(
    folder: Path, poses, cameras="1 PINHOLE 40 30 50 51 20.5 15.25\n", names=None
):
    """cameras.txt, images.txt and points3D.txt after COLMAP's documentation."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.txt").write_text(f"# Camera list\n{cameras}")
    lines = ["# Image list with two lines of data per image:", "#   IMAGE_ID, QW, ..."]
    for number, matrix in enumerate(poses):
        world_to_camera = np.linalg.inv(matrix)
        numbers = [*quaternion(world_to_camera[:3, :3]), *world_to_camera[:3, 3]]
        name = f"{number}.png" if names is None else names[number]
        lines += [f"{number + 1} {' '.join(map(repr, map(float, numbers)))} 1 {name}"]
        # The second line may be empty: that is where readers that skip empty lines go wrong.
        lines += ["" if number % 2 else "1.5 2.5 -1 3.5 4.5 7"]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    (folder / "points3D.txt").write_text(
        "# points\n7 0.5 -1 2 10 20 30 0.1 1 0 2 1\n8 1 2 3 0 0 0 0.5\n"
    )
    return folder


def write_transforms(folder: Path, poses, pictures: bool = True, **fields) -> Path:
    """A transforms.json with OpenGL camera-to-world matrices."""
    flip = np.diag([1.0, -1, -1, 1])
    frames = []
    for number, matrix in enumerate(poses):
        name = f"images/{number}.png"
        frames.append({"file_path": name, "transform_matrix": (matrix @ flip).tolist()})
        if pictures:
            write_picture(folder / name, number)
    content = {"fl_x": 50.0, "fl_y": 51.0, "cx": 20.5, "cy": 15.25, "w": 40, "h": 30}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "transforms.json").write_text(json.dumps(content | fields | {"frames": frames}))
    return folder


def dtu_camera(matrix: np.ndarray, scale: float = 1.0) -> str:
    """A camera file: world-to-camera, intrinsics, nearest depth and interval."""
    rows = [" ".join(map(repr, map(float, row))) for row in np.linalg.inv(matrix)]
    k = [[2892.33 * scale, 0, 800.0 * scale], [0, 2883.18 * scale, 600.0 * scale], [0, 0, 1]]
    inner = [" ".join(map(repr, map(float, row))) for row in k]
    return "\n".join(["extrinsic", *rows, "", "intrinsic", *inner, "", "425.0 2.5", ""])


def re10k_line(stamp: int, matrix: np.ndarray, k=(0.9, 1.6, 0.5, 0.5)) -> str:
    numbers = [*k, 0, 0, *np.linalg.inv(matrix)[:3].ravel()]
    return f"{stamp} {' '.join(repr(float(number)) for number in numbers)}"


def write_re10k(root: Path, split: str, key: str, poses, frames: bool = True) -> None:
    (root / split).mkdir(parents=True, exist_ok=True)
    stamps = [1_000_000 + 33_366 * number for number in range(len(poses))]
    lines = [re10k_line(stamp, matrix) for stamp, matrix in zip(stamps, poses, strict=True)]
    text = "\n".join(["https://www.youtube.com/watch?v=abc", *lines])
    (root / split / f"{key}.txt").write_text(text + "\n")
    if frames:
        for number, stamp in enumerate(stamps):
            write_picture(root / "frames" / split / key / f"{stamp}.png", number)


def check_poses(scene, poses, atol=1e-6):
    expected = torch.tensor(np.stack(poses), dtype=torch.float32)
    torch.testing.assert_close(scene.extrinsics, expected, atol=atol, rtol=0)


INTRINSICS = torch.tensor([[50 / 40, 0, 20.5 / 40], [0, 51 / 30, 15.25 / 30], [0, 0, 1]])
