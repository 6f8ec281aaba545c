"""What is done when, and how much of it."""

import pytest
import torch
from worlds import photographs, world

from mvsplat.refinement import schedule
from mvsplat.refinement.memory import check_memory
from mvsplat.refinement.parameters import Parameters
from mvsplat.refinement.photographs import Photograph


def photo(height: int, width: int) -> Photograph:
    eye = torch.eye(4, dtype=torch.float64)
    return Photograph("photo", torch.zeros(3, height, width, dtype=torch.uint8), eye, eye[:3, :3])


def test_pictures_grow_to_their_own_size_and_are_never_larger():
    sizes = [schedule.size_at(share / 100, 960) for share in range(101)]
    assert sizes == sorted(sizes) and sizes[0] < 300 and sizes[-1] == sizes[50] == 960
    assert {schedule.size_at(share / 100, 90) for share in range(101)} == {90}


def test_degrees_are_added_one_by_one():
    degrees = [schedule.degree_at(share / 100, 3) for share in range(101)]
    assert degrees == sorted(degrees) and set(degrees) == {0, 1, 2, 3}
    assert schedule.degree_at(1.0, 1) == 1


def test_rates_are_in_the_scenes_unit_and_fall():
    first, last = schedule.rates_at(0.0, 2.0), schedule.rates_at(1.0, 2.0)
    assert first.means == pytest.approx(2 * schedule.rates_at(0.0, 1.0).means)
    assert last.means < 0.02 * first.means and last.log_scales < first.log_scales
    assert first.log_scales == schedule.rates_at(0.0, 1.0).log_scales


def test_the_budget_follows_pixels_and_ends_at_its_most():
    small, large = ([photo(side, side)] * 10 for side in (200, 800))
    few, many = (schedule.Budget.of(1000, photos, 10**6) for photos in (small, large))
    assert many.last == pytest.approx(16 * few.last, rel=0.01)
    assert schedule.Budget.of(1000, large, 5000).last == 5000
    assert schedule.Budget.of(9000, large, 5000).last == 9000  # the start's are never fewer
    counts = [many.at(share / 100) for share in range(101)]
    assert counts == sorted(counts) and counts[0] == 1000 and counts[60] == many.last


def test_usual_steps_are_fewer_for_more_work():
    def steps(side, most):
        photos = [photo(side, side)] * 10
        return schedule.usual_steps(photos, schedule.Budget.of(5000, photos, most))

    assert steps(256, 20_000) > steps(512, 20_000) > steps(960, 20_000) > 100
    assert steps(512, 20_000) > steps(512, 100_000)


def test_too_little_memory_is_told_with_what_would_fit():
    photos, parameters = photographs(world(), 2), Parameters.from_gaussians(world())
    check_memory(1000, parameters, photos, free=2**30)
    with pytest.raises(ValueError, match=r"1000000 Gaussians .* needs about .* GiB") as error:
        check_memory(1_000_000, parameters, photos, free=2**27)
    fitting = int(str(error.value).split("max_gaussians ")[1].split()[0])
    check_memory(fitting, parameters, photos, free=2**27)
    with pytest.raises(ValueError, match="take smaller photographs"):
        check_memory(60, parameters, photos, free=2**10)
