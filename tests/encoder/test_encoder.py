"""The encoder as its users meet it: any views and sizes, ablations, precision, checkpointing."""

from dataclasses import replace

import pytest
import torch
from views import random_views, small_encoder

from mvsplat import CostVolumeEncoder
from mvsplat.configurable import from_config
from mvsplat.encoder.cpu import recomputation

ABLATIONS = {
    "base": dict(depth_refinement=False),
    "no cost volume": dict(depth_refinement=False, cost_volume=False),
    "no cross-view attention": dict(depth_refinement=False, cross_view_attention="none"),
    "no U-Net": dict(depth_refinement=False, cost_volume_unet=False),
    "epipolar": dict(depth_refinement=False, cross_view_attention="epipolar"),
    "three Gaussians": dict(gaussians_per_pixel=3),
    "colour only": dict(sh_degree=0),
}


def objective(gaussians) -> torch.Tensor:
    parts = (gaussians.means, gaussians.covariances, gaussians.harmonics, gaussians.opacities)
    return sum(part.square().mean() for part in parts) + gaussians.estimate.logits.square().mean()


@pytest.mark.parametrize("initialization", ["published", "matching"])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_parameter_of_every_ablation_learns(ablation, initialization):
    encoder = small_encoder(initialization=initialization, **ABLATIONS[ablation])
    # From zero-initialised layers no gradient flows further back: leave the start first.
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    objective(encoder(random_views())).backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize("scenes, count", [(1, 2), (2, 3), (1, 4)])
def test_any_number_of_views_at_run_time(scenes, count):
    encoder = small_encoder(gaussians_per_pixel=2)
    views = random_views(scenes, count)
    gaussians = encoder(views)
    assert gaussians.means.shape == (scenes, count * 32 * 48 * 2, 3)
    assert gaussians.harmonics.shape[-1] == 4
    estimate = gaussians.estimate
    assert estimate.depth.shape == (scenes, count, 32, 48)
    assert (estimate.disparities.diff(dim=-1) > 0).all()
    torch.testing.assert_close(1 / estimate.disparities[..., 0], views.far)
    torch.testing.assert_close(1 / estimate.disparities[..., -1], views.near)
    assert (estimate.depth >= 0.999).all() and (estimate.depth <= 20.001).all()
    # Opacities of a pixel's Gaussians sum to one at most.
    assert (gaussians.opacities.unflatten(1, (-1, 2)).sum(-1) <= 1).all()


def test_with_relative_disparity_scenes_have_no_unit():
    """The same scene in another unit, as structure from motion gives any: the same Gaussians."""
    encoder = small_encoder(relative_disparity=True, initialization="matching")
    torch.nn.init.normal_(encoder.refinement.head[2].weight, std=0.1)  # which is zero at first
    views, unit = random_views(), 37.0
    extrinsics = views.extrinsics.clone()
    extrinsics[..., :3, 3] *= unit
    larger = replace(views, extrinsics=extrinsics, near=unit * views.near, far=unit * views.far)
    with torch.no_grad():
        gaussians, in_unit = encoder(views), encoder(larger)
    torch.testing.assert_close(in_unit.means, unit * gaussians.means, rtol=1e-3, atol=1e-3 * unit)
    torch.testing.assert_close(in_unit.scales, unit * gaussians.scales, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(in_unit.opacities, gaussians.opacities, rtol=1e-3, atol=1e-5)
    depth = gaussians.estimate.depth
    assert depth.min() >= 0.999 and depth.max() <= 20.001 and depth.std() > 0.1
    encoder.relative_disparity = False
    with torch.no_grad():
        assert not torch.allclose(encoder(larger).means, unit * encoder(views).means, rtol=0.05)


def test_the_nearest_views_are_enough():
    """What a far camera sees is nothing to the others."""
    views = random_views(1, 5)
    views.extrinsics[0, :, 0, 3] = torch.tensor([0.0, 0.1, 0.2, 4.0, 4.5])
    other = replace(views, image=views.image.clone())
    other.image[0, 4] = 1 - other.image[0, 4]
    # Without U-Nets, whose attention joins all views.
    without = dict(cost_volume_unet=False, depth_refinement=False)
    for nearest, same in ((2, True), (4, False), (None, False)):
        encoder = small_encoder(nearest_views=nearest, **without).eval()
        with torch.no_grad():
            depth, changed = (encoder(x).estimate.depth[0] for x in (views, other))
        assert torch.equal(depth[:3], changed[:3]) == same
        assert not torch.allclose(depth[3], changed[3], rtol=1e-4)


def test_the_order_of_views_does_not_matter():
    encoder = small_encoder().eval()
    views = random_views(1, 3)
    order = [2, 0, 1]
    swapped = type(views)(
        *(
            getattr(views, name)[:, order]
            for name in ("image", "extrinsics", "intrinsics", "near", "far")
        )
    )
    means = encoder(views).means.unflatten(1, (3, -1))
    torch.testing.assert_close(
        encoder(swapped).means.unflatten(1, (3, -1)), means[:, order], rtol=1e-3, atol=1e-3
    )


def test_moving_all_cameras_moves_the_scene():
    encoder = small_encoder(sh_degree=0).eval()
    views = random_views()
    pose = torch.eye(4)
    pose[:3, :3] = torch.linalg.matrix_exp(
        torch.tensor([[0, -0.4, 0.2], [0.4, 0, -0.7], [-0.2, 0.7, 0]])
    )
    pose[:3, 3] = torch.tensor([1.0, -2.0, 0.5])
    with torch.no_grad():
        before = encoder(views)
        views.extrinsics = pose @ views.extrinsics
        after = encoder(views)
    expected = before.means @ pose[:3, :3].mT + pose[:3, 3]
    torch.testing.assert_close(after.means, expected, rtol=1e-3, atol=1e-3)
    turned = pose[:3, :3] @ before.covariances @ pose[:3, :3].mT
    torch.testing.assert_close(after.covariances, turned, rtol=1e-2, atol=1e-5)


def test_depth_is_measured_along_the_optical_axis():
    views = random_views()
    for ray_depth in (False, True):
        encoder = small_encoder(published_ray_depth=ray_depth).eval()
        gaussians = encoder(views)
        world_to_camera = views.extrinsics.inverse()[:, :, None]
        means = gaussians.means.unflatten(1, (2, -1))
        z = (world_to_camera[..., :3, :3] @ means[..., None] + world_to_camera[..., :3, 3:])[
            ..., 2, 0
        ]
        torch.testing.assert_close(z, gaussians.estimate.depth.flatten(2), rtol=1e-4, atol=1e-4)


def test_a_gaussian_projects_into_its_pixel():
    views = random_views()
    gaussians = small_encoder()(views)
    camera = views.extrinsics[0, 1].inverse()
    means = gaussians.means[0].unflatten(0, (2, 32, 48))[1]
    image = (means @ camera[:3, :3].mT + camera[:3, 3]) @ views.intrinsics[0, 1].mT
    x, y = (image[..., :2] / image[..., 2:]).unbind(-1)
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(48), indexing="ij")
    # The sub-pixel offset stays within the pixel.
    assert ((x * 48 - columns - 0.5).abs() < 0.501).all()
    assert ((y * 32 - rows - 0.5).abs() < 0.501).all()


