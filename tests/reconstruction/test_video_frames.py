"""Frames of videos: which ones, how they lie, and what is no video."""

import av
import numpy as np
import pytest
from PIL import Image, ImageFilter

from mvsplat.export import save_video
from mvsplat.reconstruction.video import sharp_frames


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
