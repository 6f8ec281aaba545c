"""Rotated coefficients describe the rotated function."""

import pytest
import torch

from mvsplat.geometry.harmonics_rotation import harmonics_rotation
from mvsplat.geometry.spherical_harmonics import basis


def random_rotations(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    skew = torch.randn(count, 3, 3, generator=generator, dtype=torch.float64)
    return torch.linalg.matrix_exp(skew - skew.mT)


@pytest.mark.parametrize("degree", range(5))
def test_the_rotated_function_is_read_along_rotated_directions(degree):
    rotations = random_rotations(5)
    coefficients = torch.randn(5, (degree + 1) ** 2, 1, dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.randn(40, 3, dtype=torch.float64), dim=-1)
    turned = harmonics_rotation(rotations, degree) @ coefficients
    before = basis(directions, degree) @ coefficients
    after = basis(directions @ rotations.mT, degree) @ turned
    torch.testing.assert_close(after, before)


def test_rotations_compose_and_keep_degrees_apart():
    first, second = random_rotations(2)
    one, other = (harmonics_rotation(rotation, 3) for rotation in (first, second))
    torch.testing.assert_close(harmonics_rotation(first @ second, 3), one @ other)
    torch.testing.assert_close(one @ one.mT, torch.eye(16, dtype=torch.float64))
    for degree in range(4):
        block = slice(degree**2, (degree + 1) ** 2)
        assert one[block, block].square().sum() == pytest.approx(2 * degree + 1)
