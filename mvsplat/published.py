"""Released checkpoints and weights: the public names of :mod:`mvsplat.encoder.published`."""

from mvsplat.encoder.published import infer_arguments, load_backbone, load_encoder

__all__ = ["infer_arguments", "load_backbone", "load_encoder"]
