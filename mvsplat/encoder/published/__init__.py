"""Released checkpoints: recognised, renamed and loaded exactly."""

from mvsplat.encoder.published.backbone import load_backbone, load_vit
from mvsplat.encoder.published.loading import infer_arguments, load_depth, load_encoder

__all__ = ["infer_arguments", "load_backbone", "load_depth", "load_encoder", "load_vit"]
