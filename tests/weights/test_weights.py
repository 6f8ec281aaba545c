"""Weights to start from: any file, a new training, sizes that follow them; wrong ones, at once."""

from pathlib import Path

import pytest
import torch
import yaml
from golden.cases import published_state

import mvsplat
from mvsplat import published
from mvsplat.training.run_folder import after_setting_aside
from mvsplat.weights import read_weights

SIZES = dict(
    d_feature=16,
    cnn_widths=(8, 8, 16),
    transformer_blocks=1,
    depth_candidates=8,
    cost_volume_widths=(16, 16),
    cost_volume_attention=(2,),
    refinement_widths=(8, 8),
    refinement_attention=(2,),
    gaussian_head_width=24,
    sh_degree=1,
)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(3)
    return mvsplat.CostVolumeEncoder(**SIZES, published_ray_depth=True, checkpointing=True)


def content_of(encoder):
    """What a checkpoint of ``fit`` has of an encoder."""
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    described = {"encoder": encoder.config, "decoder": mvsplat.SplattingDecoder().config}
    return {"mvsplat": described, "state_dict": weights, "loops": {}}


@pytest.fixture
def file(encoder, tmp_path):
    """A checkpoint of an encoder other than the configured ones."""
    path = tmp_path / "mine.ckpt"
    torch.save(content_of(encoder), path)
    return path


def depthsplat(names, prefix):
    """Some tensors by the names of a released DepthSplat checkpoint, or of one of depth alone."""
    found = {prefix + name: torch.ones(1) for name in names}
    head = prefix.replace("depth_predictor.", "gaussian_head.0.weight")
    return found | ({head: torch.ones(1)} if head else {})


DEPTH = ("pretrained.cls_token", "backbone.conv1.weight", "upsampler.concat_projects.0.weight")


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# Which files


@pytest.mark.parametrize("form", ["checkpoint", "undescribed", "prefixed", "bare"])
def test_own_weights_in_any_form(encoder, tmp_path, form):
    content = content_of(encoder)
    content = {
        "checkpoint": content,
        "undescribed": {"state_dict": content["state_dict"], "loops": {}},
        "prefixed": content["state_dict"],
        "bare": encoder.state_dict(),
    }[form]
    torch.save(content, tmp_path / "w.pt")
    torch.manual_seed(0)
    mine = mvsplat.CostVolumeEncoder(**SIZES, published_ray_depth=True)
    model = mvsplat.MVSplat(mine, weights=str(tmp_path / "w.pt"))
    assert model.training and model.encoder is mine and not mine.checkpointing
    assert_equal(mine.state_dict(), encoder.state_dict())
    if form == "checkpoint":
        alone = mvsplat.MVSplat(weights=str(tmp_path / "w.pt")).encoder
        assert alone.config == encoder.config and alone.training
        assert_equal(alone.state_dict(), encoder.state_dict())
    else:
        with pytest.raises(
            ValueError, match="w.pt .a state dict of .* does not describe its model"
        ):
            mvsplat.load_model(tmp_path / "w.pt")


@pytest.mark.parametrize("form", ["released", "prefixed", "bare"])
def test_released_weights_in_any_form(tmp_path, form):
    state = published_state("tiny_2views")
    prefixed = {f"encoder.{name}": tensor for name, tensor in state.items()}
    content = {
        "released": {"state_dict": prefixed, "epoch": 3},
        "prefixed": prefixed,
        "bare": state,
    }
    torch.save(content[form], tmp_path / "re10k.ckpt")
    right = published.load_encoder(state)
    found = mvsplat.load_model(tmp_path / "re10k.ckpt").encoder
    assert_equal(found.state_dict(), right.state_dict())
    for name in right.behaviours:
        assert found.config["init_args"][name] is name.startswith("published_"), name


