"""How the encoder's weights start."""

from torch import nn

from mvsplat.encoder.transformer import Message

def initialize(encoder: nn.Module, kind: str) -> None:
    """Draw the weights anew: as published, or so that the model matches from the first step."""
    for module in encoder.cnn.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for module in encoder.transformer.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
