"""The backbone: a residual CNN to a fraction of the resolution."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.encoder.cpu.activations import relu
from mvsplat.encoder.cpu.convolution import conv1x1, conv3x3
from mvsplat.encoder.cpu.normalization import InstanceNorm

# ImageNet's statistics.
MEAN = (0.485, 0.456, 0.406)
STANDARD_DEVIATION = (0.229, 0.224, 0.225)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm, and a projected shortcut where the shape changes."""

    def __init__(self, channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = conv3x3(channels, out_channels, stride, bias=False)
        self.conv2 = conv3x3(out_channels, out_channels, bias=False)
        self.norm = InstanceNorm()
        same = stride == 1 and channels == out_channels
        self.shortcut = None if same else conv1x1(channels, out_channels, stride)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        hidden = self.conv1(x)
        hidden = self.conv2.after(lambda x: self.norm(x, rectify=True), hidden)
        shortcut = x if self.shortcut is None else self.norm(self.shortcut(x))
        return relu(shortcut + self.norm(hidden, rectify=True))


class ResidualCNN(nn.Module):
    """UniMatch's CNN (Xu et al., 2023), of which encoders take what they need.

    Args:
        widths: Channels of the stem (stride 2) and first stage, the second and the third stage.
        out_channels: Channels of the features.
        strides: Of the three stages.
    """

    def __init__(
        self,
        widths: tuple[int, int, int],
        out_channels: int,
        strides: tuple[int, int, int] = (1, 2, 1),
    ):
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.stem = nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)
        self.norm = InstanceNorm()
        previous, stages = widths[0], []
        for width, stride in zip(widths, strides):
            stages += [ResidualBlock(previous, width, stride), ResidualBlock(width, width, 1)]
            previous = width
        self.blocks = nn.Sequential(*stages)
        self.project = conv1x1(previous, out_channels)
        # Not persistent: published weights do not have them.
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(STANDARD_DEVIATION).view(3, 1, 1), persistent=False
        )

    def normalise(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Colours in [0, 1] by ImageNet's mean and standard deviation."""
        normalised = (image - self.mean) / self.deviation
        return normalised.contiguous(memory_format=torch.channels_last)


class ConvolutionalEncoder(ResidualCNN):
    """UniMatch's CNN: images to features at a fraction of the resolution."""

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h4 w4"]:
        normalised = self.normalise(image)
        return self.project(self.blocks(self.norm(self.stem(normalised), rectify=True)))


class ConvolutionalPyramid(ResidualCNN):
    """UniMatch's CNN: the first two stages' maps, and the features."""

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> tuple[Tensor, Tensor, Tensor]:
        x = self.norm(self.stem(self.normalise(image)), rectify=True)
        fine = self.blocks[:2](x)
        middle = self.blocks[2:4](fine)
        return fine, middle, self.project(self.blocks[4:](middle))
