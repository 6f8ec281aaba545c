"""Spherical harmonics against gsplat's own PyTorch evaluation and against their definition."""

import math

import pytest
import torch

from mvsplat.geometry import spherical_harmonics as sh


def directions(number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(number, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("degree", range(5))
def test_agrees_with_gsplat(degree: int):
    gsplat = pytest.importorskip("gsplat.cuda._torch_impl")
    where = directions(100)
    harmonics = torch.randn(100, 3, 25, dtype=torch.float64)
    expected = gsplat._spherical_harmonics(degree, where, harmonics.mT)
    torch.testing.assert_close(
        sh.evaluate(harmonics, where, degree), expected, rtol=1e-8, atol=1e-8
    )


def test_basis_is_orthonormal():
    """Over the sphere, by Gauss-Legendre in z and equal angles in azimuth: exact for degree 8."""
    import numpy as np

    z, weight = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(8))
    angle = torch.arange(16, dtype=torch.float64) * 2 * math.pi / 16
    radius = (1 - z**2).sqrt()[:, None]
    grid = torch.stack(
        [radius * angle.cos(), radius * angle.sin(), z[:, None].expand(8, 16)], dim=-1
    )
    values = sh.basis(grid, 4)
    gram = torch.einsum("zak,zal,z->kl", values, values, weight) * 2 * math.pi / 16
    torch.testing.assert_close(gram, torch.eye(25, dtype=torch.float64), rtol=0, atol=1e-12)


def test_gradients_exist_up_to_degree_4():
    harmonics = torch.randn(5, 3, 25, dtype=torch.float64, requires_grad=True)
    where = directions(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda h, d: sh.evaluate(h, d, 4), (harmonics, where))


def test_degree_of_names_what_it_wants():
    assert [sh.degree_of((degree + 1) ** 2) for degree in range(5)] == list(range(5))
    with pytest.raises(ValueError, match=r"7 spherical-harmonics coefficients.*expected"):
        sh.degree_of(7)
