"""Pictures without content, the same in every run (Pillow's own noise cannot be seeded)."""

import numpy as np
from PIL import Image


def noise(size: tuple[int, int], deviation: float, seed: int = 0) -> Image.Image:
    """A grey picture of a width and height, in RGB, whose pixels scatter around the middle."""
    values = np.random.default_rng(seed).normal(128, deviation, size[::-1])
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")
