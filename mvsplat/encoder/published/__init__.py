"""Released checkpoints: recognised, renamed and loaded exactly."""

from mvsplat.encoder.published.loading import infer_arguments, load_backbone, load_encoder

__all__ = ["infer_arguments", "load_backbone", "load_encoder"]
