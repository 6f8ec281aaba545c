"""``import-checkpoint``: what it writes is a checkpoint of this package for every command."""

import pytest
import torch
import yaml
from golden.cases import Golden, published_state

import mvsplat
from mvsplat import published

CASE = "tiny_3views"
# What the tiny golden models need of data; tiny.yaml's images are smaller.
SIZES = ["--data.image_shape", "[64, 64]", "--data.source.image_shape", "[64, 64]"]


@pytest.fixture
def released(tmp_path):
    """A file as the published code writes them."""
    state = {f"encoder.{name}": tensor for name, tensor in published_state(CASE).items()}
    path = tmp_path / "released.ckpt"
    torch.save({"state_dict": state, "epoch": 3, "pytorch-lightning_version": "2.0.0"}, path)
    return path


@pytest.fixture
def converted(program, released, tmp_path):
    path = tmp_path / "ours" / "converted.ckpt"
    assert program("import-checkpoint", released, "--output", path, config=False) == 0, program.err
    assert str(path) in program.out and "--config" in program.out
    return path


def test_load_model_gives_the_published_numbers(converted):
    model, golden = mvsplat.load_model(converted), Golden(CASE)
    with torch.no_grad():
        gaussians = model.encoder(golden.views)
    golden.check("means", gaussians.means)
    golden.check("harmonics_3dgs", gaussians.harmonics)
    assert not (converted.parent / ".converted.ckpt").exists()
    assert sorted(path.name for path in converted.parent.iterdir()) == [
        "converted.ckpt",
        "converted.yaml",
    ]


def test_the_settings_are_the_encoder(converted):
    encoder = mvsplat.load_model(converted).encoder
    content = yaml.safe_load(converted.with_suffix(".yaml").read_text())["model"]["encoder"]
    again = mvsplat.CostVolumeEncoder(**content["init_args"])
    again.load_state_dict(encoder.state_dict())
    assert all(content["init_args"][name] for name in encoder.behaviours)


def test_every_command_takes_it(program, converted):
    given = ["--config", converted.with_suffix(".yaml"), "--ckpt_path", converted, *SIZES]
    for command in ("validate", "test", "predict"):
        assert program(command, *given) == 0, program.err
    before = mvsplat.load_model(converted).state_dict()
    assert program("fit", *given, "--trainer.max_steps", "1") == 0, program.err
    content = torch.load(program.checkpoint(), weights_only=True)
    assert content["global_step"] == 1 and len(content["optimizer_states"]) == 1
    moved = [
        name for name, tensor in content["state_dict"].items() if (tensor - before[name]).any()
    ]
    # One step at the start of the warm-up: every weight moves a little.
    assert len(moved) > 0.9 * len(before)
    for name in moved:
        assert (content["state_dict"][name] - before[name]).abs().max() < 1e-3, name


def test_weights_under_other_settings_are_refused(program, converted):
    settings = converted.with_suffix(".yaml")
    content = yaml.safe_load(settings.read_text())
    del content["model"]["encoder"]["init_args"]["published_ray_depth"]
    settings.write_text(yaml.safe_dump(content))
    code = program("test", "--config", settings, "--ckpt_path", converted, *SIZES)
    assert code == 2
    assert "--model.encoder.published_ray_depth true" in program.err


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("missing.ckpt", None, "missing.ckpt: no such file"),
        ("text.ckpt", b"not a checkpoint", "text.ckpt: not a file of tensors"),
        ("empty.ckpt", {"state_dict": {}}, "empty.ckpt: found no state dict"),
        ("other.ckpt", {"state_dict": {"conv.weight": torch.zeros(1)}}, "missing: "),
    ],
)
def test_other_files_are_refused(program, tmp_path, name, content, message):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    output = tmp_path / "ours.ckpt"
    code = program("import-checkpoint", tmp_path / name, "--output", output, config=False)
    assert code == 2 and message in program.err
    assert not output.exists()


def test_checkpoints_of_this_package_are_named_as_such(program, converted, tmp_path):
    output = tmp_path / "again.ckpt"
    assert program("import-checkpoint", converted, "--output", output, config=False) == 2
    assert "is already a checkpoint of this package" in program.err
    with pytest.raises(ValueError, match="mvsplat.load_model"):
        published.load_encoder(converted)


def test_outputs_that_would_do_harm_are_refused(program, released, tmp_path):
    before = released.read_bytes()
    for output, message in ((released, "another name"), (tmp_path / "ours.pth", "ends in .ckpt")):
        code = program("import-checkpoint", released, "--output", output, config=False)
        assert code == 2 and message in program.err
    assert released.read_bytes() == before
    assert program("import-checkpoint", released, config=False) == 2
    assert "output" in program.err
