"""verify compares cameras with pictures: names mistakes, and raises no false alarm.

The pictures are ray-cast here, inside a cube with a texture on its walls: every pixel's point is
known exactly, from nothing but the definition of a camera.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_scenes import encoded, make_entry

from mvsplat.__main__ import main
from mvsplat.data import ChunkScenes
from mvsplat.data.chunks.camera_check import check_camera_fit
from mvsplat.data.chunks.chunk_scenes import ChunkScene, encode_depth, pack_cameras, write_chunks

SIZE, FOCAL, HALF = (120, 90), 0.8, 4.0
GL = torch.diag(torch.tensor([1.0, -1, -1, 1]))


def look_at(eye, target) -> torch.Tensor:
    """Camera-to-world, OpenCV axes, y down."""
    eye, target = torch.tensor(eye), torch.tensor(target)
    z = torch.nn.functional.normalize(target - eye, dim=0)
    x = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1, 0]), z), dim=0)
    pose = torch.eye(4)
    pose[:3] = torch.stack([x, torch.linalg.cross(z, x), z, eye], dim=1)
    return pose


WALK = torch.stack(
    [
        look_at([1.2 * t - 1, 0.5 - t, 0.8 * t - 2], [0.5 - 2 * t, 1.2 * t, 4.0])
        for t in torch.linspace(0, 1, 9).tolist()
    ]
)


def intrinsics(count: int) -> torch.Tensor:
    width, height = SIZE
    k = torch.tensor([[FOCAL, 0, 0.5], [0, FOCAL * width / height, 0.5], [0, 0, 1]])
    return k.repeat(count, 1, 1)


def cast(pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every pixel's ray, in world axes, and how many times it reaches the cube's wall."""
    width, height = SIZE
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x / width, y / height, torch.ones_like(x)], -1)
    rays = pixels @ torch.linalg.inv(intrinsics(1)[0]).T @ pose[:3, :3].T
    return rays, ((rays.sign() * HALF - pose[:3, 3]) / rays).amin(-1)


def picture(pose: torch.Tensor, contrast: float = 1.0) -> Image.Image:
    """The inside of a cube."""
    rays, distance = cast(pose)
    points = (pose[:3, 3] + distance[..., None] * rays) / HALF
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(1, 3, 40, 40, 40, generator=generator)
    color = torch.nn.functional.grid_sample(texture, points[None, None], align_corners=True)
    pixels = (0.5 + contrast * (color[0, :, 0] - 0.5)).permute(1, 2, 0)
    return Image.fromarray((255 * pixels).round().to(torch.uint8).numpy())


def depth(pose: torch.Tensor) -> np.ndarray:
    """Along the optical axis, of the pictures' pixels."""
    rays, distance = cast(pose)
    return (distance * (rays @ pose[:3, 2])).numpy()


def entry(poses: torch.Tensor, key: str = "s", pictures=None, **options) -> dict:
    """A scene's dict, whose ``cameras`` a test may replace."""
    images = pictures or [encoded(picture(pose, **options)) for pose in poses]
    cameras = pack_cameras(poses, intrinsics(len(poses)))
    stamps = torch.arange(len(poses))
    return {"key": key, "url": "", "timestamps": stamps, "cameras": cameras, "images": images}


@pytest.fixture(scope="module")
def right():
    return entry(WALK)


def stored(world_to_camera: torch.Tensor) -> torch.Tensor:
    """Chunk rows whose matrices are these."""
    rows = pack_cameras(torch.eye(4).repeat(len(world_to_camera), 1, 1), intrinsics(9))
    rows[:, 6:] = world_to_camera[:, :3].flatten(1)
    return rows


W2C = torch.linalg.inv(WALK)
TRANSPOSED = W2C.clone()
TRANSPOSED[:, :3, :3] = W2C[:, :3, :3].mT
POSITIONS = W2C.clone()
POSITIONS[:, :3, 3] = WALK[:, :3, 3]
MISTAKES = {
    "held camera-to-world matrices;": WALK,
    "held matrices with OpenGL axes": torch.linalg.inv(WALK @ GL),
    "held camera-to-world matrices with OpenGL axes": WALK @ GL,
    "held transposed rotations;": TRANSPOSED,
    "cameras' positions instead of translations": POSITIONS,
}


@pytest.mark.parametrize("words", MISTAKES)
def test_the_usual_mistakes_are_named(right, words):
    fit = check_camera_fit(ChunkScene(right | {"cameras": stored(MISTAKES[words])}, "x"))
    assert fit.problem is not None and words in fit.problem and fit.share < 0.5
    assert "expected are world-to-camera matrices with OpenCV axes" in fit.problem


def test_cameras_that_fit_no_way_are_named(right):
    order = torch.tensor([4, 7, 1, 8, 3, 5, 0, 2, 6])
    fit = check_camera_fit(ChunkScene(right | {"cameras": right["cameras"][order]}, "x"))
    assert "only" in fit.problem and "do cameras and pictures belong together" in fit.problem
    drifting = WALK.clone()
    drifting[:, :3, 3] *= torch.tensor([1, 3, 0.3, 2, 0.5, 4, 1, 0.2, 2.0])[:, None]
    cameras = pack_cameras(drifting, intrinsics(9))
    assert (
        "is their scale one?" in check_camera_fit(ChunkScene(right | {"cameras": cameras}, "x"))[3]
    )


def forward(t: float) -> torch.Tensor:
    return look_at([0.3, -0.2, 3 * t - 3], [0.3, -0.2, 4.0])


def sideways(t: float) -> torch.Tensor:
    return look_at([2 * t - 1, 0.0, -1.0], [2 * t - 1, 0.0, 4.0])