def test_an_old_record_means_its_class_s_defaults(encoder, tmp_path):
    content = content_of(encoder)
    arguments = content["mvsplat"]["encoder"]["init_args"]
    for name in ("attention_splits", "scale_range", "published_harmonics_rotation"):
        del arguments[name]
    torch.save(content, tmp_path / "old.ckpt")
    mine = mvsplat.CostVolumeEncoder(**SIZES, published_ray_depth=True)
    assert_equal(mvsplat.MVSplat(mine, weights=str(tmp_path / "old.ckpt")).encoder.state_dict(),
                 encoder.state_dict())  # fmt: skip
    mine = mvsplat.CostVolumeEncoder(**SIZES, published_ray_depth=True, scale_range=(1.0, 2.0))
    with pytest.raises(ValueError, match=r"encoder.scale_range is \[1.0, 2.0\] \(there \[0.5, 15"):
        mvsplat.MVSplat(mine, weights=str(tmp_path / "old.ckpt"))
    # As a checkpoint to go on from, too.
    right = mvsplat.MVSplat(mvsplat.CostVolumeEncoder(**SIZES, published_ray_depth=True))
    content["state_dict"] |= {n: x for n, x in right.state_dict().items() if n[:8] != "encoder."}
    right.check_checkpoint(content)
    wrong = mvsplat.MVSplat(
        mvsplat.CostVolumeEncoder(
            **SIZES, published_ray_depth=True, published_harmonics_rotation=True
        )
    )
    with pytest.raises(ValueError, match="add --model.encoder.published_harmonics_rotation false"):
        wrong.check_checkpoint(content)
    wrong = mvsplat.MVSplat(mvsplat.CostVolumeEncoder(**SIZES | {"d_feature": 32}))
    with pytest.raises(ValueError, match=r"It has d_feature = 16 \(here 32\)") as error:
        wrong.check_checkpoint(content)
    assert "scale_range" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no checkpoint at .*odd.pt"),
        (b"text", "odd.pt is damaged or not a checkpoint"),
        ([1], "a list found in it"),
        ({"epoch": 3}, "found no state dict"),
        ({"model": {"backbone.conv1.weight": torch.ones(1)}}, "--model.backbone_weights"),
        ({"conv.weight": torch.ones(1)}, "missing: .*\n.*unexpected: conv.weight"),
        (b"", "odd.pt is empty"),
        (b"PK\x03\x04" + bytes(96), "odd.pt is damaged: it is cut short, after 100 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer in place of"),
        (b"<!DOCTYPE html><html><body>Sign in", "odd.pt is a web page"),
        (b"ply\nformat binary_little_endian 1.0", "mvsplat view shows it"),
        ({"state_dict": Path("anywhere")}, "it wants pathlib.* nothing in a file of weights is"),
        (depthsplat(DEPTH, "depth_predictor."), "belong to a DepthSplatEncoder"),
        (
            {"state_dict": depthsplat(DEPTH, "encoder.depth_predictor.")},
            "belong to a DepthSplatEncoder",
        ),
        ({"model": depthsplat(DEPTH, "")}, "belong to a DepthSplatEncoder"),
    ],
)
def test_other_files_are_refused(tmp_path, content, expected):
    path = tmp_path / "odd.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    encoder = mvsplat.CostVolumeEncoder(**SIZES)
    with pytest.raises((ValueError, OSError), match=expected):
        read_weights(path).load_into(encoder)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), r"not a checkpoint: it begins with b'.x89PNG"),
        (
            {"state_dict": {"encoder.dino.cls_token": torch.ones(1)}},
            r"odd.pt \(a state dict of 1 tensors, dino.cls_token first\) does not describe its",
        ),
        (
            {
                "encoder.backbone.backbone.conv1.weight": torch.ones(1),
                "encoder.more": torch.ones(1),
            },
            "which has the names of MVSplat's tensors, does not fit .* missing(.*\n)*.*: more",
        ),
    ],
)
def test_other_models_are_called_what_they_are(tmp_path, content, expected):
    path = tmp_path / "odd.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=expected):
        mvsplat.load_model(path)


