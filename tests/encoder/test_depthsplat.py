"""DepthSplat as its users meet it: any views, its scene's unit, what it loads, what it refuses."""

import math
from dataclasses import replace

import pytest
import torch
from golden.depthsplat_cases import state_dicts
from test_encoder import objective
from tiny_depthsplat import GAUSSIANS, KINDS, SIZES, published_state, small_depthsplat
from views import random_views

import mvsplat
from mvsplat import DepthSplatDepth, DepthSplatEncoder, published
from mvsplat.configurable import from_config
from mvsplat.encoder.cpu import correlation
from mvsplat.encoder.networks.vit import VisionTransformer
from mvsplat.encoder.published.depthsplat import correspondence


@pytest.mark.parametrize(
    ("kind", "dtype"), [*((kind, torch.float32) for kind in KINDS), ("base", torch.bfloat16)]
)
def test_every_parameter_learns(kind, dtype):
    encoder = small_depthsplat(kind).train()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        gaussians = encoder(random_views(count=3, height=32, width=64))
    assert (gaussians.coarse is not None) == kind.startswith("base")
    loss = objective(gaussians)
    if gaussians.coarse is not None:
        assert gaussians.coarse.means.shape == gaussians.means.shape
        assert torch.equal(gaussians.coarse.opacities, gaussians.opacities)
        loss = loss + objective(gaussians.coarse)
    loss.backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_the_first_scale_learns_from_the_coarse_set_alone():
    encoder = small_depthsplat().train()
    gaussians = encoder(random_views(height=32))
    objective(gaussians).backward()
    first = [p.grad for name, p in encoder.named_parameters() if "depth.scales.0.unet" in name]
    # objective reads the first scale's logits, too; means come from the second alone.
    encoder.zero_grad()
    encoder(random_views(height=32)).means.square().mean().backward()
    assert all(p.grad is None or not p.grad.any() for p in encoder.depth.scales[0].parameters())
    assert all(gradient.any() for gradient in first)


@pytest.mark.parametrize(("scenes", "count"), [(2, 2), (1, 5)])
def test_any_number_of_views(scenes, count):
    encoder = small_depthsplat()
    views = random_views(scenes, count, height=32, width=48)
    gaussians = encoder(views)
    assert gaussians.coarse is None
    assert gaussians.means.shape == (scenes, count * 32 * 48, 3)
    depth = gaussians.estimate.depth
    assert (depth >= 0.999).all() and (depth <= 20.001).all()
    # Each view's pixel is at its depth along the optical axis.
    camera = views.extrinsics.inverse()[:, :, None]
    means = gaussians.means.unflatten(1, (count, -1))
    z = (camera[..., :3, :3] @ means[..., None] + camera[..., :3, 3:])[..., 2, 0]
    torch.testing.assert_close(z, depth.flatten(2), rtol=1e-4, atol=1e-4)
    # A scene of a batch is what it is alone.
    alone = replace(views, **{n: getattr(views, n)[-1:] for n in NAMES})
    torch.testing.assert_close(encoder(alone).means, gaussians.means[-1:], rtol=1e-3, atol=1e-3)


NAMES = ("image", "extrinsics", "intrinsics", "near", "far")


@pytest.mark.parametrize("published_options", [False, True])
def test_the_scenes_unit_matters_only_to_published_weights(published_options):
    names = ("published_metric_depth", "published_world_scales")
    encoder = small_depthsplat(**dict.fromkeys(names, published_options))
    views = random_views(height=32)
    scaled = replace(views, near=3 * views.near, far=3 * views.far)
    scaled.extrinsics = views.extrinsics.clone()
    scaled.extrinsics[..., :3, 3] *= 3
    with torch.no_grad():
        one, other = encoder(views), encoder(scaled)
    same = [
        torch.allclose(factor * getattr(one, name), getattr(other, name), rtol=1e-3, atol=1e-4)
        for name, factor in (("means", 3), ("scales", 3), ("opacities", 1), ("harmonics", 1))
    ]
    assert all(same) if not published_options else not any(same[1:])


def test_the_nearest_views_are_enough():
    encoder = small_depthsplat("small")
    views = random_views(count=5, height=32)
    views.extrinsics[0, :, 0, 3] = torch.tensor([0.0, 0.1, 0.2, 4.0, 4.5])
    # The U-Net attends to all views: without it, a far one would change nothing.
    for stage in encoder.depth.scales[0].unet.modules():
        if hasattr(stage, "attention") and stage.attention is not None:
            torch.nn.init.zeros_(stage.attention.project.weight)
    other = replace(views, image=views.image.clone())
    other.image[0, 4] = 1 - other.image[0, 4]
    with torch.no_grad():
        one, changed = (encoder(x).estimate.depth[0] for x in (views, other))
    # Of the cameras at 0, 0.1 and 0.2 none has the last among its two nearest.
    torch.testing.assert_close(one[:3], changed[:3])
    assert not torch.allclose(one[3], changed[3], rtol=1e-4)