@pytest.mark.parametrize("ablation", ["three Gaussians", "no cross-view attention", "epipolar"])
def test_checkpointing_changes_nothing(ablation):
    gradients = []
    for checkpointing in (False, True):
        encoder = small_encoder(checkpointing=checkpointing, **ABLATIONS[ablation])
        objective(encoder(random_views())).backward()
        gradients.append([p.grad for p in encoder.parameters()])
    torch.testing.assert_close(*gradients)


def test_recomputing_cheap_operations_changes_nothing(monkeypatch):
    gradients = []
    for limit in (1 << 40, 0):
        monkeypatch.setattr(recomputation, "WORTH_RECOMPUTING", limit)
        encoder = small_encoder()
        objective(encoder(random_views())).backward()
        gradients.append([p.grad for p in encoder.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("initialization", ["published", "matching"])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_bfloat16_trains_without_nan(ablation, initialization):
    encoder = small_encoder(initialization=initialization, **ABLATIONS[ablation])
    with torch.autocast("cpu", torch.bfloat16):
        gaussians = encoder(random_views())
        loss = objective(gaussians)
    loss.backward()
    for name in ("means", "scales", "rotations", "harmonics", "opacities"):
        value = getattr(gaussians, name)
        assert value.dtype == torch.float32 and value.isfinite().all(), name
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_bfloat16_stays_close_to_float32():
    encoder, views = small_encoder(initialization="matching").eval(), random_views()
    with torch.no_grad():
        exact = encoder(views)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = encoder(views)
    difference = (exact.estimate.depth / rounded.estimate.depth).log().abs()
    assert difference.mean() < 0.02
    assert (exact.harmonics - rounded.harmonics).abs().max() < 0.05


def test_the_ablation_zeroes_the_cost_volume_and_nothing_else():
    encoder, views = small_encoder(initialization="matching").eval(), random_views()
    with torch.no_grad():
        matched = encoder(views).estimate.logits
        for name, without in encoder.ablations().items():
            assert name == "zeroed_cost_volume"
            with without:
                guessed = encoder(views).estimate.logits
            with pytest.raises(ZeroDivisionError), encoder.ablations()[name]:
                raise ZeroDivisionError
        torch.testing.assert_close(encoder(views).estimate.logits, matched, rtol=0, atol=0)
    assert guessed.std() < 0.5 * matched.std()


def test_there_is_nothing_to_zero_without_a_cost_volume():
    assert not small_encoder(**ABLATIONS["no cost volume"]).ablations()


def test_configuration_round_trip():
    encoder = small_encoder(gaussians_per_pixel=2, scale_range=(0.1, 2.0))
    again = from_config(encoder.config)
    again.load_state_dict(encoder.state_dict())
    views = random_views()
    torch.testing.assert_close(again(views).means, encoder(views).means)


def test_divisor_follows_the_sizes():
    assert CostVolumeEncoder(transformer_blocks=1).divisor == 16
    assert small_encoder().divisor == 8
    assert small_encoder(attention_splits=3, depth_refinement=False).divisor == 24


def test_repeated_gaussians_need_refinement():
    with pytest.raises(ValueError, match="gaussians_per_pixel is 3 without depth refinement"):
        small_encoder(gaussians_per_pixel=3, depth_refinement=False)


def test_training_works_after_inference_mode():
    """What the encoder caches in inference mode must serve a backward pass as well."""
    encoder = small_encoder(published_harmonics_rotation=True)
    # A size that no other test uses: nothing is cached yet.
    views = random_views(height=48, width=80)
    with torch.inference_mode():
        encoder(views)
    objective(encoder(views)).backward()