def test_safetensors_that_are_damaged(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "odd.safetensors"
    path.write_bytes((2000).to_bytes(8, "little") + b'{"a":' + bytes(20))
    with pytest.raises(ValueError, match="odd.safetensors is damaged: .*header"):
        read_weights(path)


# On the command line


def config_of(program):
    return yaml.safe_load((program.run_dir / "config.yaml").read_text())["model"]


def test_a_new_training_starts_from_weights(program, file, encoder):
    """With a fresh optimizer and their sizes; then resumed without them."""
    given = ["--model.encoder=null", "--model.encoder.checkpointing=false", "--model.weights", file]
    assert program("fit", *given, "--trainer.max_steps=1") == 0, program.err
    written = torch.load(program.checkpoint(), weights_only=True)
    assert written["global_step"] == 1
    assert written["optimizer_states"][0]["state"][0]["step"] == 1
    record = written["mvsplat"]["encoder"]["init_args"]
    assert record == encoder.config["init_args"] | {"checkpointing": False}
    for name, value in encoder.state_dict().items():
        # One step of Adam moves every number by at most its learning rate, 2e-4.
        torch.testing.assert_close(
            written["state_dict"][f"encoder.{name}"], value, rtol=0, atol=3e-4
        )
    assert config_of(program)["encoder"]["init_args"]["d_feature"] == 16
    assert config_of(program)["weights"] == str(file)

    file.unlink()
    more = ["--ckpt_path=last", "--trainer.max_steps"]
    assert program("fit", *given, *more, "2") == 0, program.err
    saved = ["--config", program.run_dir / "config.yaml"]
    assert program("fit", *saved, *more, "3", config=False) == 0, program.err
    assert torch.load(program.checkpoint(), weights_only=True)["global_step"] == 3
    assert config_of(program)["encoder"]["init_args"]["d_feature"] == 16
    assert config_of(program)["weights"] == str(file)
    assert program("test", *saved, "--ckpt_path=last", config=False) == 0, program.err


def test_weights_of_the_run_whose_folder_a_new_one_takes(program):
    """They are read, and recorded where they are from then on; for the other processes, too."""
    assert program("fit", "--trainer.max_steps=1") == 0, program.err
    old = program.checkpoint()
    assert program("fit", "--trainer.max_steps=1", "--model.weights", old) == 0, program.err
    moved = program.run_dir / "earlier-1" / "checkpoints" / "last.ckpt"
    assert config_of(program)["weights"] == str(moved) and moved.is_file()
    before, after = (torch.load(path, weights_only=True) for path in (moved, old))
    assert before["global_step"] == after["global_step"] == 1
    for name, value in before["state_dict"].items():
        torch.testing.assert_close(after["state_dict"][name], value, rtol=0, atol=3e-4)
    run, step = program.run_dir, old.with_name("step-7.ckpt")
    assert after_setting_aside(step, run) == step, "which was in neither"
    (run / "earlier-10" / "checkpoints").mkdir(parents=True)
    for place in ("earlier-1", "earlier-10"):
        (run / place / "checkpoints" / "step-7.ckpt").touch()
    assert after_setting_aside(step, run) == run / "earlier-10" / "checkpoints" / "step-7.ckpt"
    assert after_setting_aside(old, run) == old, "where it still is"


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--model.encoder.d_feature=128", ["model.encoder.d_feature is 128 (there 16)"]),
        (
            "--model.encoder.published_ray_depth=false",
            ["published_ray_depth is False (there True)"],
        ),
    ],
)
def test_an_explicit_setting_that_differs_is_an_error(program, file, tmp_path, option, expected):
    """Even where it is the default; and before any data are generated."""
    fresh = tmp_path / "fresh"
    given = ["--model.encoder=null", "--model.weights", file, option, f"--data.source.root={fresh}"]
    assert program("fit", *given) == 2
    for word in [*expected, "mine.ckpt", "model.encoder to null"]:
        assert word in program.err
    assert not fresh.exists() and not program.run_dir.exists()
    # So is one that stands in a file: that of the tiny configuration, here.
    assert program("test", "--model.weights", file, f"--data.source.root={fresh}") == 2
    assert "model.encoder.sh_degree is 0 (there 1)" in program.err and not fresh.exists()


def test_the_old_name_of_the_option_is_read(program, file, tmp_path, encoder):
    overlay = tmp_path / "old.yaml"
    overlay.write_text(f"model: {{published_checkpoint: {file}}}")
    assert program("fit", "--config", overlay, "--trainer.max_steps=1") == 0, program.err
    assert program.err.count("model.published_checkpoint is now called model.weights") == 1
    assert config_of(program)["weights"] == str(file)
    assert "published_checkpoint" not in config_of(program)
    record = torch.load(program.checkpoint(), weights_only=True)["mvsplat"]["encoder"]
    assert record["init_args"]["d_feature"] == 16 and record["init_args"]["published_ray_depth"]
    assert program("fit", f"--model.published_checkpoint={file}", "--trainer.max_steps=1") == 0
    assert "is now called" in program.err
    both = [f"--model.published_checkpoint={file}", "--model.weights=x"]
    assert program("test", *both) == 2 and "give one" in program.err
    assert program("test", "--model.published_checkpoint=null", "--model.weights=x") == 2
    assert "no checkpoint at x" in program.err and "is now called" not in program.err
    assert program("fit", "--print_config") == 0 and "published_checkpoint" not in program.out


# Wrong ones are refused before minutes of generating data


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_wrong_checkpoint_is_refused_at_once(program, file, tmp_path, command):
    fresh = tmp_path / "fresh"
    arguments = [f"--ckpt_path={file}", f"--data.source.root={fresh}"]
    assert program(command, *arguments) == 2
    assert "sh_degree = 1 (here 0)" in program.err
    assert not fresh.exists()


def test_a_wrong_backbone_is_refused_at_once(program, tmp_path):
    fresh = tmp_path / "fresh"
    arguments = ["--model.backbone_weights=nowhere.pth", f"--data.source.root={fresh}"]
    assert program("fit", *arguments) == 2
    assert "nowhere.pth" in program.err and not fresh.exists()
