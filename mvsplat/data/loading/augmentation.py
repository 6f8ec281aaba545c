"""Changes of training samples that make them as different from each other as photographs are."""

import io
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mvsplat.data.transforms import Shape, Window
from mvsplat.types import Batch, Views

_LEAST_DEPTH_RATIO = 1.3  # of far to near, however far off they are
_BEST_JPEG = 96


@dataclass(frozen=True)
class Augmentation:
    """How training samples are changed, besides flips; each change is a function of the sample.

    Context views of some samples differ from one another as photographs do. Targets never do: they
    are clean, and their brightness and colour are the mean of what the context views were given, so
    that training teaches what views have in common, not what nobody can know.

    Args:
        zoom: Largest magnification of a random crop, which all views share (but never more than the
            frames have pixels for); 1 crops the centre.
        tone: How far a whole sample's brightness, contrast and colours are changed, in stops.
        near: Least and largest factor that near bounds are off by.
        far: Least and largest factor that far bounds are off by.
        differing: Share of the samples whose context views differ by what follows.
        exposure: Largest difference in exposure, in stops.
        white_balance: Standard deviation of the gain of each colour.
        vignetting: How much darker corners are at most, as a share.
        noise: Largest standard deviation of the noise.
        blur: Largest radius of a blur, in pixels.
        jpeg: Lowest JPEG quality, at most 96, which is hardly seen.
    """

    zoom: float = 1.5
    tone: float = 0.4
    near: tuple[float, float] = (0.5, 1.25)
    far: tuple[float, float] = (0.7, 4.0)
    differing: float = 0.5
    exposure: float = 0.4
    white_balance: float = 0.04
    vignetting: float = 0.3
    noise: float = 0.03
    blur: float = 0.8
    jpeg: int = 40

    def __post_init__(self) -> None:
        if self.zoom < 1:
            raise ValueError(f"augmentation's zoom is {self.zoom}; it must be at least 1")
        for name in ("near", "far"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise ValueError(
                    f"augmentation's {name} is {[low, high]}; expected two positive factors, the "
                    "smaller one first"
                )
        for name in ("differing", "vignetting", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augmentation's {name} is {getattr(self, name)}; expected 0 to 1")
        for name in ("tone", "exposure", "white_balance", "blur"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"augmentation's {name} is {getattr(self, name)}; expected >= 0")
        if not 1 <= self.jpeg <= _BEST_JPEG:
            raise ValueError(f"augmentation's jpeg is {self.jpeg}; expected 1 to {_BEST_JPEG}")

    def place(self, generator: torch.Generator) -> "Place":
        """Where all views of a sample are cropped."""
        zoom = _between(1.0, self.zoom, generator)
        return Place(zoom, _between(0.0, 1.0, generator), _between(0.0, 1.0, generator))

    def change(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch of one scene with other bounds and colours, and context views that differ."""
        near, far = (
            math.exp(_between(math.log(low), math.log(high), generator))
            for low, high in (self.near, self.far)
        )
        context, target = (
            _with_bounds(views, near, far) for views in (batch.context, batch.target)
        )
        tone = self._tone(generator)
        image = tone(context.image)
        if _between(0.0, 1.0, generator) < self.differing:
            image = self._differ(image[0], generator)[None]
        context = replace(context, image=image)
        return replace(batch, context=context, target=replace(target, image=tone(target.image)))

    def _tone(self, generator: torch.Generator) -> "_Tone":
        exponent = 2.0 ** _between(-self.tone, self.tone, generator)
        gains = 2.0 ** (self.tone * (torch.rand(3, generator=generator) - 0.6))
        return _Tone(exponent, gains)

    def _differ(
        self, image: Float[Tensor, "v 3 h w"], generator: torch.Generator
    ) -> Float[Tensor, "v 3 h w"]:
        count = len(image)
        stops = self.exposure * (torch.rand(count, 1, generator=generator) - 0.5)
        # Pictures are encoded with a gamma of about 2.2.
        gains = stops * math.log(2) / 2.2
        gains = gains + self.white_balance * torch.randn(count, 3, generator=generator)
        gains = (gains - gains.mean(0)).exp()
        image = image * gains[:, :, None, None]
        image = image * _vignette(image, _between(0.0, self.vignetting, generator))
        image = torch.stack([self._blurred(view, generator) for view in image])
        noise = torch.randn(image.shape, generator=generator)
        image = (image + _between(0.0, self.noise, generator) * noise).clamp(0, 1)
        return torch.stack([self._compressed(view, generator) for view in image])

    def _blurred(self, view: Tensor, generator: torch.Generator) -> Tensor:
        radius = _between(-self.blur, self.blur, generator)
        if radius <= 0.1:
            return view
        weights = torch.exp(-0.5 * (torch.arange(-2, 3) / radius) ** 2)
        weights = (weights / weights.sum()).expand(3, 1, 1, 5)
        padded = F.pad(view[None], (2, 2, 2, 2), mode="replicate")
        return F.conv2d(F.conv2d(padded, weights, groups=3), weights.mT, groups=3)[0]

    def _compressed(self, view: Tensor, generator: torch.Generator) -> Tensor:
        quality = round(_between(self.jpeg, 2 * _BEST_JPEG - self.jpeg, generator))
        if quality >= _BEST_JPEG:
            return view
        pixels = (view * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        decoded = torch.from_numpy(np.array(Image.open(buffer)))
        return decoded.permute(2, 0, 1) / 255


class Place(NamedTuple):
    """A crop: its magnification, and where it is between top and bottom and left and right."""

    zoom: float
    down: float
    right: float

    def window(self, frame: Shape, shape: Shape) -> Window:
        """The part of a frame that becomes a picture of ``shape``."""
        fit = min(frame[0] / shape[0], frame[1] / shape[1])
        # No pixels are invented where the frame has enough.
        fit /= min(self.zoom, max(fit, 1.0))
        height, width = fit * shape[0], fit * shape[1]
        top, left = self.down * (frame[0] - height), self.right * (frame[1] - width)
        return Window(left, top, left + width, top + height)


class _Tone(NamedTuple):
    """Contrast and colours of a whole sample."""

    exponent: float
    gains: Tensor

    def __call__(self, image: Float[Tensor, "b v 3 h w"]) -> Float[Tensor, "b v 3 h w"]:
        return (image.pow(self.exponent) * self.gains[:, None, None]).clamp(0, 1)


def _with_bounds(views: Views, near: float, far: float) -> Views:
    nearest = views.near * near
    return replace(
        views, near=nearest, far=torch.maximum(views.far * far, _LEAST_DEPTH_RATIO * nearest)
    )


def _vignette(image: Float[Tensor, "v 3 h w"], strength: float) -> Float[Tensor, "h w"]:
    """Brightness of each pixel: 1 in the middle, ``1 - strength`` in the corners."""
    y, x = (torch.linspace(-1, 1, size) for size in image.shape[-2:])
    return 1 - strength * 0.5 * (y[:, None] ** 2 + x**2)


def _between(low: float | int, high: float | int, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
