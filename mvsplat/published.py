"""Released checkpoints and weights: the public names of :mod:`mvsplat.encoder.published`."""

from mvsplat.encoder.published import (
    infer_arguments,
    load_backbone,
    load_depth,
    load_encoder,
    load_vit,
)

__all__ = ["infer_arguments", "load_backbone", "load_depth", "load_encoder", "load_vit"]
