"""Parts of a model that learn at rates of their own, and a model with several scales of depth."""

import pytest
import torch
import yaml
from torch import nn

import mvsplat
from mvsplat import MVSplat, load_model
from mvsplat.schedules import LinearWarmup
from mvsplat.training.parameter_groups import parameter_groups

# DepthSplat at its smallest.
ENCODER = dict(
    vit_width=64,
    vit_layers=[0, 1, 2, 3],
    scales=2,
    d_feature=16,
    cnn_widths=[8, 8, 16],
    transformer_blocks=1,
    transformer_expansion=1,
    depth_candidates=8,
    local_candidates=4,
    cost_volume_width=16,
    dpt_widths=[8, 8, 8, 8],
    offset_width=8,
    feature_width=8,
    regressor_width=8,
    sh_degree=0,
)


def test_the_longest_name_that_fits_counts():
    model = nn.ModuleDict({"one": nn.Linear(1, 1), "one_more": nn.Linear(1, 1)})
    model["one"].bias.requires_grad_(False)
    groups = parameter_groups(model.named_parameters(), {"one": 0.5, "one.bias": 0.1})
    found = {group["factor"]: [id(p) for p in group["params"]] for group in groups}
    assert found == {
        1.0: [id(p) for p in model["one_more"].parameters()],
        0.5: [id(model["one"].weight)],
        0.1: [],
    }


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ({"vit": 0.1}, "names 'vit', but no parameter's name begins so; they are encoder.depth"),
        ({"encoder.depth": -1.0}, "encoder.depth has -1.0, expected 0 or more"),
    ],
)
def test_factors_of_nothing_are_refused(factors, expected):
    encoder = mvsplat.DepthSplatEncoder(**ENCODER)
    model = MVSplat(encoder, losses={"lpips": None}, learning_rate_factors=factors)
    with pytest.raises(ValueError, match=expected):
        model.configure_optimizers()


def test_a_schedule_keeps_the_factors():
    model = MVSplat(
        mvsplat.DepthSplatEncoder(**ENCODER),
        losses={"lpips": None},
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
        schedule=LinearWarmup(4),
        learning_rate_factors={"encoder.depth.vit": 0.01},
    )
    configured = model.configure_optimizers()
    rates = [group["lr"] for group in configured["optimizer"].param_groups]
    assert rates == pytest.approx([1e-3 / 4, 1e-5 / 4])
    vit = configured["optimizer"].param_groups[1]["params"]
    assert {id(p) for p in vit} == {id(p) for p in model.encoder.depth.vit.parameters()}


def test_weights_for_a_vit_that_is_not_there_are_refused_at_once(program, tmp_path):
    torch.save({}, tmp_path / "vits.pth")
    assert program("fit", "--model.vit_weights", tmp_path / "vits.pth") != 0
    assert "a CostVolumeEncoder has no ViT to initialise from" in program.err


def test_depthsplat_trains_and_goes_on(program, tmp_path):
    """On two scales, each of which learns; its checkpoint says what it is; then a step more."""
    overlay = tmp_path / "depthsplat.yaml"
    content = {
        "model": {
            "encoder": {"class_path": "DepthSplatEncoder", "init_args": ENCODER},
            "optimizer": {"class_path": "AdamW", "init_args": {"lr": 1e-3, "weight_decay": 0.0}},
            "learning_rate_factors": {"encoder.depth.vit": 0.01},
        }
    }
    overlay.write_text(yaml.safe_dump(content))
    given = ["--config", overlay, "--trainer.limit_val_batches=0", "--model.schedule=null"]
    vit = {
        name: torch.full_like(value, 0.01)
        for name, value in mvsplat.DepthSplatEncoder(**ENCODER).depth.vit.state_dict().items()
    }
    torch.save(vit, tmp_path / "vits.pth")
    start = ["--trainer.max_steps=1", "--model.vit_weights", tmp_path / "vits.pth"]
    assert program("fit", *given, *start) == 0, program.err
    first = load_model(program.checkpoint()).encoder
    for name, parameter in first.depth.vit.named_parameters():
        assert (parameter - vit[name]).abs().max() < 3e-5
    assert first.config["init_args"]["vit_layers"] == [0, 1, 2, 3]
    more = ["--ckpt_path=last", "--trainer.max_steps=2"]
    assert program("fit", *given, *more) == 0, program.err
    second = load_model(program.checkpoint()).encoder
    moved = {
        name: (p - q).abs().max().item()
        for (name, p), q in zip(first.named_parameters(), second.parameters(), strict=True)
    }
    # Adam's steps are about the learning rate, whatever the gradient.
    in_vit = [step for name, step in moved.items() if "depth.vit." in name]
    assert 0 < max(in_vit) < 3e-5
    for scale in (0, 1):
        assert moved[f"depth.scales.{scale}.head.2.weight"] > 3e-4
