"""JPEG files with more than a picture in them: chunks get the first one, untouched."""

import io
import json
import warnings

import numpy as np
import pytest
from PIL import Image

from mvsplat.__main__ import main
from mvsplat.data import ChunkScenes
from mvsplat.data.chunks.jpeg import first_picture

FILM = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 20
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><GCamera:MotionPhoto>1</GCamera:MotionPhoto>'


def noise(seed: int, size=(64, 48)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def jpeg(seed: int = 0, size=(64, 48), **options) -> bytes:
    buffer = io.BytesIO()
    noise(seed, size).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def several() -> bytes:
    """Two pictures in the Multi-Picture Format, as cameras and phones write it."""
    buffer = io.BytesIO()
    noise(0).save(buffer, "MPO", save_all=True, append_images=[noise(1, (32, 24))])
    return buffer.getvalue()


def with_thumbnail() -> bytes:
    """A picture whose EXIF data hold a small JPEG file, with an end of its own."""
    thumbnail = jpeg(5, (16, 12))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + thumbnail
    data = jpeg()
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


@pytest.mark.parametrize(
    "data",
    [
        jpeg(),
        jpeg(progressive=True),
        jpeg(restart_marker_rows=1, subsampling=0),
        jpeg(comment=b"\xff\xd9 is no end here"),
        with_thumbnail(),
    ],
    ids=["plain", "progressive", "restarts", "comment", "thumbnail"],
)
@pytest.mark.parametrize("appended", [b"", jpeg(3), FILM, b"\0" * 7])
def test_what_follows_a_picture_is_left_out_and_not_a_bit_else(data, appended):
    assert first_picture(data + appended) == data


def test_the_header_does_not_speak_of_pictures_that_are_gone():
    file = several()
    with Image.open(io.BytesIO(file)) as both:
        assert both.n_frames == 2 and b"MPF\0" in file
        expected = np.asarray(both.convert("RGB"))
    only = first_picture(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's, of a file that promises more than it has
        with Image.open(io.BytesIO(only)) as picture:
            assert picture.format == "JPEG"
            np.testing.assert_array_equal(np.asarray(picture), expected)
    scan = only[only.index(b"\xff\xda") :]
    assert scan in file and scan.endswith(b"\xff\xd9") and b"MPF\0" not in only
    motion = first_picture(jpeg(xmp=XMP) + FILM)
    assert motion == jpeg() and first_picture(jpeg(xmp=XMP)) == jpeg(xmp=XMP)


def test_what_is_damaged_or_no_jpeg_file_stays():
    for data in (b"", b"\xff\xd8", jpeg()[:300], b"\x89PNG" + FILM, jpeg()[:-2]):
        assert first_picture(data) == data


def test_convert_copies_the_first_picture_alone(tmp_path):
    frames = []
    for number, data in enumerate([several(), jpeg(1) + FILM, jpeg(2)]):
        (tmp_path / f"in/{number}.jpg").parent.mkdir(exist_ok=True)
        (tmp_path / f"in/{number}.jpg").write_bytes(data)
        matrix = np.diag([1.0, -1, -1, 1])
        matrix[0, 3] = 0.2 * number
        frames.append({"file_path": f"{number}.jpg", "transform_matrix": matrix.tolist()})
    content = {"fl_x": 60, "fl_y": 60, "w": 64, "h": 48, "frames": frames}
    (tmp_path / "in/transforms.json").write_text(json.dumps(content))
    out = tmp_path / "out"
    options = ["--workers", "0", "--near", "1", "--far", "10"]
    assert main(["convert", str(tmp_path / "in"), "--output", str(out), *options]) == 0
    source = ChunkScenes(str(out))
    scene = source.scene("test", source.keys("test")[0])
    assert [scene.encoded(i) for i in (1, 2)] == [jpeg(1), jpeg(2)]
    assert scene.encoded(0) == first_picture(several())
    assert main(["convert", str(out), "--output", str(tmp_path / "again"), *options]) == 0
    again = ChunkScenes(str(tmp_path / "again"))
    copied = again.scene("test", again.keys("test")[0])
    assert [copied.encoded(i) for i in range(3)] == [scene.encoded(i) for i in range(3)]
