"""Loading published checkpoints: what is inferred, what is refused and how, UniMatch weights."""

import pytest
import torch
from golden.cases import Golden, published_state

from mvsplat import CostVolumeEncoder, published

CASE = "tiny_2views"


@pytest.fixture(scope="module")
def state():
    return published_state(CASE)


def same(first: CostVolumeEncoder, second: CostVolumeEncoder) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_form_of_a_checkpoint_loads(state, tmp_path):
    prefixed = {f"encoder.{name}": tensor for name, tensor in state.items()}
    # A released file also holds other parts' weights and the trainer's state.
    lightning = {
        "state_dict": {**prefixed, "losses.1.lpips.lin0.weight": torch.ones(1)},
        "epoch": 3,
        "optimizer_states": [{"lr": 1e-4}],
    }
    torch.save(lightning, tmp_path / "re10k.ckpt")
    expected = published.load_encoder(state)
    assert not expected.training
    for form in (prefixed, lightning, tmp_path / "re10k.ckpt", str(tmp_path / "re10k.ckpt")):
        assert same(published.load_encoder(form), expected)


@pytest.mark.parametrize(
    "case, expected",
    [
        ("full_2views", dict(d_feature=128, depth_candidates=128, refinement_widths=(32,) * 5)),
        ("tiny_gpp3", dict(gaussians_per_pixel=3, cost_volume_attention=(4,))),
        ("tiny_wo_depth_refine", dict(depth_refinement=False, cost_volume=True)),
        ("tiny_wo_cost_volume", dict(depth_refinement=False, cost_volume=False)),
        ("tiny_wo_cost_volume_refine", dict(cost_volume_unet=False, cost_volume=True)),
        ("tiny_wo_backbone_cross_attn", dict(cross_view_attention="none")),
        ("tiny_epipolar", dict(cross_view_attention="epipolar")),
    ],
)
def test_sizes_and_ablations_are_inferred(case, expected):
    inferred = published.infer_arguments(published_state(case))
    assert {name: inferred[name] for name in expected} == expected
    assert inferred["gaussian_head_width"] == 168 and inferred["sh_degree"] == 3


def test_default_arguments_are_the_published_sizes():
    encoder = published.load_encoder(published_state("full_2views"))
    ours = {name: p.shape for name, p in CostVolumeEncoder().named_parameters()}
    assert ours == {name: p.shape for name, p in encoder.named_parameters()}


def test_published_behaviours_are_on_and_can_be_switched_off(state):
    arguments = published.load_encoder(state).config["init_args"]
    switches = [name for name in CostVolumeEncoder.behaviours if name.startswith("published_")]
    assert all(arguments[name] for name in switches) and len(switches) == 3
    assert not arguments["relative_disparity"]  # published weights know one unit only
    views = Golden(CASE).views
    with torch.no_grad():
        gaussians = published.load_encoder(state)(views)
        right = published.load_encoder(state, **dict.fromkeys(switches, False))(views)
    # The constant colour and the opacity have no direction: only the rest changes.
    torch.testing.assert_close(right.harmonics[..., 0], gaussians.harmonics[..., 0])
    assert not torch.allclose(right.harmonics[..., 1:], gaussians.harmonics[..., 1:], atol=1e-3)
    torch.testing.assert_close(right.opacities, gaussians.opacities)
    assert not torch.allclose(right.means, gaussians.means, rtol=1e-3)


def test_a_model_for_two_views_takes_four(state):
    views = Golden("tiny_3views").views
    four = type(views)(
        *(
            torch.cat([x, x[:, :1]], dim=1)
            for x in (views.image, views.extrinsics, views.intrinsics, views.near, views.far)
        )
    )
    with torch.no_grad():
        gaussians = published.load_encoder(state)(four)
    assert gaussians.means.shape == (1, 4 * 64 * 64, 3) and gaussians.means.isfinite().all()


def test_all_mismatches_are_named_in_one_error(state):
    broken = dict(state)
    del broken["depth_predictor.upsampler.0.bias"]
    broken["depth_predictor.extra"] = torch.zeros(1)
    broken["backbone.backbone.conv2.bias"] = torch.zeros(7)
    with pytest.raises(ValueError) as error:
        published.load_encoder(broken)
    message = str(error.value)
    assert "1 missing: depth_predictor.upsampler.0.bias" in message
    assert "1 unexpected: depth_predictor.extra" in message
    assert "1 misshapen: backbone.backbone.conv2.bias (7,), expected (32,)" in message


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, [1, 2], {"epoch": 3}])
def test_files_without_a_state_dict_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "empty.ckpt")
    with pytest.raises(ValueError, match="empty.ckpt: found no state dict"):
        published.load_encoder(tmp_path / "empty.ckpt")


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing.ckpt: no such file"):
        published.load_encoder(tmp_path / "nothing.ckpt")
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    with pytest.raises(ValueError, match="text.ckpt: not a file of tensors"):
        published.load_encoder(tmp_path / "text.ckpt")


def unimatch_file(path, state, **extra):
    model = {
        name.removeprefix("backbone."): tensor
        for name, tensor in state.items()
        if name.startswith("backbone.")
    }
    torch.save({"model": {**model, **extra}, "step": 1}, path)
    return path


def test_unimatch_weights_initialise_the_backbone(state, tmp_path):
    path = unimatch_file(tmp_path / "gmdepth.pth", state, **{"refine.weight": torch.ones(2)})
    encoder = CostVolumeEncoder(**published.infer_arguments(state))
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    loaded = published.load_backbone(encoder, path)
    assert len(loaded) == sum(name.startswith("backbone.") for name in state)
    expected = dict(published.load_encoder(state).named_parameters())
    for name, parameter in encoder.named_parameters():
        backbone = name.startswith(("cnn.", "transformer."))
        assert torch.equal(parameter, expected[name] if backbone else before[name]), name


def test_unimatch_files_that_do_not_fit_are_refused(state, tmp_path):
    encoder = CostVolumeEncoder(**published.infer_arguments(state))
    torch.save({"weights": {}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth: no entry 'model'"):
        published.load_backbone(encoder, tmp_path / "other.pth")
    torch.save({"model": {"head.weight": torch.ones(1)}}, tmp_path / "head.pth")
    with pytest.raises(
        ValueError, match="head.pth: none of its 1 tensors is one of the backbone's"
    ):
        published.load_backbone(encoder, tmp_path / "head.pth")
    path = unimatch_file(tmp_path / "wide.pth", published_state("full_2views"))
    with pytest.raises(ValueError, match="misshapen: conv2.weight|misshapen: .*conv2"):
        published.load_backbone(encoder, path)
