"""Films: what an independent reader sees in the file, and what never happens to memory."""

import weakref

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mvsplat import SplattingDecoder
from mvsplat.export import render_path, save_video
from mvsplat.geometry.trajectories import through_cameras
from mvsplat.types import Gaussians


def read(path) -> tuple[np.ndarray, float]:
    """A video's frames [n, h, w, 3] and frames a second, by OpenCV."""
    video = cv2.VideoCapture(str(path))
    fps, frames = video.get(cv2.CAP_PROP_FPS), []
    while (frame := video.read())[0]:
        frames.append(cv2.cvtColor(frame[1], cv2.COLOR_BGR2RGB))
    return np.stack(frames), fps


def test_another_reader_sees_the_frames(tmp_path):
    colors = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.2], [0.2, 0.2, 0.9], [0.5, 0.5, 0.5]])
    frames = (color.view(3, 1, 1).expand(3, 48, 64) for color in colors)
    assert save_video(frames, tmp_path / "new" / "film.mp4", fps=12.5) == 4
    found, fps = read(tmp_path / "new" / "film.mp4")
    assert found.shape == (4, 48, 64, 3) and fps == pytest.approx(12.5)
    expected = (colors * 255).numpy()[:, None, None]
    assert np.abs(found - expected).max() < 6, "colours survive the conversion to BT.709"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["film.mp4"]


def test_the_file_is_what_browsers_play(tmp_path):
    import av

    save_video([torch.rand(3, 33, 47)] * 3, tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as file:
        codec = file.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert (codec.width, codec.height) == (48, 34), "odd sizes are made even"
        assert (codec.colorspace, codec.color_range) == (1, 1)
    content = (tmp_path / "film.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat"), "plays before it is all there"


def test_odd_rows_are_shown_twice_and_pictures_are_welcome(tmp_path):
    image = Image.new("RGB", (31, 17), (200, 30, 60))
    save_video([image] * 2, tmp_path / "film.mp4", quality=1)
    found, _ = read(tmp_path / "film.mp4")
    assert found.shape == (2, 18, 32, 3)
    assert np.abs(found - np.array([200, 30, 60])).max() < 8


def test_frames_are_drawn_one_at_a_time(tmp_path):
    drawn, most = [], 0

    def frames():
        nonlocal most
        for _ in range(40):
            frame = torch.rand(3, 32, 32)
            drawn.append(weakref.ref(frame))
            most = max(most, sum(one() is not None for one in drawn))
            yield frame
            del frame

    assert save_video(frames(), tmp_path / "film.mp4") == 40
    # The encoder looks ahead in its own small pictures, never in ours.
    assert most <= 3


@pytest.mark.parametrize(
    ("frames", "settings", "message"),
    [
        ([], {}, "no frames"),
        ([torch.zeros(3, 16, 16), torch.zeros(3, 16, 18)], {}, "frame 2 is 18 x 16"),
        ([torch.zeros(3, 16, 16)], {"fps": 0}, "fps is 0"),
        ([torch.zeros(3, 16, 16)], {"quality": 99}, "quality 99"),
    ],
)
def test_unusable_frames_leave_no_file(tmp_path, frames, settings, message):
    (tmp_path / "film.mp4").write_bytes(b"earlier")
    with pytest.raises(ValueError, match=message):
        save_video(frames, tmp_path / "film.mp4", **settings)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"earlier"]


def test_other_kinds_of_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.mp4, not 'film\.gif'"):
        save_video([torch.zeros(3, 16, 16)], tmp_path / "film.gif")


def scene() -> tuple[Gaussians, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    count = 200
    gaussians = Gaussians(
        means=torch.randn(2, count, 3, generator=generator) + torch.tensor([0.0, 0.0, 5.0]),
        scales=torch.full((2, count, 3), 0.1),
        rotations=torch.nn.functional.normalize(torch.randn(2, count, 4, generator=generator), -1),
        harmonics=torch.randn(2, count, 3, 4, generator=generator),
        opacities=torch.rand(2, count, generator=generator),
    )
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 3] = 1.0
    lens = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]]).expand(2, 3, 3)
    return gaussians, poses, lens


@pytest.mark.parametrize("chunk", [None, 1, 2, 99])
def test_chunks_change_nothing(chunk):
    gaussians, poses, lens = scene()
    decoder, path = SplattingDecoder(), through_cameras(poses, lens, 5)
    near = torch.full((1, 5), 2.0)
    second = Gaussians(
        *(getattr(gaussians, n)[1:] for n in ("means", "scales", "rotations", "harmonics")),
        gaussians.opacities[1:],
    )
    expected = decoder(
        second, path.extrinsics[None], path.intrinsics[None], near, 10 * near, (24, 32)
    )
    frames = render_path(decoder, gaussians, path, (24, 32), near=2.0, scene=1, chunk=chunk)
    found = list(frames)
    assert len(found) == 5 and not found[0].color.requires_grad
    for name in ("color", "depth", "alpha"):
        stacked = torch.stack([getattr(frame, name) for frame in found])
        torch.testing.assert_close(stacked, getattr(expected, name)[0])


def test_only_a_chunk_is_rendered_ahead():
    gaussians, poses, lens = scene()
    asked = []

    class Counting(SplattingDecoder):
        def forward(self, gaussians, extrinsics, *rest):
            asked.append(extrinsics.shape[1])
            return super().forward(gaussians, extrinsics, *rest)

    frames = render_path(Counting(), gaussians, through_cameras(poses, lens, 7), (8, 8), chunk=3)
    assert asked == []
    next(frames)
    assert asked == [3]
    assert len(list(frames)) == 6 and asked == [3, 3, 1]


def test_mistakes_are_said_before_anything_is_rendered():
    gaussians, poses, lens = scene()
    path = through_cameras(poses, lens, 2)
    with pytest.raises(ValueError, match="no scene 2 among 2"):
        render_path(SplattingDecoder(), gaussians, path, (8, 8), scene=2)
    with pytest.raises(ValueError, match="chunk is 0"):
        render_path(SplattingDecoder(), gaussians, path, (8, 8), chunk=0)