def test_checkpointing_changes_nothing():
    views, gradients = random_views(height=32), []
    for checkpointing in (False, True):
        encoder = small_depthsplat(checkpointing=checkpointing).train()
        objective(encoder(views)).backward()
        gradients.append([p.grad for p in encoder.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def largest_allocation(encoder: DepthSplatEncoder, views) -> int:
    """Bytes of the largest tensor that a training step makes, inside operations, too."""
    with torch.profiler.profile(profile_memory=True) as seen:
        objective(encoder(views)).backward()
    return max(event.self_cpu_memory_usage for event in seen.events())


@pytest.mark.parametrize("scale", [0, 1])
def test_no_tensor_is_as_large_as_the_warped_features(scale, monkeypatch):
    """Channels x candidates x pixels of all views, of which chunks are looked at."""
    candidates = (192, 8) if scale == 0 else (16, 192)
    encoder = small_depthsplat(
        depth_candidates=candidates[0], local_candidates=candidates[1], d_feature=64
    ).train()
    views = random_views(height=32, width=64)
    channels, stride = (64, 4) if scale == 0 else (32, 2)
    warped = 4 * 2 * channels * 192 * (32 // stride) * (64 // stride)
    monkeypatch.setattr(correlation, "SAMPLED_ELEMENTS", 1 << 16)
    assert largest_allocation(encoder, views) < warped / 4
    if scale == 1:  # the measure would see it
        monkeypatch.setattr(correlation, "SAMPLED_ELEMENTS", 1 << 40)
        assert largest_allocation(encoder, views) >= warped / 2


def test_in_bf16_it_says_about_the_same():
    encoder = small_depthsplat()
    views = random_views(height=32)
    with torch.no_grad():
        exact = encoder(views)
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder(views)
    assert rough.means.dtype == torch.float32
    error = (rough.estimate.depth / exact.estimate.depth).log().abs().mean()
    assert 0 < error < 0.05


def test_an_encoder_is_rebuilt_from_its_config():
    encoder = small_depthsplat(published_shifted_mask=True)
    arguments = encoder.config["init_args"]
    assert arguments["vit_width"] == 64 and arguments["nearest_views"] == 2
    again = from_config(encoder.config)
    assert again.config == encoder.config
    again.load_state_dict(encoder.state_dict())


def test_default_sizes_are_those_of_the_released_small_model():
    with torch.device("meta"):
        shapes = {name: list(entry.shape) for name, entry in correspondence(DepthSplatEncoder())}
    assert shapes == state_dicts()["small_re10k"]


@pytest.mark.parametrize("configuration", state_dicts())
def test_released_configurations_are_recognised(configuration):
    expected = state_dicts()[configuration]
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in expected.items()}
        arguments = published.infer_arguments(state)
        encoder = DepthSplatEncoder(**arguments)
        assert {n: list(e.shape) for n, e in correspondence(encoder)} == expected
    size, data = configuration.split("_")
    layers = (4, 11, 17, 23) if size == "large" else (2, 5, 8, 11)
    assert arguments["vit_layers"] == layers
    assert arguments["lowest_feature_stride"] == (4 if data == "re10k" else 8)
    assert encoder.depth.upsampling * 2 ** (size != "small") == (4 if data == "re10k" else 8)
    prefix = "depth_predictor."
    alone = {n.removeprefix(prefix): x for n, x in state.items() if n.startswith(prefix)}
    inferred = published.infer_arguments(alone)
    assert inferred == {n: x for n, x in arguments.items() if n not in GAUSSIANS}


@pytest.mark.parametrize("kind", ["base", "small low"])
def test_every_form_of_a_released_file_loads(kind, tmp_path):
    state = published_state(small_depthsplat(kind))
    prefixed = {f"encoder.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": prefixed}, tmp_path / "gs.pth")
    one = published.load_encoder(state)
    assert isinstance(one, DepthSplatEncoder) and not one.training
    arguments = one.config["init_args"]
    assert all(arguments[name] for name in DepthSplatEncoder.behaviours)
    assert arguments["scale_range"] == [1e-10, 3.0] and arguments["sh_degree"] == 1
    views = random_views(height=32, width=64)
    with torch.no_grad():
        expected = one(views).means
        for encoder in (
            published.load_encoder(prefixed),
            published.load_encoder({"model": state}),
            published.load_encoder(tmp_path / "gs.pth"),
            mvsplat.load_model(tmp_path / "gs.pth").encoder,
        ):
            torch.testing.assert_close(encoder(views).means, expected)
        depth = published.load_depth(tmp_path / "gs.pth")
        assert isinstance(depth, DepthSplatDepth)
        torch.testing.assert_close(depth(views).depth, one(views).estimate.depth)


def test_the_upper_bound_of_scales_can_be_another(tmp_path):
    state = published_state(small_depthsplat())
    state["gaussian_head.2.bias"][3:6] = 8
    views = random_views(height=32)
    with torch.no_grad():
        assert published.load_encoder(state)(views).scales.max() == 3
        encoder = published.load_encoder(state, scale_range=(1e-10, 0.1))
        assert encoder(views).scales.max() == pytest.approx(0.1)


def test_published_behaviours_can_be_switched_off():
    encoder = published.load_encoder(
        published_state(small_depthsplat()),
        scale_range=(0.5, 15.0),
        **dict.fromkeys(DepthSplatEncoder.behaviours, False),
    )
    assert not any(encoder.config["init_args"][name] for name in DepthSplatEncoder.behaviours)
    assert encoder(random_views(height=32)).means.isfinite().all()


def test_files_of_depth_alone(tmp_path):
    model = small_depthsplat().depth
    state = published_state(model)
    torch.save({"model": state}, tmp_path / "depth.pth")
    depth = published.load_depth(tmp_path / "depth.pth")
    assert depth.config["init_args"]["published_shifted_mask"]
    estimate = depth(random_views(height=32))
    assert estimate.depth.shape == (1, 2, 32, 48) and estimate.depth.isfinite().all()
    for load in (published.load_encoder, mvsplat.load_model):
        with pytest.raises(ValueError, match="depth.pth is a DepthSplat checkpoint of depth alone"):
            load(tmp_path / "depth.pth")
    with pytest.raises(ValueError, match="none of DepthSplat's tensors found in it"):
        published.load_depth({"depth_head.weight": torch.ones(1)})


def test_a_file_of_another_version_is_named_so():
    state = published_state(small_depthsplat())
    state["depth_predictor.old.weight"] = state.pop("depth_predictor.mv_pyramid.stages.1.0.weight")
    with pytest.raises(ValueError) as error:
        published.load_encoder(state)
    message = str(error.value)
    assert "1 missing: depth_predictor.mv_pyramid.stages.1.0.weight" in message
    assert "1 unexpected: depth_predictor.old.weight" in message
    assert "of before March 2025" in message


@pytest.mark.parametrize(
    ("kind", "size", "count", "expected"),
    [
        ("small", (40, 48), 2, "40 x 48 pixels: .*multiples of 16 .* 32 x 48"),
        ("base low", (48, 64), 2, "48 x 64 pixels: .*multiples of 32 .* 32 x 64"),
        ("small", (32, 48), 1, r"1 view\(s\) a scene: this encoder needs 2 or more"),
    ],
)
def test_views_that_do_not_fit_are_refused(kind, size, count, expected):
    views = random_views(1, 2, *size)
    few = replace(views, **{name: getattr(views, name)[:, :count] for name in NAMES})
    encoder = small_depthsplat(kind)
    for model in (encoder, encoder.depth):
        with pytest.raises(ValueError, match=expected):
            model(few)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"nearest_views": 0}, "nearest_views is 0: expected 1 or more, or null for all"),
        ({"scales": 3}, "scales is 3: expected 1 or 2"),
        ({"lowest_feature_stride": 2}, "lowest_feature_stride is 2: expected 4 or 8"),
        ({"cnn_widths": (8, 8)}, "cnn_widths has 2 numbers: expected 3"),
        ({"vit_layers": (0, 1)}, "vit_layers has 2 numbers: expected 4"),
        ({"vit_layers": (0, 2, 1, 3)}, "layers are .*: expected ascending"),
        ({"vit_width": 100}, "width 100: expected a multiple of 64"),
    ],
)
def test_sizes_that_cannot_be_are_refused(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        DepthSplatEncoder(**SIZES | arguments)


def test_without_matching_is_an_ablation():
    encoder = small_depthsplat()
    views = random_views(height=32)
    with torch.no_grad():
        before = encoder(views).estimate.depth
        with encoder.ablations()["zeroed_cost_volume"]:
            without = encoder(views).estimate.depth
        assert not torch.allclose(before, without, rtol=1e-3)
        assert torch.equal(encoder(views).estimate.depth, before)


def test_all_networks_are_compiled(monkeypatch):
    found = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, backend: found.append(module))
    encoder = small_depthsplat()
    encoder.compile(backend="eager")
    inside = {part for module in found for part in module.modules()}
    left = [n for n, x in encoder.named_modules() if x not in inside and list(x.parameters(False))]
    assert left == []


