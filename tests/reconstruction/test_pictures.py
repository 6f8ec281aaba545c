"""Photographs of all kinds, against pixels that are known."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from mvsplat.reconstruction.pictures import any_size, load_photo, prepare

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)


def saved(image, path, **options):
    image.save(path, **options)
    return path


def array(photo):
    assert photo.image.mode == "RGB"
    return np.asarray(photo.image).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_exif_says(tmp_path, orientation):
    image = Image.fromarray(PIXELS)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(image, tmp_path / "a.png", exif=exif)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(array(load_photo(path)), expected)


def test_nothing_of_the_file_but_its_pixels_comes_along(tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x9286] = "Maker", "secret place"
    text = PngInfo()
    text.add_text("comment", "secret")
    path = saved(Image.fromarray(PIXELS), tmp_path / "a.png", exif=exif, pnginfo=text)
    photo = load_photo(path)
    assert photo.camera.startswith("Maker")
    again = io.BytesIO()
    photo.image.save(again, format="PNG")
    assert photo.image.info == {} and not photo.image.getexif()
    assert b"secret" not in again.getvalue()


def test_transparency_is_laid_over_white(tmp_path):
    alpha = RNG.integers(0, 256, (48, 64, 1), dtype=np.uint8)
    path = saved(Image.fromarray(np.concatenate([PIXELS, alpha], -1)), tmp_path / "a.png")
    share = alpha / 255
    expected = PIXELS * share + 255 * (1 - share)
    np.testing.assert_allclose(array(load_photo(path)), expected, atol=1)


def test_a_palette_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (64, 48), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 32, 48))
    path = saved(image, tmp_path / "a.png", transparency=0)
    pixels = array(load_photo(path))
    assert (pixels[:, :32] == (200, 100, 50)).all() and (pixels[:, 32:] == 255).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_its_scale(tmp_path, suffix):
    levels = RNG.integers(0, 65536, (48, 64), dtype=np.uint16)
    path = saved(Image.fromarray(levels), tmp_path / f"a.{suffix}")
    expected = np.repeat(levels[..., None] / 257, 3, -1)
    np.testing.assert_allclose(array(load_photo(path)), expected, atol=0.51)


@pytest.mark.parametrize("white", [1, 255])
def test_floating_point_pictures(tmp_path, white):
    levels = RNG.random((48, 64), dtype=np.float32)
    levels[0, 0] = 1
    path = saved(Image.fromarray(levels * white), tmp_path / "a.tif")
    np.testing.assert_allclose(array(load_photo(path))[..., 1], levels * 255, atol=0.51)


@pytest.mark.parametrize("mode", ["L", "CMYK", "1", "YCbCr", "LA"])
def test_other_modes_become_rgb(tmp_path, mode):
    image = Image.fromarray(PIXELS).convert(mode)
    path = saved(image, tmp_path / "a.tif")
    np.testing.assert_allclose(array(load_photo(path)), np.asarray(image.convert("RGB")), atol=1)


def test_reducing_keeps_the_aspect_and_the_mean(tmp_path):
    path = saved(Image.fromarray(PIXELS).resize((640, 480)), tmp_path / "a.jpg", quality=95)
    photo = load_photo(path, longest=100)
    assert photo.image.size == (100, 75)
    np.testing.assert_allclose(array(photo).mean((0, 1)), PIXELS.mean((0, 1)), atol=3)


def test_200_megapixels(tmp_path):
    path = tmp_path / "large.png"
    Image.new("L", (20_000, 10_000), 77).save(path, compress_level=1)
    limit = Image.MAX_IMAGE_PIXELS
    photo = load_photo(path, longest=400)
    assert photo.image.size == (400, 200) and (np.asarray(photo.image) == 77).all()
    assert Image.MAX_IMAGE_PIXELS == limit


@pytest.mark.parametrize(
    "film, expected", [(24, 24 / 43.2666), (50, 50 / 43.2666), (0, None), (9999, None)]
)
def test_focal_length_from_its_35_mm_equivalent(tmp_path, film, expected):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = film
    path = saved(Image.fromarray(PIXELS), tmp_path / "a.jpg", exif=exif)
    assert load_photo(path).focal_length == (expected and pytest.approx(expected, rel=1e-4))


def test_focal_length_from_the_sensor(tmp_path):
    """8 mm before a sensor with 200 pixels a millimetre, of a file reduced to half."""
    exif = Image.Exif()
    details = exif.get_ifd(0x8769)
    details[0x920A], details[0xA20E], details[0xA210] = 8.0, 2000.0, 3  # a centimetre
    details[0xA002] = 128
    path = saved(Image.fromarray(PIXELS), tmp_path / "a.jpg", exif=exif)
    assert load_photo(path).focal_length == pytest.approx(8 * 200 / 2 / np.hypot(64, 48))


def _truncated(path):
    Image.fromarray(PIXELS).save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:900])


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("dear diary"), "not a picture"),
        (_truncated, "damaged"),
        (lambda path: Image.new("RGB", (9, 9)).save(path), "9 x 9 pixels found"),
    ],
)
def test_what_is_no_photo_is_refused_by_name(tmp_path, write, message):
    path = tmp_path / "bad.jpg"
    write(path)
    with pytest.raises(ValueError, match=message) as error:
        load_photo(path)
    assert str(path) in str(error.value)


def test_a_gigapixel_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("mvsplat.reconstruction.pictures.MAX_PIXELS", 1000)
    path = saved(Image.fromarray(PIXELS), tmp_path / "a.png")
    with pytest.raises(ValueError, match="64 x 48 pixels found"):
        load_photo(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_hostile_exif_does_no_harm(tmp_path):
    path = saved(Image.fromarray(PIXELS), tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert load_photo(path).image.size == (64, 48)


def test_prepare_takes_pictures_that_are_open():
    image = Image.fromarray(PIXELS)
    np.testing.assert_array_equal(np.asarray(prepare(image, orientation=3)), PIXELS[::-1, ::-1])


def test_pillows_limit_is_back_after_threads_that_overlapped():
    limit = Image.MAX_IMAGE_PIXELS
    first, second = any_size(), any_size()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS is None  # the second one still reads
    second.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS == limit is not None
