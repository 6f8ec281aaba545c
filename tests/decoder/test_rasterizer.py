"""The CPU rasterizer against the dense float64 reference: pictures and every gradient."""

import pytest
import torch
from splatting_scenes import (
    awkward_scenes,
    camera,
    intrinsics,
    near_a_cut,
    random_gaussians,
    render_reference,
)
from torch import Tensor

from mvsplat import Gaussians, SplattingDecoder
from mvsplat.geometry.spherical_harmonics import degree_of

BACKGROUND = (0.2, 0.5, 0.9)
NAMES = ("means", "scales", "rotations", "harmonics", "opacities", "extrinsics")
SHAPE = (37, 50)


def leaves(gaussians: Gaussians, extrinsics: Tensor) -> list[Tensor]:
    tensors = [getattr(gaussians, name) for name in NAMES[:5]] + [extrinsics]
    for tensor in tensors:
        tensor.requires_grad_()
        tensor.grad = None
    return tensors


def render(
    gaussians: Gaussians, extrinsics: Tensor, k: Tensor, shape: tuple, near: float = 1.0, **settings
):
    settings = {"background": BACKGROUND, "sh_degree": 4, "depth": "accumulated"} | settings
    bound = torch.full(extrinsics.shape[:2], near)
    decoder = SplattingDecoder(**settings)
    out = decoder(gaussians, extrinsics, k, bound, 100 * bound, shape)
    return out.color, out.depth, 1 - out.alpha


def compare(
    gaussians: Gaussians,
    extrinsics: Tensor,
    k: Tensor,
    shape: tuple[int, int] = SHAPE,
    antialiased: bool = False,
    near: float = 1.0,
    forward: float = 1e-5,
    backward: float = 1e-4,
) -> None:
    """Both renderers' pictures and gradients of a random scalar, away from the cuts."""
    close = near_a_cut(gaussians, extrinsics, k, shape, antialiased, near)
    assert close.float().mean() < 0.05
    generator = torch.Generator().manual_seed(1)
    outputs, grads = [], []
    for renderer in ("reference", "cpu"):
        tensors = leaves(gaussians, extrinsics)
        if renderer == "cpu":
            parts = render(gaussians, extrinsics, k, shape, near, antialiased=antialiased)
        else:
            degree = degree_of(gaussians.harmonics.shape[-1])
            parts = render_reference(
                gaussians, extrinsics, k, shape, degree, antialiased, BACKGROUND, near
            )
        generator.manual_seed(1)
        weights = [torch.randn(part.shape, generator=generator) * ~close for part in parts]
        sum((part * weight).sum() for part, weight in zip(parts, weights)).backward()
        outputs.append([part.detach() for part in parts])
        grads.append([tensor.grad.clone() for tensor in tensors])
    for expected, found in zip(*outputs):
        scale = max(1.0, float(expected.abs().max()))  # depth is in units of the scene
        error = (expected - found).abs()
        assert (error * ~close).max() <= forward * scale
        assert error.max() <= 2 / 255 * scale  # at a cut, one contribution more or less
    for name, expected, found in zip(NAMES, *grads):
        assert torch.isfinite(found).all(), name
        assert (expected - found).norm() <= backward * expected.norm() + 1e-6, name


@pytest.mark.parametrize("antialiased", [False, True], ids=["classic", "antialiased"])
@pytest.mark.parametrize("name", awkward_scenes())
def test_agrees_with_the_reference(name: str, antialiased: bool):
    pose = torch.eye(4)[None, None] if name == "ties in depth" else camera()
    compare(awkward_scenes()[name], pose, intrinsics(), antialiased=antialiased)


@pytest.mark.parametrize("degree", range(5))
def test_every_degree(degree: int):
    compare(random_gaussians(60, degree, degree=degree), camera(), intrinsics())


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (17, 33), (64, 20), (5, 200)])
def test_any_image_size(shape: tuple[int, int]):
    compare(random_gaussians(60, 3, scale=0.2), camera(), intrinsics(), shape)


@pytest.mark.parametrize("name", ["needles", "huge", "far outside, reaching in"])
def test_footprints_over_many_tiles(name: str):
    gaussians = awkward_scenes()[name]
    compare(gaussians, camera(), intrinsics(), (130, 210))


@pytest.mark.parametrize(
    "k", [(0.5, 0.5, 0.5, 0.5), (0.4, 1.1, -0.1, 0.9), (1.5, 0.3, 0.5, 1.3), (5.0, 5.0, 0.2, 0.2)]
)
def test_full_intrinsics(k: tuple[float, float, float, float]):
    compare(random_gaussians(150, 4, scale=0.15), camera(), intrinsics(*k))


