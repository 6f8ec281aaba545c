"""``import-checkpoint``: a released MVSplat checkpoint becomes one of this package."""

import logging
import os
import warnings
from pathlib import Path

import yaml
from lightning.pytorch import Trainer

from mvsplat.cli.errors import CommandParser
from mvsplat.encoder import CostVolumeEncoder
from mvsplat.encoder.published.loading import load_encoder
from mvsplat.files import replacing
from mvsplat.model import MVSplat

EPILOG = """\
Beside the checkpoint, a YAML file of the same name holds the encoder's sizes and the published
behaviours that its weights were trained with; give both to a command:
  mvsplat test --config re10k --config OUR.yaml --ckpt_path OUR.ckpt
"""


def import_checkpoint(released: str | os.PathLike, output: str | os.PathLike) -> CostVolumeEncoder:
    """Convert a released checkpoint, and write the encoder's settings beside it.

    The result is a checkpoint of a run of zero steps: ``mvsplat.load_model`` and ``--ckpt_path`` of
    every command take it, and ``fit`` starts from its weights with a fresh optimizer.

    Args:
        released: What ``mvsplat.published.load_encoder`` takes.
        output: The checkpoint to write, ending in ``.ckpt``; the settings get the ending ``.yaml``.

    Returns:
        The encoder that was written, in eval mode.

    Raises:
        ValueError: The file is not a released checkpoint, or the output's name does not fit.
    """
    output = Path(output)
    if output.suffix != ".ckpt":
        raise ValueError(f"--output {output}: expected a name that ends in .ckpt")
    if output.exists() and isinstance(released, (str, os.PathLike)) and output.samefile(released):
        raise ValueError(f"--output {output} is the released checkpoint: choose another name")
    encoder = load_encoder(released)
    with replacing(output) as temporary:
        _save(MVSplat(encoder, losses={"lpips": None}), temporary)
    with replacing(output.with_suffix(".yaml")) as temporary:
        temporary.write_text(overlay(encoder, Path(released).name))
    return encoder


def overlay(encoder: CostVolumeEncoder, origin: str) -> str:
    """YAML that makes any configuration's encoder this one."""
    arguments = encoder.config["init_args"]
    for name in encoder.of_training:
        del arguments[name]
    content = {"model": {"encoder": {"class_path": "CostVolumeEncoder", "init_args": arguments}}}
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
    return f"# Overlay: the encoder of {origin}.\n{text}"


def _save(model: MVSplat, path: Path) -> None:
    """Let Lightning itself write the checkpoint: what it must contain is its own affair."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)  # it would list the machine's accelerators
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
            trainer.strategy.connect(model)
            trainer.save_checkpoint(path)
    finally:
        log.setLevel(level)


def main(argv: list[str]) -> None:
    """Convert the file that the arguments name."""
    parser = CommandParser(
        prog="mvsplat import-checkpoint",
        description="Convert a released MVSplat checkpoint to one of this package.",
        epilog=EPILOG,
    )
    parser.add_argument("released", type=str, help="A released checkpoint, such as re10k.ckpt.")
    parser.add_argument(
        "--output", type=str, required=True, help="The checkpoint to write, ending in .ckpt."
    )
    arguments = parser.parse_args(argv)
    encoder = import_checkpoint(arguments.released, arguments.output)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    settings = Path(arguments.output).with_suffix(".yaml")
    print(f"{arguments.output}: the encoder, {count / 1e6:.2f} M parameters")
    print(f"{settings}: its settings; test, for instance, with")
    print(f"  mvsplat test --config re10k --config {settings} --ckpt_path {arguments.output}")
