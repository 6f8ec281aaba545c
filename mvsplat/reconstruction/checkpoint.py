"""The model of any checkpoint, ours or a released one, without Lightning, which takes seconds."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from mvsplat.decoder import SplattingDecoder
from mvsplat.encoder import DepthSplatDepth, Encoder
from mvsplat.machine import bf16_is_faster
from mvsplat.weights import Weights, read_weights

# Of checkpoints that do not say.
_USUAL_SHAPE, _USUAL_NEAR, _USUAL_FAR = (256, 256), 1.0, 100.0
_USUAL_VIEWS = (2, 2)

Precision = Literal["auto", "32", "bf16"]


@dataclass
class TrainedModel:
    """An encoder and a decoder, and what the encoder was trained on.

    Args:
        encoder: In eval mode.
        decoder: Renders what it predicts, and fills nothing.
        image_shape: Height and width of the views in training.
        near: Their near bound, which sets the scale of the scenes the encoder knows.
        far: Their far bound.
        name: What to call it.
        good_for: What it was trained on, in a phrase, as far as it is known.
        precision: "32", or "bf16" to compute convolutions and matrix products in it.
        context_views: How many views it saw at once, at least and at most.
        filling: The decoder of training, where it fills what no Gaussian covers.
    """

    encoder: Encoder
    decoder: SplattingDecoder
    image_shape: tuple[int, int] = _USUAL_SHAPE
    near: float = _USUAL_NEAR
    far: float = _USUAL_FAR
    name: str = ""
    good_for: str = ""
    precision: Literal["32", "bf16"] = "32"
    context_views: tuple[int, int] = _USUAL_VIEWS
    filling: SplattingDecoder | None = None

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        return next(self.encoder.parameters()).device

    def in_precision(self) -> AbstractContextManager[Any]:
        """A new context in which the encoder computes as ``precision`` says."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")


@dataclass
class TrainedDepth:
    """A model of depth, and what it was trained on; see :class:`TrainedModel`.

    Args:
        model: In eval mode.
    """

    model: DepthSplatDepth
    image_shape: tuple[int, int]
    near: float
    far: float
    name: str
    context_views: tuple[int, int]


def views_at_once(trained: tuple[int, int], photos: int) -> int:
    """How many of some photographs to show a network together.

    All of them if it saw so many in training, else as many as it saw there on average; fewer only
    where there are no more.

    Args:
        trained: The fewest and the most views that it saw.
        photos: How many photographs there are.
    """
    fewest, most = trained
    return photos if photos <= most else (fewest + most) // 2


def load_trained(checkpoint: str | Path, device: torch.device | str = "cpu") -> TrainedModel:
    """Load weights of any kind, by name, address or file (see ``read_weights``).

    What the views were like in training stands in the checkpoint, or in ``config.yaml`` of its run
    folder; what is known of released models is in :mod:`mvsplat.weights.released_views`.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: It cannot be downloaded.
        ValueError: It holds no model that is known, or is damaged.
    """
    weights = read_weights(checkpoint)
    encoder, decoder = weights.build_encoder(), weights.build_decoder()
    filling = weights.build_decoder().to(device).eval() if decoder.fill else None
    # Pictures and scores show what is in the splat: no viewer fills what no Gaussian covers.
    decoder.fill = False
    encoder.to(device).requires_grad_(False)
    decoder.to(device).eval()
    training = _training(weights)
    return TrainedModel(encoder, decoder, good_for=weights.good_for, filling=filling, **training)


def load_trained_depth(weights: str | Path, device: torch.device | str = "cpu") -> TrainedDepth:
    """Load a model of depth: a file of DepthSplat, of depth alone or with Gaussians.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: It cannot be downloaded.
        ValueError: It holds no model of depth, or is damaged.
    """
    found = read_weights(weights)
    model = found.build_depth().to(device).requires_grad_(False)
    return TrainedDepth(model, **_training(found))


def device_named(name: str) -> torch.device:
    """The device that a user names; "auto" is CUDA where there is such.

    Raises:
        ValueError: There is none of that name.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used: {first}") from error


def precision_named(name: Precision, device: torch.device) -> Literal["32", "bf16"]:
    """The precision that a user names; "auto" is bf16 on processors that are faster in it."""
    if name == "auto":
        return "bf16" if device.type == "cpu" and bf16_is_faster() else "32"
    return name


def _training(weights: Weights) -> dict[str, Any]:
    """What is known of the views in training, completed by what is usual; and the weights' name."""
    # Only a run of this package has a folder with its configuration.
    settings: Mapping[str, Any] = weights.views
    settings = settings or (_run_views(weights.path) if weights.decoder else {})
    height, width = settings.get("image_shape") or _USUAL_SHAPE
    near, far = settings.get("near"), settings.get("far")
    if not (isinstance(near, (int, float)) and isinstance(far, (int, float))):
        near, far = _USUAL_NEAR, _USUAL_FAR
    fewest, most = settings.get("context_views") or _USUAL_VIEWS
    return {
        "image_shape": (int(height), int(width)),
        "near": float(near),
        "far": float(far),
        "context_views": (int(fewest), int(most)),
        "name": weights.name,
    }


def _run_views(checkpoint: Path) -> dict[str, Any]:
    """The data settings of ``config.yaml`` in the run folder that holds the checkpoint, if any."""
    file = checkpoint.resolve().parent.parent / "config.yaml"
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return {}
    return settings if isinstance(settings, dict) else {}
