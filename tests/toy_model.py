"""A model of a few lines and data of a few pixels, to run Lightning's loops on."""

from contextlib import contextmanager

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader

from mvsplat import Encoder, SplattingDecoder
from mvsplat.evaluation.metric_table import with_standard
from mvsplat.types import Batch, DepthEstimate, Gaussians, Rendering, Views

SIZE, CONTEXT, TARGET = 16, 2, 3


def make_views(scene: int, count: int, depth: bool = True) -> Views:
    """Random pictures of cameras side by side."""
    generator = torch.Generator().manual_seed(scene)
    extrinsics = torch.eye(4).repeat(1, count, 1, 1)
    extrinsics[..., 0, 3] = torch.linspace(-0.2, 0.2, count)
    exact = 1 + 3 * torch.rand(1, count, SIZE, SIZE, generator=generator)
    return Views(
        image=torch.rand(1, count, 3, SIZE, SIZE, generator=generator),
        extrinsics=extrinsics,
        intrinsics=torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).repeat(1, count, 1, 1),
        near=torch.full((1, count), 1.0),
        far=torch.full((1, count), 4.0),
        index=10 * scene + torch.arange(count)[None],
        depth=exact if depth else None,
    )


def make_batch(scene: int, depth: bool = True) -> Batch:
    """One scene; its name would be no good as a file's."""
    return Batch(make_views(scene, CONTEXT, depth), make_views(scene, TARGET), [f"scene/{scene}"])


class CostVolume(nn.Module):
    """Says 1 everywhere."""

    value = 1.0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.full_like(image[:, :, :1], self.value)


class ToyEncoder(Encoder):
    """A Gaussian for every context pixel; depth 2 if the cost volume says so, else 3."""

    def __init__(self):
        super().__init__()
        self.cost_volume = CostVolume()
        self.brightness = nn.Parameter(torch.ones(()))

    @contextmanager
    def _without_cost_volume(self):
        self.cost_volume.value = 0.0
        try:
            yield
        finally:
            self.cost_volume.value = 1.0

    def ablations(self):
        return {"zeroed_cost_volume": self._without_cost_volume()}

    def forward(self, views: Views) -> Gaussians:
        b, v, _, h, w = views.image.shape
        depth = (3 - self.cost_volume(views.image).squeeze(2)) * self.brightness
        color = views.image.movedim(2, -1).reshape(b, -1, 3) * self.brightness
        count = color.shape[1]
        estimate = DepthEstimate(
            depth=depth,
            confidence=torch.rand(b, v, h // 4, w // 4),
            logits=torch.zeros(b, v, 5, h // 4, w // 4),
            disparities=torch.linspace(0.25, 1, 5).expand(b, v, 5),
        )
        return Gaussians(
            means=torch.cat([color[..., :2], depth.reshape(b, -1, 1)], dim=-1),
            scales=torch.full((b, count, 3), 0.1),
            rotations=torch.tensor([1.0, 0, 0, 0]).expand(b, count, 4),
            harmonics=color.unsqueeze(-1),
            opacities=torch.full((b, count), 0.5),
            estimate=estimate,
        )


class ToyDecoder(nn.Module):
    """Shows the first context view, darker where depth is large."""

    def forward(self, gaussians: Gaussians, views: Views) -> Rendering:
        b, v, _, h, w = views.image.shape
        color = gaussians.harmonics[:, : h * w, :, 0].mT.reshape(b, 1, 3, h, w)
        depth = gaussians.estimate.depth[:, :1].expand(b, v, h, w)
        color = (color * 2 / depth.unsqueeze(2)).expand(b, v, 3, h, w)
        return Rendering(color=color, depth=depth, alpha=torch.ones(b, v, h, w))


class ToyModel(LightningModule):
    """The parts of MVSplat that callbacks rely on."""

    def __init__(self, metrics: tuple = ()):
        super().__init__()
        self.encoder, self.decoder = ToyEncoder(), ToyDecoder()
        self.metrics = with_standard(metrics)

    def render(self, gaussians: Gaussians, views: Views) -> Rendering:
        return self.decoder(gaussians, views)

    def _run(self, batch: Batch, batch_idx: int):
        gaussians = self.encoder(batch.context)
        return {"gaussians": gaussians, "rendering": self.render(gaussians, batch.target)}

    validation_step = test_step = _run

    def training_step(self, batch: Batch, batch_idx: int):
        outputs = self._run(batch, batch_idx)
        return {"loss": outputs["rendering"].color.mean(), **outputs}

    def predict_step(self, batch: Batch, batch_idx: int) -> Gaussians:
        return self.encoder(batch.context)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class SplattingModel(ToyModel):
    """With the real decoder, for films."""

    def __init__(self):
        super().__init__()
        self.decoder = SplattingDecoder()

    def render(self, gaussians: Gaussians, views: Views) -> Rendering:
        size = views.image.shape[-2:]
        cameras = (views.extrinsics, views.intrinsics, views.near, views.far)
        return self.decoder(gaussians, *cameras, tuple(size))


def make_loader(scenes: range, depth: bool = True) -> DataLoader:
    """The scenes, one a batch."""
    return DataLoader(
        [make_batch(scene, depth) for scene in scenes], batch_size=None, shuffle=False
    )
