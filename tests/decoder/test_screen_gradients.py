"""What flows to the projected means: against the dense float64 reference, pixel by pixel."""

import numpy as np
import pytest
import torch
from splatting_scenes import awkward_scenes, camera, intrinsics, near_a_cut
from torch import Tensor

from mvsplat import Gaussians
from mvsplat.decoder import reference
from mvsplat.decoder.checks import GAUSSIANS
from mvsplat.decoder.cpu import rasterizer
from mvsplat.decoder.cpu.operator import scene_arrays
from mvsplat.geometry.rotations import quaternion_to_matrix
from mvsplat.geometry.spherical_harmonics import degree_of, evaluate

HEIGHT, WIDTH = 45, 70
BLACK = np.zeros(3, np.float32)


def view() -> tuple[Tensor, Tensor, Tensor]:
    """World-to-camera rows [3, 4], centre [3] and lens [4] of one camera, in float64."""
    pose, k = camera()[0, 0].double(), intrinsics()[0, 0].double()
    lens = torch.stack([k[0, 0], k[1, 1], k[0, 2], k[1, 2]])
    lens = lens * torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    return torch.linalg.inv(pose)[:3], pose[:3, 3], lens


def by_pixel(gaussians: Gaussians, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of sum(weights * color) to x and y at every pixel [g, h, w], each; 0 if undrawn."""
    rows, center, lens = view()
    means, scales, turns, harmonics, opacities = (
        getattr(gaussians, name)[0].double() for name in GAUSSIANS
    )
    points = means @ rows[:, :3].T + rows[:, 3]
    order = torch.nonzero(points[:, 2] >= reference.NEAR_PLANE)[:, 0]
    order = order[torch.sort(points[order, 2], stable=True).indices]
    axes = rows[:, :3] @ (quaternion_to_matrix(turns) * scales[:, None])[order]
    xy, cov, _ = reference.project(points[order], axes, lens, HEIGHT, WIDTH)
    # Every pixel has a position of its own for every Gaussian, so that nothing is summed.
    x, y = (c[:, None, None].repeat(1, HEIGHT, WIDTH).requires_grad_() for c in xy.unbind(-1))
    dx, dy = torch.arange(WIDTH) + 0.5 - x, torch.arange(HEIGHT)[:, None] + 0.5 - y
    conic = torch.linalg.inv(cov)[..., None, None]
    exponent = conic[:, 0, 0] * dx**2 / 2 + conic[:, 0, 1] * dx * dy + conic[:, 1, 1] * dy**2 / 2
    alpha = (opacities[order, None, None] * torch.exp(-exponent)).clamp(max=reference.ALPHA_MAX)
    alpha = torch.where(alpha >= reference.ALPHA_CUT, alpha, 0)
    shares, _ = reference.composite(alpha)
    color = evaluate(harmonics[order], means[order] - center, degree_of(harmonics.shape[-1]))
    image = torch.einsum("ghw,gc->chw", shares, (color + 0.5).clamp(min=0))
    found = torch.autograd.grad((image * weights).sum(), (x, y))
    whole = torch.zeros(2, len(means), HEIGHT, WIDTH, dtype=torch.float64)
    whole[:, order] = torch.stack(found)
    return whole[0], whole[1]


def on_screen(gaussians: Gaussians, weights: Tensor) -> tuple[tuple, rasterizer.TileLists]:
    """All gradients of sum(weights * color), those on the screen last; and the lists."""
    cameras = [tensor[None, None] for tensor in view()]
    fields = [getattr(gaussians, name) for name in GAUSSIANS]
    degree = degree_of(gaussians.harmonics.shape[-1])
    scene = scene_arrays([*fields, *cameras], HEIGHT, WIDTH, degree, False)
    lists = rasterizer.build_lists(scene)
    _, depth, transmittance, last = rasterizer.render(lists, BLACK, HEIGHT, WIDTH)
    nothing = np.zeros_like(depth)
    outputs = (weights.float().numpy()[None, None], nothing, nothing, transmittance, last)
    return rasterizer.render_backward(scene, lists, BLACK, outputs, on_screen=True), lists


@pytest.mark.parametrize("name", ["medium", "needles", "behind and across the camera", "none"])
def test_sums_and_sums_of_absolute_values(name: str):
    gaussians = awkward_scenes()[name]
    weights = torch.randn(3, HEIGHT, WIDTH, dtype=torch.float64)
    weights *= ~near_a_cut(gaussians, camera(), intrinsics(), (HEIGHT, WIDTH))
    x, y = by_pixel(gaussians, weights)
    expected = torch.stack([x, y, x.abs(), y.abs()], dim=-1).sum(dim=(1, 2))
    found = torch.from_numpy(on_screen(gaussians, weights)[0][-1][0, 0]).double()
    for part in range(4):
        difference = (expected[:, part] - found[:, part]).norm()
        assert difference <= 1e-4 * expected[:, part].norm(), part
    if name == "medium":  # the signed sums cancel, or this would tell nothing
        assert expected[:, :2].norm() < 0.7 * expected[:, 2:].norm()


def test_asking_for_them_changes_nothing_else():
    gaussians, weights = awkward_scenes()["medium"], torch.ones(3, HEIGHT, WIDTH)
    (*others, screen), lists = on_screen(gaussians, weights)
    fields = [getattr(gaussians, name).requires_grad_() for name in GAUSSIANS]
    cameras = [tensor[None, None].requires_grad_() for tensor in view()]
    color = torch.ops.mvsplat.splat(*fields, *cameras, [0.0] * 3, HEIGHT, WIDTH, 2, False)[0]
    color.sum().backward()
    plain = [tensor.grad for tensor in (*fields, *cameras[:2])]
    for expected, found in zip(plain, others, strict=True):
        assert np.array_equal(expected.numpy(), found)
    unseen = np.diff(lists.slots[0, 0]) == 0
    assert unseen.any() and not unseen.all()
    assert not screen[0, 0, unseen].any()


def test_same_bits_for_any_number_of_threads():
    gaussians, weights = awkward_scenes()["more than a tile's radix sort"], torch.ones(3, 45, 70)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(on_screen(gaussians, weights)[0])
    finally:
        torch.set_num_threads(before)
    for one, several in zip(*found):
        assert np.array_equal(one, several)
