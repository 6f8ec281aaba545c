"""The same picture formats wherever pictures come from; others are named, with the way out."""

import pytest
import torch
from captures import pose, write_colmap_text
from PIL import Image
from tiny_scenes import encoded, make_entry

from mvsplat.data import open_scenes
from mvsplat.data.chunks.chunk_scenes import ChunkScene
from mvsplat.data.chunks.scene_conversion import ConversionSettings, convert_scene
from mvsplat.data.picture_formats import FORMATS, SUFFIXES
from mvsplat.reconstruction.pictures import load_photo

SUFFIX = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "TIFF": ".tif",
    "BMP": ".bmp",
    "PPM": ".ppm",
    "GIF": ".gif",
    "AVIF": ".avif",
    "JPEG2000": ".jp2",
    "TGA": ".tga",
}
HEIC = b"\0\0\0\x24ftypheic" + b"\0" * 40


def picture():
    return Image.radial_gradient("L").resize((40, 32)).convert("RGB")


def colmap_scene(folder, suffix):
    write_colmap_text(folder / "sparse/0", [pose(0), pose(1)], names=[f"0{suffix}", f"1{suffix}"])
    (folder / "images").mkdir(exist_ok=True)
    return open_scenes(folder)


@pytest.mark.parametrize("format", SUFFIX)
def test_every_format_with_and_without_cameras_and_in_chunks(tmp_path, format):
    assert format in FORMATS and SUFFIX[format] in SUFFIXES
    folder = tmp_path / "scene"
    source = colmap_scene(folder, SUFFIX[format])
    for number in range(2):
        picture().resize((40, 30)).save(folder / f"images/{number}{SUFFIX[format]}", format)
    scene = source.scene("test", "scene")
    assert scene.image(0).size == (40, 30) and scene.image(0).mode == "RGB"
    picture().save(tmp_path / f"photo{SUFFIX[format]}", format)
    assert load_photo(tmp_path / f"photo{SUFFIX[format]}", 100).image.size == (40, 32)
    entry = make_entry("one")
    entry["images"][0] = encoded(picture(), format)
    chunk = ChunkScene(entry, "file.torch")
    assert chunk.image(0).size == (40, 32)
    assert (chunk.encoded(0) is not None) == (format in ("JPEG", "PNG", "WEBP"))
    # What is written to chunks is of a usual kind, and can be read.
    written = convert_scene(scene, "scene", ConversionSettings(near=1.0, far=9.0)).entry
    assert bytes(written["images"][0][:3].tolist()) == b"\xff\xd8\xff"


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".heic", HEIC, "HEIC is not among JPEG, PNG, .*export the photos as JPEG"),
        (".jpg", HEIC, "HEIC is not among JPEG"),  # renamed, as phones and people do
        (".cr2", b"II*\0" + b"\0" * 60, "raw format is not among .*develop"),
        (".jxl", b"\xff\x0a" + b"\0" * 40, "JPEG XL is not among .*djxl"),
        (".jpg", b"dear diary" * 9, "cannot identify it as any of JPEG, PNG"),
    ],
)
def test_other_formats_are_named(tmp_path, suffix, content, message):
    source = colmap_scene(tmp_path / "scene", suffix)
    for number in range(2):
        (tmp_path / f"scene/images/{number}{suffix}").write_bytes(content)
    with pytest.raises(ValueError, match=rf"0\{suffix}.*{message}"):
        source.scene("test", "scene").image(0)
    with pytest.raises(ValueError, match=rf"0\{suffix}.*{message}"):
        load_photo(tmp_path / f"scene/images/0{suffix}", 100)


def test_a_raw_pictures_thumbnail_is_not_taken_for_it(tmp_path):
    picture().save(tmp_path / "a.dng", "TIFF")  # what Pillow sees of one
    with pytest.raises(ValueError, match="raw format is not among"):
        load_photo(tmp_path / "a.dng", 100)


def test_pictures_of_chunks_are_named_without_an_objects_address():
    entry = make_entry("one")
    for data, message in ((HEIC, "HEIC is not among"), (b"x" * 99, "cannot identify it as any of")):
        entry["images"][0] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        with pytest.raises(ValueError, match=f"'one': image 0 cannot be decoded .*{message}") as e:
            ChunkScene(entry, "file.torch").image(0)
        assert "BytesIO" not in str(e.value)
