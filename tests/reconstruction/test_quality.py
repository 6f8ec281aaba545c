"""The blur effect against scikit-image's, and which pictures count as the same."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage.measure import blur_effect

from mvsplat.reconstruction.quality import blur, fingerprint, same_picture


@pytest.mark.parametrize("radius", [0, 0.5, 1, 2, 4])
def test_blur_is_scikit_images_effect(room, radius):
    image = room.image(0).filter(ImageFilter.GaussianBlur(radius))
    expected = blur_effect(np.asarray(image.convert("L")) / 255, h_size=11)
    assert blur(image) == pytest.approx(expected, abs=0.02)


def test_blur_is_about_what_is_left_at_512_pixels():
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    fine = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1))
    assert blur(fine) < blur(fine.crop((0, 0, 512, 512)))


def test_a_flat_picture_has_no_detail():
    assert blur(Image.new("RGB", (64, 64), "grey")) == 1


def test_another_compression_is_the_same_picture_and_a_step_aside_is_not(room):
    image = room.image(0)
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=60)
    compressed = Image.open(data).convert("RGB")
    assert same_picture(fingerprint(image), fingerprint(compressed))
    assert not same_picture(fingerprint(image), fingerprint(room.image(1)))
