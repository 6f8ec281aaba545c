"""The ViT: DINOv2's vision transformer (Oquab et al., 2024), by its own parameter names."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.encoder.cpu.activations import gelu
from mvsplat.encoder.cpu.products import Linear
from mvsplat.encoder.cpu.recomputation import recompute_if

PATCH = 14
# Patches along an edge of the images that the position embedding was learnt on.
GRID = 37
HEAD_CHANNELS = 64
EPSILON = 1e-6


class LayerScale(nn.Module):
    """A learnt factor a channel."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "n t c"]) -> Float[Tensor, "n t c"]:
        return x * self.gamma


class Attention(nn.Module):
    """Self-attention; one linear layer gives all heads' queries, then their keys and values."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = width // HEAD_CHANNELS
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, tokens: Float[Tensor, "n t c"]) -> Float[Tensor, "n t c"]:
        parts = rearrange(self.qkv(tokens), "n t (p m c) -> p n m t c", p=3, m=self.heads)
        attended = F.scaled_dot_product_attention(*parts)
        return self.proj(rearrange(attended, "n m t c -> n t (m c)"))


class FeedForward(nn.Module):
    """Two linear layers, four times as wide between them, with GELU."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = Linear(width, 4 * width)
        self.fc2 = Linear(4 * width, width)

    def forward(self, tokens: Float[Tensor, "n t c"]) -> Float[Tensor, "n t c"]:
        return self.fc2(gelu(self.fc1(tokens)))


class Block(nn.Module):
    """Attention and feed-forward, each after a norm, scaled, and added to its input."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.attn = Attention(width)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, EPSILON)
        self.mlp = FeedForward(width)
        self.ls2 = LayerScale(width)

    def forward(self, tokens: Float[Tensor, "n t c"]) -> Float[Tensor, "n t c"]:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


class PatchEmbedding(nn.Module):
    """A linear map of patches of 14 x 14 pixels."""

    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n t c"]:
        return self.proj(image).flatten(2).mT


class VisionTransformer(nn.Module):
    """DINOv2's vision transformer for patches of 14 pixels, without register tokens.

    Weights of DINOv2 (``dinov2_vits14`` and so on) and of Depth Anything V2 fit it by name;
    :func:`mvsplat.published.load_vit` reads their files.

    Args:
        width: Channels of the tokens, a multiple of 64: as many heads as 64 goes into it.
        layers: Numbers of the blocks, from 0, whose outputs are wanted; the last one is the last
            block.
        offset_resizing: Resize the position embedding as DINOv2's code does: by factors for a grid
            a tenth of a patch larger than it is.
        checkpointing: Recompute the blocks' activations in the backward pass.

    Raises:
        ValueError: The width is no multiple of 64, or the layers do not ascend.
    """

    def __init__(
        self,
        width: int,
        layers: tuple[int, ...],
        offset_resizing: bool = False,
        checkpointing: bool = False,
    ):
        super().__init__()
        if width < HEAD_CHANNELS or width % HEAD_CHANNELS:
            raise ValueError(
                f"the ViT has width {width}: expected a multiple of {HEAD_CHANNELS}, such as 384, "
                "768 or 1024"
            )
        if not layers or layers[0] < 0 or any(a >= b for a, b in zip(layers, layers[1:])):
            raise ValueError(f"the ViT's layers are {layers}: expected ascending numbers from 0")
        self.layers = layers
        self.offset_resizing = offset_resizing
        self.checkpointing = checkpointing
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID**2, width))
        self.patch_embed = PatchEmbedding(width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers[-1] + 1))
        self.norm = nn.LayerNorm(width, EPSILON)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c y x"]]:
        """Normalised maps of the wanted layers, a pixel for each whole patch of the image.

        Args:
            image: Normalised by ImageNet's statistics; it is resized to whole patches.
        """
        rows, columns = (size // PATCH for size in image.shape[2:])
        patches = F.interpolate(
            image, size=(rows * PATCH, columns * PATCH), mode="bilinear", align_corners=True
        )
        tokens = self.patch_embed(patches)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = tokens + self.positions(rows, columns)
        maps = []
        for index, block in enumerate(self.blocks):
            tokens = recompute_if(self.checkpointing, block, tokens)
            if index in self.layers:
                normalised = self.norm(tokens)[:, 1:]
                maps.append(rearrange(normalised, "n (y x) c -> n c y x", y=rows))
        return maps

    def positions(self, rows: int, columns: int) -> Float[Tensor, "1 t c"]:
        """The position embedding of the class token and of a grid of patches, row by row."""
        if (rows, columns) == (GRID, GRID):
            return self.pos_embed
        grid = rearrange(self.pos_embed[:, 1:], "1 (y x) c -> 1 c y x", y=GRID)
        if self.offset_resizing:
            factors = ((rows + 0.1) / GRID, (columns + 0.1) / GRID)
            resized = F.interpolate(grid, scale_factor=factors, mode="bicubic")
        else:
            resized = F.interpolate(grid, size=(rows, columns), mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).mT], dim=1)
