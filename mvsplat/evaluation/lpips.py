"""LPIPS, the learned perceptual distance of pictures (Zhang et al., CVPR 2018, version 0.1).

A frozen ImageNet network (VGG-16, or AlexNet) turns both pictures into features at five depths;
the features' channels are normalised, and learned weights sum their squared differences. The five
heads of learned weights come with torchmetrics; the network's weights are PyTorch's own.
"""

import importlib.util
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Net = Literal["vgg", "alex"]

_URLS = {
    "vgg": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "alex": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
}
# Where features are compared: the last activation before each pooling (VGG), every one (AlexNet).
_TAPS = {"vgg": (3, 8, 15, 22, 29), "alex": (1, 4, 7, 9, 11)}


class PerceptualDistance(nn.Module):
    """Distance of pictures with colours in [0, 1]; 0 for equal ones. Made by :meth:`pretrained`."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: Net):
        super().__init__()
        self.taps = _TAPS[net]
        self.features = _vgg16_features() if net == "vgg" else _alexnet_features()
        self.heads = nn.ParameterList(_head_weights(net))
        # ImageNet's mean and standard deviation, as LPIPS rounds them for colours in [-1, 1].
        self.register_buffer("mean", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))
        self.requires_grad_(False)

    @classmethod
    def pretrained(cls, net: Net = "vgg", backbone_weights: str | None = None):
        """The distance with its published weights.

        Args:
            net: "vgg", as published tables use, or "alex", which is smaller.
            backbone_weights: File with the network's weights under torchvision's names; by
                default PyTorch's hub cache, and a download into it.

        Raises:
            FileNotFoundError: The weights are neither here nor can be downloaded.
            ValueError: The file holds something else.
        """
        distance = cls(net)
        distance.features.load_state_dict(_backbone_weights(net, backbone_weights, distance))
        return distance

    def forward(
        self, prediction: Float[Tensor, "*batch 3 h w"], truth: Float[Tensor, "*batch 3 h w"]
    ) -> Float[Tensor, "*batch"]:
        """Distance of each pair of pictures; differentiable with respect to ``prediction``."""
        with torch.no_grad():
            expected = self._normalised_features(truth.flatten(end_dim=-4))
        found = self._normalised_features(prediction.flatten(end_dim=-4))
        distances = [
            ((a - b).square().mean(dim=(-2, -1)) * head).sum(dim=-1)
            for a, b, head in zip(found, expected, self.heads, strict=True)
        ]
        return torch.stack(distances).sum(dim=0).reshape(truth.shape[:-3])

    def _normalised_features(self, image: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        x, found = (2 * image - 1 - self.mean) / self.std, []
        for position, layer in enumerate(self.features):
            x = layer(x)
            if position in self.taps:
                # Differences of unit vectors need float32, whatever autocast says; the small
                # number keeps the gradient finite where no channel is active.
                feature = x.float()
                length = torch.rsqrt(feature.square().sum(1, keepdim=True) + 1e-8)
                found.append(feature * length)
        return found


def _vgg16_features() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for stage, (width, repeats) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        layers += [nn.MaxPool2d(2)] if stage else []
        for _ in range(repeats):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
    return nn.Sequential(*layers)


def _alexnet_features() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _head_weights(net: Net) -> list[Tensor]:
    """The learned channel weights of the five depths, from the files torchmetrics ships."""
    spec = importlib.util.find_spec("torchmetrics")
    assert spec is not None and spec.origin is not None  # a dependency of this package
    path = Path(spec.origin).parent / "functional" / "image" / "lpips_models" / f"{net}.pth"
    if not path.exists():
        raise FileNotFoundError(
            f"this release of torchmetrics lacks LPIPS' heads ({path}); install torchmetrics 1.4"
        )
    heads = torch.load(path, map_location="cpu", weights_only=True)
    return [heads[f"lin{depth}.model.1.weight"].flatten() for depth in range(5)]


def _backbone_weights(net: Net, path: str | None, like: PerceptualDistance) -> dict[str, Tensor]:
    """The feature network's state dict, checked against the network it is for."""
    weights = _download(net) if path is None else _read(Path(path))
    prefix = "features."
    found = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    expected = {name: tuple(value.shape) for name, value in like.features.state_dict().items()}
    wrong = [name for name, shape in expected.items() if _shape(found.get(name)) != shape]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{path or _URLS[net]} does not hold the weights of LPIPS' {net!r} network: "
            f"{prefix}{name} should be {expected[name]} and is {_shape(found.get(name))}; "
            f"the right file is {_URLS[net]}"
        )
    return {name: found[name] for name in expected}


def _shape(value: Tensor | None) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else "missing"


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"LPIPS' backbone_weights: there is no file {path}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no pickle surfaces as many kinds of exceptions
        message = f"{path} is no file of PyTorch weights, or not all of one"
        raise ValueError(message) from error
    if not isinstance(weights, dict):
        raise ValueError(f"{path} holds a {type(weights).__name__}, expected a state dict")
    return weights


def weights_file(net: Net) -> Path:
    """Where PyTorch's hub cache has a network's weights, or would have them."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(_URLS[net]).name


def _download(net: Net) -> dict[str, Tensor]:
    cached = weights_file(net)
    if not cached.exists():
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(_URLS[net], str(cached), cached.stem.split("-")[-1])
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(
                f"LPIPS needs {_URLS[net]}, which could not be downloaded ({error}); place that "
                f"file at {cached}, or name where it is with backbone_weights"
            ) from error
    return _read(cached)