def turning(t: float) -> torch.Tensor:
    return look_at([0.0, 0.0, 0.0], [4 * t - 2, 0.5, 4.0])


def shaking(t: float) -> torch.Tensor:
    return look_at([0.01 * t, 0.0, 0.0], [0.0, 0.3, 4.0])


@pytest.mark.parametrize("way", [forward, sideways, turning, shaking])
def test_no_false_alarm_whatever_the_movement(way):
    poses = torch.stack([way(t) for t in torch.linspace(0, 1, 8).tolist()])
    fit = check_camera_fit(ChunkScene(entry(poses), "x"))
    assert fit.problem is None
    assert not fit.tells or fit.share > 0.85
    assert fit.tells == (way is not shaking)


def test_no_false_alarm_without_texture_or_with_damaged_or_two_pictures(right):
    for fit in (
        check_camera_fit(ChunkScene(entry(WALK, contrast=0.0), "x")),
        check_camera_fit(ChunkScene(make_entry("plain"), "x")),
        check_camera_fit(ChunkScene(entry(WALK[:1]), "x")),
    ):
        assert fit.problem is None and not fit.tells
    images = [image[:60] if i in (0, 4) else image for i, image in enumerate(right["images"])]
    assert check_camera_fit(ChunkScene(right | {"images": images}, "x")).problem is None
    two = {k: v[2:7:4] if k in ("images", "cameras", "timestamps") else v for k, v in right.items()}
    assert check_camera_fit(ChunkScene(two, "x")).problem is None


def test_no_false_alarm_with_inexact_cameras(right):
    """A focal length that is wrong by 3 %, rotations by a third of a degree."""
    generator = torch.Generator().manual_seed(0)
    poses = WALK.clone()
    turns = 0.006 * torch.randn(9, 3, 3, generator=generator)
    poses[:, :3, :3] = torch.linalg.matrix_exp(turns - turns.mT) @ poses[:, :3, :3]
    cameras = pack_cameras(poses, intrinsics(9))
    cameras[:, :2] *= 1.03
    assert check_camera_fit(ChunkScene(right | {"cameras": cameras}, "x")).problem is None


def verify(capsys, *arguments) -> tuple[int, str]:
    try:
        code = main(["verify", *map(str, arguments), "--workers", "0"])
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr().out


def test_the_command_compares_a_few_scenes_of_each_split(right, tmp_path, capsys):
    wrong = right | {"cameras": stored(WALK)}
    for split, scenes in (("train", [right, right, wrong]), ("test", [right])):
        keyed = [scene | {"key": f"{split}{number}"} for number, scene in enumerate(scenes)]
        write_chunks(tmp_path / split, keyed)
    report = tmp_path / "report.json"
    code, out = verify(capsys, tmp_path, "--cameras", 3, "--report", report)
    assert code == 1 and "compared with the pictures of 4 scenes" in out
    assert out.count("do not fit the pictures") == 1 and "scene 'train2': the cameras" in out
    facts = json.loads(report.read_text())[str(tmp_path / "train")]
    shares = [scene["camera_fit"] for scene in facts["chunks"]["000000.torch"]]
    assert min(shares[:2]) > 0.85 and shares[2] < 0.5
    code, out = verify(capsys, tmp_path, "--cameras", 1)
    assert code == 0 and "of 2 scenes" in out and "nothing is wrong" in out
    for options in (["--cameras", 0], ["--pictures", "none"]):
        code, out = verify(capsys, tmp_path, *options)
        assert code == 0 and "compared" not in out


def test_intrinsics_in_pixels_are_refused_wherever_a_chunk_is_read(right, tmp_path, capsys):
    cameras = right["cameras"].clone()
    cameras[:, :4] = torch.tensor([96.0, 96, 60, 45])
    (tmp_path / "test").mkdir()
    torch.save([right | {"cameras": cameras}], tmp_path / "test/000000.torch")
    (tmp_path / "test/index.json").write_text('{"s": "000000.torch"}')
    code, out = verify(capsys, tmp_path)
    assert code == 1 and "60 picture widths and 45 heights: are the intrinsics in pixels?" in out
    with pytest.raises(ValueError, match=r"000000\.torch, scene 's'.*are the intrinsics in pixels"):
        ChunkScenes(str(tmp_path)).scene("test", "s")
    cameras[:, :4] = torch.tensor([20.0, 20, 4.5, -3.5])  # a telephoto lens, a corner of a panorama
    assert len(ChunkScene(right | {"cameras": cameras}, "x")) == 9
    cameras[:, :2] = 58.0
    with pytest.raises(ValueError, match="field of view of 0.99 degrees"):
        ChunkScene(right | {"cameras": cameras}, "x")


def test_bounds_and_depths_of_another_unit_are_named(right):
    """The cube's walls are 2 to 7 units away."""
    for bounds, fits in (((1.0, 10.0), True), ((2.5, 4.0), True), ((0.01, 0.1), False),
                         ((100.0, 900.0), False)):  # fmt: skip
        near, far = bounds
        problem = check_camera_fit(ChunkScene(right | {"near": near, "far": far}, "x")).problem
        assert fits or f"near is {near:g} and far is {far:g}: have they another unit" in problem
        assert not fits or problem is None
    for factor, fits in ((1.0, True), (1.3, True), (25.4, False), (0.02, False)):
        depths = [encode_depth(factor * depth(pose), 0.01) for pose in WALK]
        whole = right | {"near": 0.01, "far": 1000.0, "depths": depths}
        problem = check_camera_fit(ChunkScene(whole, "x")).problem
        assert (problem is None) if fits else "have depths and cameras another unit?" in problem
