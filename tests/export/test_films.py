"""Which way the camera goes in films, and camera paths from files."""

import json
import math

import cv2
import pytest
import torch

from mvsplat import SplattingDecoder
from mvsplat.export import Cameras, Frame, save_cameras
from mvsplat.export.camera_paths import load_camera_path
from mvsplat.export.films import FilmSettings, film_path, save_film
from mvsplat.types import Gaussians, Views

LENS = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]])


def context(*x: float) -> Views:
    """Cameras side by side that look along z."""
    poses = torch.eye(4).repeat(1, len(x), 1, 1)
    poses[0, :, 0, 3] = torch.tensor(x)
    bounds = torch.ones(1, len(x))
    image = torch.rand(1, len(x), 3, 16, 24)
    return Views(image, poses, LENS.repeat(1, len(x), 1, 1), bounds, 10 * bounds)


def plane(depth: float = 4.0) -> Gaussians:
    """Gaussians in a plane."""
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(1, 300, 3, generator=generator) * 4 - 2
    means[..., 2] = depth
    return Gaussians(
        means=means,
        scales=torch.full((1, 300, 3), 0.1),
        rotations=torch.tensor([1.0, 0, 0, 0]).expand(1, 300, 4),
        harmonics=torch.rand(1, 300, 3, 1, generator=generator),
        opacities=torch.full((1, 300), 0.9),
    )


def test_interpolation_goes_from_view_to_view():
    path = film_path("interpolation", plane(), context(0.0, 2.0), settings=FilmSettings(frames=11))
    x = path.extrinsics[:, 0, 3]
    assert len(path) == 11 and x[0] == 0 and x[-1] == 2
    assert (x.diff() > 0).all() and x[1] < 0.1, "it starts gently"


def test_wobble_circles_between_the_views_and_looks_at_the_scene():
    settings = FilmSettings(frames=8, wobble_radius=0.5)
    path = film_path("wobble", plane(), context(-1.0, 1.0), settings=settings)
    centers = path.extrinsics[:, :3, 3]
    torch.testing.assert_close(centers.norm(dim=-1), torch.ones(8), atol=1e-5, rtol=0)
    local = torch.einsum(
        "nji,nj->ni", path.extrinsics[:, :3, :3], torch.tensor([0, 0, 4.0]) - centers
    )
    assert local[:, :2].abs().max() < 1e-5, "the plane's middle stays in the middle"


def test_a_single_view_wobbles_too():
    settings = FilmSettings(frames=4)
    path = film_path("wobble", plane(), context(3.0), settings=settings)
    distances = (path.extrinsics[:, :3, 3] - torch.tensor([3.0, 0, 0])).norm(dim=-1)
    torch.testing.assert_close(distances, torch.full((4,), 0.25 * 0.08 * 4))


def test_spin_goes_around_the_middle_of_the_scene():
    settings = FilmSettings(frames=4)
    path = film_path("spin", plane(), context(-1.0, 1.0), settings=settings)
    expected = torch.tensor([[0.0, 0, 0], [4, 0, 4], [0, 0, 8], [-4, 0, 4]])
    torch.testing.assert_close(path.extrinsics[:, :3, 3], expected, atol=1e-4, rtol=0)


def write_cameras(path, *centers) -> None:
    frames = []
    for center in centers:
        pose = torch.eye(4)
        pose[:3, 3] = torch.tensor(center)
        frames.append(Frame("frame", pose, LENS, 24, 16))
    save_cameras(Cameras(frames, 1.0, 10.0), path)


