"""Gaussians at points, against all distances and known colours."""

import pytest
import torch
from worlds import LENS, cameras

from mvsplat.geometry.spherical_harmonics import evaluate
from mvsplat.refinement.photographs import Photograph
from mvsplat.refinement.points import gaussians_from_points, neighbour_distances


def photos(colors):
    """A photograph of one colour from each of some places side by side, looking along z."""
    found = []
    for number, (pose, color) in enumerate(zip(cameras(len(colors)), colors, strict=True)):
        pixels = (255 * torch.tensor(color)).round().to(torch.uint8)[:, None, None]
        found.append(Photograph(str(number), pixels.repeat(1, 12, 16), pose, LENS))
    return found


GREY, RED = (0.5, 0.5, 0.5), (1.0, 0.0, 0.0)


@pytest.mark.parametrize("shape", ["blob", "plane", "line", "twice the same"])
def test_distances_are_those_of_all_pairs(shape):
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(700, 3, generator=generator)
    points[:, {"plane": [1], "line": [0, 1]}.get(shape, [])] = 0.5
    if shape == "twice the same":
        points[350:] = points[:350]
    distances = torch.cdist(
        points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    truth = distances.fill_diagonal_(torch.inf).topk(3, largest=False).values.mean(1)
    assert torch.allclose(neighbour_distances(points), truth.float(), rtol=1e-5, atol=1e-9)


def test_distances_of_few_points():
    points = torch.tensor([[0.0, 0, 0], [3, 4, 0], [0, 0, 1]])
    assert neighbour_distances(points[:1]).tolist() == [1.0]
    assert neighbour_distances(points[:2]).tolist() == [5.0, 5.0]
    assert neighbour_distances(points)[0] == pytest.approx(3.0)
    assert len(neighbour_distances(points[:0])) == 0


def test_a_point_gets_the_colour_that_most_photographs_show():
    points = torch.tensor([[0.0, 0.0, 3.0], [0.1, 0.0, 3.0]])
    scene = gaussians_from_points(points, photos([GREY, RED, RED, GREY, RED]))
    direction = torch.tensor([0.3, -0.2, 1.0])
    color = evaluate(scene.harmonics[0], direction.expand(2, 3), 1) + 0.5
    assert torch.allclose(color, torch.tensor(RED).expand(2, 3), atol=0.01)
    assert torch.allclose(scene.opacities, torch.tensor(0.1))
    assert torch.allclose(scene.scales, torch.tensor(0.1))


def test_points_that_nobody_sees_and_broken_ones_are_left_out():
    points = torch.tensor([[0.0, 0, 3], [0, 0, -3], [torch.nan, 0, 3], [50, 0, 3], [0.2, 0, 3]])
    scene = gaussians_from_points(points, photos([GREY]), torch.rand(5, 3), degree=0)
    assert scene.means[0].tolist() == points[[0, 4]].tolist()
    assert scene.harmonics.shape == (1, 2, 3, 1)


def test_what_a_mask_hides_tells_no_colour():
    grey, red = photos([GREY, RED])
    hidden = Photograph(
        "masked", red.pixels, red.extrinsics, red.intrinsics, torch.zeros(12, 16) > 0
    )
    scene = gaussians_from_points(torch.tensor([[0.0, 0, 3]]), [hidden, grey])
    assert scene.harmonics.abs().max() < 0.02
    assert gaussians_from_points(torch.tensor([[0.0, 0, 3]]), [hidden]).means.shape[1] == 0


def test_a_lone_point_far_away_does_not_cover_everything():
    points = torch.cat(
        [torch.rand(100, 3) + torch.tensor([0.0, 0, 3]), torch.tensor([[0, 0, 900.0]])]
    )
    scene = gaussians_from_points(points, photos([GREY]))
    assert scene.means.shape[1] == 101 or scene.means[0, -1, 2] == 900
    assert scene.scales.max() <= 10.01 * scene.scales.median()
