"""Photographs for refinement: whole frames, smaller sizes by area, masks."""

import numpy as np
import pytest
import torch
from PIL import Image

from mvsplat.data.scene import Scene
from mvsplat.refinement.photographs import Photograph, photographs_of, read_photographs
from mvsplat.types import Views

EYE = torch.eye(4, dtype=torch.float64)


def noise(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8)


def taken(pixels: torch.Tensor, mask: torch.Tensor | None = None) -> Photograph:
    return Photograph("photo", pixels, EYE, EYE[:3, :3], mask)


def test_a_smaller_size_averages_areas():
    pixels = noise(12, 18)
    small = taken(pixels).fitted(6).pixels
    truth = pixels.double().reshape(3, 4, 3, 6, 3).mean(dim=(2, 4))
    assert small.shape == (3, 4, 6)
    assert (small - truth).abs().max() <= 0.5 + 1e-6


def test_areas_that_cut_pixels_are_weighted():
    # Two pixels a side of three: each is two thirds of one and one third of the middle one.
    row = torch.tensor([0, 90, 240], dtype=torch.uint8)
    small = taken(row.repeat(3, 3, 1)).fitted(2).pixels
    assert small[0].tolist() == [[30, 190], [30, 190]]


def test_photographs_are_never_enlarged():
    photo = taken(noise(5, 7))
    assert photo.fitted(100) is photo


def test_what_does_not_count_has_no_part_in_averages():
    pixels, mask = noise(8, 8), torch.ones(8, 8, dtype=torch.bool)
    mask[:, 0] = False
    pixels[:, :, 1] = 77
    garbage = pixels.clone()
    garbage[:, :, 0] = 255 - garbage[:, :, 0]
    one, other = (taken(p, mask).fitted(4) for p in (pixels, garbage))
    assert torch.equal(one.pixels, other.pixels)
    assert (one.pixels[:, :, 0] == 77).all()
    assert one.mask.all()
    mask[:, 1] = False
    assert not taken(pixels, mask).fitted(4).mask[:, 0].any()


class Album(Scene):
    def __init__(self, sizes):
        self.key, self.frame_names = "album", [f"{i}.png" for i in range(len(sizes))]
        self.sizes = sizes
        self.extrinsics = torch.eye(4).repeat(len(sizes), 1, 1)
        self.intrinsics = torch.eye(3).repeat(len(sizes), 1, 1)

    def image(self, index):
        if self.sizes[index] is None:
            raise ValueError(f"{self.frame_names[index]} is damaged")
        height, width = self.sizes[index]
        return Image.fromarray(np.full((height, width, 3), index, np.uint8))


def test_frames_are_read_whole_and_unreadable_ones_named():
    found = read_photographs(Album([(20, 40), None, (40, 20)]), [0, 1, 2], size=30)
    assert [photo.shape for photo in found.photographs] == [(15, 30), (30, 15)]
    assert [photo.name for photo in found.photographs] == ["0.png", "2.png"]
    assert [int(photo.pixels.max()) for photo in found.photographs] == [0, 2]
    assert found.unreadable == {"1.png": "1.png is damaged"}


def test_views_are_photographs():
    image = torch.rand(1, 2, 3, 4, 5)
    poses, lenses = torch.eye(4).repeat(1, 2, 1, 1), torch.eye(3).repeat(1, 2, 1, 1)
    bound = torch.ones(1, 2)
    views = Views(image, poses, lenses, bound, 2 * bound, torch.tensor([[4, 9]]))
    first, second = photographs_of(views)
    assert (first.name, second.name) == ("4", "9")
    assert (second.pixels / 255 - image[0, 1]).abs().max() < 0.003
    with pytest.raises(ValueError, match="2 scenes"):
        photographs_of(Views(*(t.repeat(2, *[1] * (t.ndim - 1)) for t in (
            image, poses, lenses, bound, bound))))  # fmt: skip