def test_a_path_from_a_file_in_the_world_or_from_the_first_view(tmp_path):
    write_cameras(tmp_path / "scene.json", *[(0.0, 0.0, 0.1 * i) for i in range(6)])
    settings = FilmSettings(frames=6, file=str(tmp_path / "{scene}.json"))
    path = film_path("file", plane(), context(2.0, 3.0), name="scene", settings=settings)
    torch.testing.assert_close(path.extrinsics[:, 2, 3], 0.1 * torch.arange(6))
    assert (path.extrinsics[:, 0, 3] == 0).all()
    settings = FilmSettings(frames=6, file=str(tmp_path / "scene.json"), file_origin="first view")
    path = film_path("file", plane(), context(2.0, 3.0), settings=settings)
    assert (path.extrinsics[:, 0, 3] == 2).all()


def test_few_cameras_in_a_file_are_key_frames(tmp_path):
    write_cameras(tmp_path / "keys.json", (0.0, 0.0, 0.0), (1.0, 0.0, 0.0))
    settings = FilmSettings(frames=5, file=str(tmp_path / "keys.json"))
    path = film_path("file", plane(), context(0.0), settings=settings)
    torch.testing.assert_close(path.extrinsics[:, 0, 3], torch.linspace(0, 1, 5))


def test_nerfstudios_camera_paths_are_opengl(tmp_path):
    # A camera at (1, 2, 3) turned by 90 degrees about y: OpenGL's -z looks along -x.
    matrix = [0, 0, 1, 1, 0, 1, 0, 2, -1, 0, 0, 3, 0, 0, 0, 1]
    camera = {"camera_to_world": matrix, "fov": 60, "aspect": 1.5}
    file = tmp_path / "camera_path.json"
    file.write_text(json.dumps({"camera_path": [camera, camera], "fps": 24}))
    path = load_camera_path(file)
    pose = path.extrinsics[0]
    assert len(path) == 2
    torch.testing.assert_close(pose[:3, 3], torch.tensor([1.0, 2, 3]))
    torch.testing.assert_close(pose[:3, 2], torch.tensor([-1.0, 0, 0]), msg="it looks along z")
    torch.testing.assert_close(pose[:3, 1], torch.tensor([0.0, -1, 0]), msg="y points down")
    # Half the height is seen at tan(30 degrees) of the depth.
    assert path.intrinsics[0, 1, 1].item() == pytest.approx(0.5 / math.tan(math.radians(30)))
    assert path.intrinsics[0, 0, 0].item() * 1.5 == pytest.approx(path.intrinsics[0, 1, 1].item())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no camera path at"),
        ("{", "damaged, or no JSON"),
        ("[]", "holds no cameras"),
        ('{"camera_path": []}', "no list of cameras"),
        ('{"camera_path": [3]}', "camera 0: expected camera_to_world"),
        ('{"camera_path": [{"camera_to_world": [1, 2], "fov": 5}]}', "camera 0: expected"),
        (
            json.dumps({"camera_path": [{"camera_to_world": [0] * 16, "fov": 50}]}),
            "no rotation",
        ),
        (
            json.dumps({"camera_path": [{"camera_to_world": torch.eye(4).tolist(), "fov": 180}]}),
            "fov is 180",
        ),
    ],
)
def test_unusable_files_are_named(tmp_path, content, message):
    file = tmp_path / "path.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        load_camera_path(file)
    assert str(file) in str(error.value)


def test_a_small_scene_is_filmed_at_its_own_size_and_enlarged(tmp_path):
    asked = []

    class Watched(SplattingDecoder):
        def forward(self, *arguments):
            asked.append(arguments[-1])
            return super().forward(*arguments)

    settings = FilmSettings(frames=3, depth=True)
    file = tmp_path / "film.mp4"
    assert save_film("wobble", file, Watched(), plane(), context(0.0, 1.0), settings=settings) == 3
    assert set(asked) == {(16, 24)}
    video = cv2.VideoCapture(str(file))
    size = [video.get(k) for k in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)]
    assert size == [256, 2 * 384], "colour and depth side by side"


@pytest.mark.parametrize("settings", [{"frames": 0}, {"fps": 0}, {"size": (0, 5)}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        FilmSettings(**settings)
