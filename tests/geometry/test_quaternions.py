"""Quaternions and matrices describe the same rotations."""

import torch

from mvsplat.geometry.rotations import (
    matrix_to_quaternion,
    quaternion_product,
    quaternion_to_matrix,
)


def quaternions() -> torch.Tensor:
    """Random ones, half turns about the axes (the awkward cases) and the identity."""
    random = torch.randn(100, 4, dtype=torch.float64)
    return torch.nn.functional.normalize(torch.cat([random, torch.eye(4).double()]), dim=-1)


def test_matrix_and_back():
    expected = quaternions()
    found = matrix_to_quaternion(quaternion_to_matrix(expected))
    # q and -q are the same rotation.
    torch.testing.assert_close((found * expected).sum(-1).abs(), torch.ones(104).double())


def test_product_is_the_matrices_product():
    first, second = quaternions(), quaternions().flip(0)
    torch.testing.assert_close(
        quaternion_to_matrix(quaternion_product(first, second)),
        quaternion_to_matrix(first) @ quaternion_to_matrix(second),
    )


def test_gradients_are_finite_at_every_half_turn():
    matrix = quaternion_to_matrix(quaternions()).requires_grad_()
    matrix_to_quaternion(matrix).square().sum().backward()
    assert matrix.grad.isfinite().all()
