"""Picture files of every kind, good and bad."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from mvsplat.data.readers.lens import Lens
from mvsplat.data.readers.photos import Photo, PhotoScene
from mvsplat.data.readers.picture_files import open_picture, picture_size, to_rgb


def saved(picture: Image.Image, path, **options):
    picture.save(path, **options)
    return path


def scene(path, size=(8, 6)) -> PhotoScene:
    photo = Photo(path, path.name, Lens((1.0, 1.0), (0.5, 0.5), size), torch.eye(4).double())
    return PhotoScene("s", [photo], path.parent)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.new("RGB", (8, 6), (1, 2, 3)), (1, 2, 3)),
        (Image.new("L", (8, 6), 7), (7, 7, 7)),
        (Image.new("RGBA", (8, 6), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (8, 6), (255, 0, 0, 255)), (255, 0, 0)),
        (Image.new("LA", (8, 6), (9, 255)), (9, 9, 9)),
        (Image.new("1", (8, 6), 1), (255, 255, 255)),
        (Image.fromarray(np.full((6, 8), 0xAB12, np.uint16)), (0xAB, 0xAB, 0xAB)),
        (Image.new("P", (8, 6), 0), (0, 0, 0)),
        (Image.new("CMYK", (8, 6), (0, 0, 0, 255)), (0, 0, 0)),
    ],
)
def test_every_mode_becomes_8_bit_rgb(tmp_path, picture, expected):
    path = tmp_path / ("a.tif" if picture.mode == "CMYK" else "a.png")
    image = scene(saved(picture, path)).image(0)
    assert image.mode == "RGB" and image.getpixel((4, 3)) == expected
    assert to_rgb(image) is image


def test_only_plain_jpegs_are_handed_on_undecoded(tmp_path):
    plain = saved(Image.new("RGB", (8, 6)), tmp_path / "a.jpg")
    assert scene(plain).encoded(0) == plain.read_bytes()
    assert scene(saved(Image.new("L", (8, 6)), tmp_path / "b.jpg")).encoded(0) is None
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(Image.new("RGB", (8, 6)), tmp_path / "c.jpg", exif=exif)
    assert scene(turned).encoded(0) is None
    (tmp_path / "d.jpg").write_bytes(plain.read_bytes()[:100])
    assert scene(tmp_path / "d.jpg").encoded(0) in (None, plain.read_bytes()[:100])


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares an absurd size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot identify"),
        (b"hello, I am a text", "cannot identify"),
        (bomb(12_000, 10_000), "12000 x 10000 pixels are over the limit"),
        (bomb(100_000, 100_000), "cannot be decoded: Image size"),
        (bomb(20, 20), "cannot be decoded"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "évil.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"évil\.png cannot be decoded.*|.*{message}") as error:
        open_picture(path)
    assert message in str(error.value) and "évil.png" in str(error.value)


def test_missing_files_and_sizes(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no picture"):
        open_picture(tmp_path / "no.png")
    assert picture_size(saved(Image.new("RGB", (8, 6)), tmp_path / "a.png")) == (8, 6)
    (tmp_path / "b.png").write_bytes(b"?")
    with pytest.raises(ValueError, match=r"b\.png cannot be decoded"):
        picture_size(tmp_path / "b.png")