@pytest.mark.parametrize("near", [0.05, 3.0])
def test_near_moves_the_near_plane_only(near: float):
    compare(random_gaussians(100, 6, depth=(0.3, 1.5)), camera(), intrinsics(), near=near)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_against_finite_differences(seed: int):
    """Directional derivatives of the float64 reference by central differences."""
    gaussians, extrinsics, k = random_gaussians(60, seed, scale=0.15), camera(), intrinsics()
    keep = (~near_a_cut(gaussians, extrinsics, k, SHAPE)).double()
    target = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(seed))

    def objective(parts: tuple) -> Tensor:
        return ((parts[0] - target).square() * keep).sum() + (parts[2] * keep).sum()

    tensors = leaves(gaussians, extrinsics)
    objective(render(gaussians, extrinsics, k, SHAPE, background=(0.0, 0.0, 0.0))).backward()
    for name, tensor in zip(NAMES, tensors):
        gradient, start = tensor.grad.double(), tensor.detach().double()
        direction = gradient / gradient.norm()
        values = []
        for step in (1e-6, -1e-6):
            moved = Gaussians(**{n: t.detach().double() for n, t in zip(NAMES[:5], tensors)})
            pose = extrinsics.detach().double()
            if name == "extrinsics":
                pose = start + step * direction
            else:
                setattr(moved, name, start + step * direction)
            values.append(objective(render_reference(moved, pose, k, SHAPE, 2)))
        slope = (values[0] - values[1]) / 2e-6
        assert abs(slope - gradient.norm()) <= 1e-4 * gradient.norm(), name


def test_batches_and_views_are_independent():
    first, second = random_gaussians(80, 1), random_gaussians(80, 2)
    both = Gaussians(*(torch.cat([getattr(g, n) for g in (first, second)]) for n in NAMES[:5]))
    poses = torch.stack([camera(0.1)[0, 0], camera(-0.2)[0, 0], camera(0.3)[0, 0]])
    lenses = torch.stack([intrinsics()[0, 0], intrinsics(0.7)[0, 0], intrinsics(cx=0.3)[0, 0]])
    parts = render(both, poses.expand(2, 3, 4, 4), lenses.expand(2, 3, 3, 3), SHAPE)
    for scene, gaussians in enumerate((first, second)):
        for view in range(3):
            alone = render(gaussians, poses[None, [view]], lenses[None, [view]], SHAPE)
            for together, single in zip(parts, alone):
                assert torch.equal(together[scene, view], single[0, 0])


def test_gradients_sum_over_views():
    gaussians, poses = random_gaussians(80, 1), torch.cat([camera(0.1), camera(-0.2)], dim=1)
    k = intrinsics().expand(1, 2, 3, 3)
    compare_sum = []
    for views in ([0, 1], [0], [1]):
        tensors = leaves(gaussians, poses)
        render(gaussians, poses[:, views], k[:, views], SHAPE)[0].square().sum().backward()
        compare_sum.append([tensor.grad.clone() for tensor in tensors])
    for together, first, second in zip(*compare_sum):
        torch.testing.assert_close(together, first + second, rtol=1e-4, atol=1e-5)


def test_projection_agrees_with_gsplat():
    """Records against gsplat's own PyTorch projection: positions, conics, depths."""
    gsplat = pytest.importorskip("gsplat.cuda._torch_impl")
    from mvsplat.decoder.cpu import footprint as fp
    from mvsplat.decoder.cpu.operator import splat

    gaussians, view = random_gaussians(500, 3, scale=0.1), torch.linalg.inv(camera())
    height, width = 40, 60
    lens = torch.tensor([[[30.0, 28.0, 31.0, 18.0]]])
    k = torch.tensor([[30.0, 0, 31], [0, 28, 18], [0, 0, 1]]).expand(1, 1, 3, 3)
    radii, xy, depth, conic, _ = gsplat._fully_fused_projection(
        gaussians.means, gaussians.covariances, view, k, width, height, near_plane=0.2
    )
    fields = [getattr(gaussians, name) for name in NAMES[:5]]
    seen = (view[..., :3, :], camera()[..., :3, 3], lens, [0.0, 0.0, 0.0])
    records = splat(*fields, *seen, height, width, 2, False)[4][0, 0]
    drawn = records[:, fp.Y_LAST] > records[:, fp.Y_FIRST]
    assert drawn.sum() > 100
    assert not (drawn & (radii[0, 0] <= 0).all(-1)).any()
    records, xy, depth, conic = (
        records[drawn],
        xy[0, 0, drawn],
        depth[0, 0, drawn],
        conic[0, 0, drawn],
    )
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(records[:, [fp.X, fp.Y]], xy, **close)
    torch.testing.assert_close(records[:, fp.DEPTH], depth, **close)
    across = 2 * records[:, fp.SPREAD_X]
    cross = -across * records[:, fp.SLOPE]
    down = 2 * records[:, fp.SPREAD_Y] - cross * records[:, fp.SLOPE]
    torch.testing.assert_close(torch.stack([across, cross, down], -1), conic, **close)
