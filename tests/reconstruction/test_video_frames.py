"""Frames of videos: which ones, how they lie, and what is no video."""

import av
import numpy as np
import pytest
from PIL import Image, ImageFilter

from mvsplat.export import save_video
from mvsplat.reconstruction.video import is_video, sharp_frames


def noise(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((128, 96), Image.Resampling.NEAREST)


def test_the_sharpest_frame_of_each_stretch(tmp_path):
    sharp = {2, 9, 13}
    frames = [noise(i) for i in range(15)]
    blurred = [
        frame if i in sharp else frame.filter(ImageFilter.GaussianBlur(4))
        for i, frame in enumerate(frames)
    ]
    save_video(iter(blurred), tmp_path / "a.mp4", quality=5)
    found = list(sharp_frames(tmp_path / "a.mp4", 3, longest=64))
    assert [photo.name for photo in found] == ["frame_000002", "frame_000009", "frame_000013"]
    assert found[0].image.size == (64, 48)
    expected = np.asarray(frames[2].resize((64, 48))).astype(float)
    assert np.abs(np.asarray(found[0].image) - expected).mean() < 12


def test_fewer_frames_than_asked_for(tmp_path):
    save_video((noise(i) for i in range(4)), tmp_path / "a.mp4")
    assert len(list(sharp_frames(tmp_path / "a.mp4", 40, 1600))) == 4


def test_a_video_that_lies_on_its_side_and_has_wide_pixels(tmp_path):
    path = tmp_path / "a.mp4"
    picture = Image.new("RGB", (64, 64), "black")
    picture.paste("white", (0, 0, 64, 16))  # a bar at the top
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        stream.set_display_rotation(90)
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_image(picture)))
        file.mux(stream.encode(None))
    image = next(sharp_frames(path, 1, 1600)).image
    assert image.size == (64, 128)
    pixels = np.asarray(image).mean(-1)
    bars = {"left": pixels[:, :16], "right": pixels[:, -16:], "top": pixels[:32]}
    with av.open(str(path)) as file:  # what FFmpeg means by the angle: counter-clockwise
        turned = next(file.decode(video=0)).rotation
    assert abs(turned) == 90
    assert bars["left" if turned == 90 else "right"].mean() > 200 > bars["top"].mean()


@pytest.mark.parametrize("content", [b"", b"not a film", b"\0\0\0\x18ftypmp42" + b"\0" * 50])
def test_what_is_no_video(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.mp4"):
        list(sharp_frames(path, 3, 64))


@pytest.mark.parametrize(
    ("suffix", "codec", "format"),
    [(".ts", "mpeg2video", "mpegts"), (".flv", "flv1", "flv"), (".gif", "gif", "gif")],
)
def test_containers_of_other_kinds(tmp_path, suffix, codec, format):
    path = tmp_path / f"walk{suffix}"
    frames = [noise(i) for i in range(12)]
    with av.open(str(path), "w", format=format) as file:
        stream = file.add_stream("flv" if codec == "flv1" else codec, rate=25)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "rgb8" if format == "gif" else "yuv420p"
        stream.bit_rate = 8_000_000
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_image(frame)))
        file.mux(stream.encode(None))
    assert is_video(path)
    found = list(sharp_frames(path, 12, longest=128))
    assert [photo.name for photo in found] == [f"frame_{i:06d}" for i in range(12)]
    for photo, frame in zip(found, frames, strict=True):
        difference = np.asarray(photo.image).astype(float) - np.asarray(frame)
        assert np.abs(difference).mean() < 30  # another frame of noise differs by 85


def test_which_files_are_videos(tmp_path):
    noise(0).save(tmp_path / "still.gif")
    noise(0).save(tmp_path / "moves.gif", save_all=True, append_images=[noise(1)])
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    assert is_video(tmp_path / "moves.gif") and is_video(tmp_path / "A.FLV")
    for name in ("still.gif", "broken.gif", "a.jpg", "notes.txt"):
        assert not is_video(tmp_path / name)
    for name, whose in {"a.insv": "Insta360", "b.360": "GoPro", "c.osv": "DJI"}.items():
        with pytest.raises(ValueError, match=f"{name} is a 360-degree video .{whose}.* flat .mp4"):
            is_video(tmp_path / name)