# The ViT, and weights of others


def vit_state(vit: VisionTransformer, prefix: str = "") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        prefix + name: torch.randn(x.shape, generator=generator)
        for name, x in vit.state_dict().items()
    }


@pytest.mark.parametrize("prefix", ["", "pretrained."])
def test_dinov2_and_depth_anything_weights_load(prefix, tmp_path):
    encoder = small_depthsplat()
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    state = vit_state(encoder.depth.vit, prefix)
    others = {f"{prefix}mask_token": torch.ones(1, 64)}
    if prefix:
        others["depth_head.scratch.output_conv1.weight"] = torch.ones(1)
    torch.save(state | others, tmp_path / "vits.pth")
    published.load_vit(encoder, tmp_path / "vits.pth")
    for name, parameter in encoder.named_parameters():
        theirs = name.replace("depth.vit.", prefix)
        assert torch.equal(parameter, state[theirs] if "depth.vit." in name else before[name])


def test_other_vits_are_refused(tmp_path):
    encoder = small_depthsplat()
    state = vit_state(encoder.depth.vit)
    torch.save(state | {"register_tokens": torch.ones(1, 4, 64)}, tmp_path / "registers.pth")
    with pytest.raises(ValueError, match="registers.pth .*1 unexpected: register_tokens"):
        published.load_vit(encoder, tmp_path / "registers.pth")
    torch.save({"model": state}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth: no cls_token; is it a file of DINOv2"):
        published.load_vit(encoder, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="a Linear has no ViT"):
        published.load_vit(torch.nn.Linear(1, 1), tmp_path / "other.pth")


def test_unimatch_weights_initialise_the_backbone(tmp_path):
    encoder = small_depthsplat("small")
    state = published_state(encoder)
    prefix = "depth_predictor."
    parts = (f"{prefix}backbone.", f"{prefix}transformer.")
    model = {n.removeprefix(prefix): x for n, x in state.items() if n.startswith(parts)}
    torch.save({"model": model | {"upsampler.0.weight": torch.ones(2)}}, tmp_path / "flow.pth")
    assert set(published.load_backbone(encoder, tmp_path / "flow.pth")) == set(model)
    expected = dict(published.load_encoder(state).named_parameters())
    for name, parameter in encoder.named_parameters():
        backbone = name.startswith(("depth.cnn.", "depth.transformer."))
        assert torch.equal(parameter, expected[name]) == backbone, name


def test_position_embeddings_are_resized_to_the_grid():
    """Its cells keep their centres; and with the published factors, they do not."""
    exact, published_one = VisionTransformer(64, (0,)), VisionTransformer(64, (0,), True)
    ramp = (torch.arange(37.0) + 0.5) / 37
    for vit in (exact, published_one):
        with torch.no_grad():
            vit.pos_embed[0, 1:, 0] = ramp.repeat_interleave(37)
            vit.pos_embed[0, 1:, 1] = ramp.repeat(37)
    rows, columns = 18, 25
    found = exact.positions(rows, columns)
    assert torch.equal(found[:, 0], exact.pos_embed[:, 0])
    grid = found[0, 1:].unflatten(0, (rows, columns))
    y, x = (torch.arange(n) + 0.5 for n in (rows, columns))
    inner = slice(2, -2)  # beyond, interpolation meets the border
    # torch's bicubic kernel bends a straight line by this much.
    bend = dict(rtol=0, atol=1.5e-3)
    torch.testing.assert_close(grid[inner, 0, 0], (y / rows)[inner], **bend)
    torch.testing.assert_close(grid[0, inner, 1], (x / columns)[inner], **bend)
    shifted = published_one.positions(rows, columns)[0, 1:].unflatten(0, (rows, columns))
    expected = y / (rows + 0.1)
    torch.testing.assert_close(shifted[inner, 0, 0], expected[inner], **bend)
    assert (shifted[inner, 0, 0] - (y / rows)[inner]).abs().max() > 3e-3
    assert exact.positions(37, 37) is exact.pos_embed


def test_attention_has_heads_of_64_channels():
    torch.manual_seed(0)
    vit = VisionTransformer(128, (0,))
    block = vit.blocks[0].attn
    tokens = torch.randn(2, 5, 128)
    query, key, value = (x.unflatten(-1, (2, 64)) for x in block.qkv(tokens).chunk(3, dim=-1))
    weights = torch.einsum("nqmc,nkmc->nmqk", query, key) / math.sqrt(64)
    attended = torch.einsum("nmqk,nkmc->nqmc", weights.softmax(-1), value).flatten(2)
    torch.testing.assert_close(block(tokens), block.proj(attended), rtol=1e-4, atol=1e-5)
