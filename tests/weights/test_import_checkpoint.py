"""``import-checkpoint`` is gone: its name says what replaces it, what it wrote goes on working.

``kept_import/`` is what version 0.1.0 made of ``released_state()``.
"""

from pathlib import Path

import pytest
import torch

import mvsplat
from mvsplat import published
from mvsplat.encoder.published.mvsplat import correspondence

KEPT = Path(__file__).parent / "kept_import" / "imported.ckpt"
SIZES = dict(
    d_feature=8,
    cnn_widths=(8, 8, 8),
    transformer_blocks=1,
    depth_candidates=4,
    cost_volume_widths=(8,),
    cost_volume_attention=(),
    refinement_widths=(8,),
    refinement_attention=(),
    gaussian_head_width=8,
)


def released_state():
    """A state dict by the published names, as the kept file was made from."""
    encoder = mvsplat.CostVolumeEncoder(**SIZES, sh_degree=0)
    generator = torch.Generator().manual_seed(0)
    return {
        name: 0.1 * torch.randn(entry.shape, generator=generator)
        for name, entry in sorted(dict(correspondence(encoder)).items())
    }


def test_its_name_says_what_replaces_it(program):
    assert program("import-checkpoint", "re10k.ckpt", "--output", "x.ckpt", config=False) == 2
    assert "--model.weights FILE" in program.err and "what it wrote still loads" in program.err
    assert program("--help", config=False) == 0 and "import-checkpoint" not in program.out


def test_what_it_wrote_is_the_released_encoder():
    found, right = mvsplat.load_model(KEPT).encoder, published.load_encoder(released_state())
    for name in found.behaviours:
        assert found.config["init_args"][name] is name.startswith("published_"), name
    for name, value in right.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


@pytest.mark.parametrize("command", ["test", "fit"])
def test_commands_take_what_it_wrote(program, command):
    given = ["--config", KEPT.with_suffix(".yaml"), "--ckpt_path", KEPT]
    more = ["--trainer.max_steps=1"] if command == "fit" else []
    assert program(command, *given, *more) == 0, program.err


def test_weights_under_other_settings_are_refused(program):
    other = "--model.encoder.published_ray_depth=false"
    given = ["--config", KEPT.with_suffix(".yaml"), "--ckpt_path", KEPT]
    assert program("test", *given, other) == 2
    assert "--model.encoder.published_ray_depth true" in program.err


def test_checkpoints_of_this_package_are_named_as_such():
    with pytest.raises(ValueError, match="is already a checkpoint of this package.*load_model"):
        published.load_encoder(KEPT)
