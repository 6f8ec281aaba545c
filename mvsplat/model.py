"""Where encoder, decoder, losses and optimizer meet: the LightningModule, and loading it back."""

import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mvsplat import __version__
from mvsplat.configurable import CONFIG_KEY, to_primitives
from mvsplat.decoder import SplattingDecoder
from mvsplat.decoder.checks import GAUSSIANS, GaussiansNotFinite
from mvsplat.encoder import CostVolumeEncoder, DepthSplatEncoder, Encoder
from mvsplat.encoder.published.backbone import (
    check_backbone,
    check_vit,
    load_backbone,
    load_vit,
)
from mvsplat.encoder.published.loading import ALONE
from mvsplat.evaluation import Metric, metrics
from mvsplat.evaluation.metric_table import with_standard
from mvsplat.evaluation.scene_means import SceneMeans
from mvsplat.evaluation.view_scores import model_prediction, score_views
from mvsplat.losses import LPIPS, MSE, Loss
from mvsplat.refinement.covering import covered_scenes
from mvsplat.schedules import OneCycle, Schedule
from mvsplat.training.fitting_weights import check_weights
from mvsplat.training.parameter_groups import apply_factors, parameter_groups
from mvsplat.training.resuming import (
    ACCUMULATED,
    check_optimizer,
    rewind_to_step,
    take_optimizer_settings,
    take_trained_weights,
)
from mvsplat.types import Batch, DepthEstimate, Gaussians, Rendering, Views
from mvsplat.weights import Weights, read_weights


class MVSplat(LightningModule):
    """Photographs with cameras in, Gaussians out, trained by rendering them from other views.

    Args:
        encoder: The network from context views to Gaussians.
        decoder: Renders Gaussians.
        losses: What training minimises, by name, each times its weight. Names given here are
            added to the published ones (``mse``: MSE and ``lpips``: 0.05 LPIPS); null or a weight
            of 0 removes one.
        optimizer: The optimizer of all parameters.
        schedule: How the learning rate changes, once an optimizer step; null keeps it constant.
        max_steps: The schedule's length in optimizer steps; follows ``trainer.max_steps``.
        backbone_weights: UniMatch file (for MVSplat
            ``gmdepth-scale1-resumeflowthings-scannet-*.pth``, for DepthSplat
            ``gmflow-scale1-things-*.pth``) that ``fit`` initialises the backbone from; not read
            when a run is resumed, nor with ``weights``.
        weights: Weights to start from, for a new training with a fresh optimizer, and for
            validation, test and prediction: a name (``small``; ``mvsplat weights`` lists them), an
            address (``https://...``, ``hf://owner/repository/file``), or a file: a checkpoint of
            this package, a released one, or a state dict of either. The encoder's sizes and
            behaviours follow it: an option that says otherwise is an error. From a DepthSplat file
            of depth alone, prediction writes depth maps, and training starts with new weights for
            what makes Gaussians of depth. Not read with a ``ckpt_path``.
        metrics: What validation and test measure besides PSNR, SSIM and, where depth is known,
            AbsRel: classes derived from mvsplat.evaluation.Metric; logged as ``val/<name>``.
        compile: Compile the encoder's networks with ``torch.compile``, for GPUs: minutes at the
            start; needs a C++ compiler (on the CPU).
        learning_rate_factors: Factors of the learning rate for parts of the model, by the beginning
            of their parameters' names: ``encoder.depth.vit: 0.01`` is DepthSplat's.
        coarse_weight: Factor of all losses of what an encoder with several scales says at the depth
            of the coarsest, which is trained beside the finest (DepthSplat with two scales).
        vit_weights: DINOv2 or Depth Anything V2 file (``depth_anything_v2_vits.pth``) that ``fit``
            initialises DepthSplat's ViT from; read as ``backbone_weights`` is.
    """

    def __init__(
        self,
        encoder: Encoder | None = None,
        decoder: SplattingDecoder | None = None,
        losses: dict[str, Loss | None] | None = None,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.Adam(parameters, lr=2e-4),
        schedule: Schedule | None = OneCycle(),  # noqa: B008 -- holds no state
        max_steps: int = -1,
        backbone_weights: str | None = None,
        weights: str | None = None,
        compile: bool = False,
        metrics: list[Metric] | None = None,
        learning_rate_factors: dict[str, float] | None = None,
        coarse_weight: float = 0.9,
        vit_weights: str | None = None,
    ):
        super().__init__()
        # Weights of depth alone, as long as nothing has trained what makes Gaussians of it.
        self.depth_weights: str | None = None
        if weights is not None:
            found = read_weights(weights)
            encoder = _encoder_of(found, encoder)
            self.depth_weights = found.origin if found.of_depth else None
        self.encoder = CostVolumeEncoder() if encoder is None else encoder
        self.decoder = SplattingDecoder() if decoder is None else decoder
        chosen = {"mse": MSE(), "lpips": LPIPS()} | (losses or {})
        self.losses = nn.ModuleDict(
            {name: loss for name, loss in chosen.items() if loss and loss.weight}
        )
        self.build_optimizer = optimizer
        self.learning_rate_factors = learning_rate_factors or {}
        self.coarse_weight = coarse_weight
        self.schedule = schedule
        self.max_steps = max_steps
        # Weights to start from have a backbone of their own.
        self.backbone_weights = backbone_weights if weights is None else None
        self.vit_weights = vit_weights if weights is None else None
        self.metrics = with_standard(metrics or ())
        self._begin_scores()
        if compile:
            self.encoder.compile()

    def forward(self, views: Views) -> Gaussians:
        """The scene's Gaussians, from its context views."""
        return self.encoder(views)

    def render(self, gaussians: Gaussians, views: Views) -> Rendering:
        """The Gaussians seen by the views' cameras, at the size of the views' images.

        Gaussians with NaN or infinite values give NaN pictures, and NaN gradients.
        """
        size = (views.image.shape[-2], views.image.shape[-1])
        try:
            return self.decoder(
                gaussians, views.extrinsics, views.intrinsics, views.near, views.far, size
            )
        except GaussiansNotFinite:
            # With every part in it, so that processes that wait for gradients get all of them.
            parts = [getattr(gaussians, name).sum() for name in GAUSSIANS]
            color = (torch.stack(parts).sum() * torch.nan).expand_as(views.image)
            return Rendering(color, color[:, :, 0], color[:, :, 0])

    def setup(self, stage: str) -> None:
        if self.depth_weights is not None and stage in ("validate", "test"):
            raise ValueError(f"{self.depth_weights} {ALONE}")
        if stage != "predict":  # which renders nothing
            self.decoder.prepare(self.trainer.strategy.root_device)
        if stage != "fit":
            return
        if not self.losses:
            raise ValueError("model.losses is empty: there is nothing to minimise")
        for loss in self.losses.values():
            loss.prepare()  # type: ignore[operator]  # nn.ModuleDict forgets what it holds
        # DistributedDataParallel sends buffers around before every batch, for which processes with
        # unequal numbers of validation batches would wait; these are constants.
        stored = {name for name in self.state_dict() if not name.startswith("losses.")}
        self._ddp_params_and_buffers_to_ignore = [
            name for name, _ in self.named_buffers() if name not in stored
        ]

    def on_fit_start(self) -> None:
        # Only here does the trainer know whether it resumes.
        if self.trainer.ckpt_path is not None:
            return
        if self.depth_weights is not None:
            rank_zero_info(
                f"{self.depth_weights} holds weights of depth alone: what makes Gaussians "
                "of it starts with new ones."
            )
            self.depth_weights = None
        if self.backbone_weights is not None:
            load_backbone(self.encoder, self.backbone_weights)
        if self.vit_weights is not None:
            load_vit(self.encoder, self.vit_weights)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        gaussians = self.encoder(batch.context)
        rendering = self.render(gaussians, batch.target)
        total: Tensor | float = 0.0
        for name, loss in self.losses.items():
            value = loss(rendering, batch, gaussians)
            total = total + loss.weight * value
            self._log(f"train/{name}", value, batch)
        if gaussians.coarse is not None:
            coarse = self._coarse_loss(gaussians.coarse, batch)
            self._log("train/coarse", coarse, batch)
            total = total + self.coarse_weight * coarse
        self._log("train/loss", total, batch)
        with torch.no_grad():
            psnr = metrics.psnr(rendering.color, batch.target.image).mean()
        self._log("train/psnr", psnr, batch, prog_bar=True)
        return {"loss": total, "gaussians": gaussians, "rendering": rendering}

    def _coarse_loss(self, coarse: Gaussians, batch: Batch) -> Tensor:
        """The weighted sum of all losses of what is at the coarse depth."""
        rendering = self.render(coarse, batch.target)
        values = [loss.weight * loss(rendering, batch, coarse) for loss in self.losses.values()]
        return torch.stack(values).sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        return self._evaluate(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        return self._evaluate(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Gaussians | DepthEstimate:
        if self.depth_weights is not None:
            assert isinstance(self.encoder, DepthSplatEncoder)
            return self.encoder.depth(batch.context)
        gaussians = self.encoder(batch.context)
        if not self.decoder.fill:
            return gaussians
        return covered_scenes(gaussians, self.decoder, batch.context)  # no viewer fills

    def _evaluate(self, batch: Batch) -> dict[str, Any]:
        gaussians = self.encoder(batch.context)
        rendering = self.render(gaussians, batch.target)
        prediction = model_prediction(gaussians, rendering)
        scores = score_views(self.metrics, prediction, batch)
        for name, of_metric in scores.items():
            self._scores.add(name, of_metric.means, of_metric.known)
            for scene, failure in of_metric.failures.items():
                self._failures.setdefault(name, f"{failure}, in scene {batch.scene[scene]}")
        return {"gaussians": gaussians, "rendering": rendering, "scores": scores}

    def on_validation_epoch_start(self) -> None:
        self._begin_scores()

    def on_test_epoch_start(self) -> None:
        self._begin_scores()

    def _begin_scores(self) -> None:
        """Forget what an evaluation that was interrupted has left."""
        self._scores = SceneMeans(*(metric.name for metric in self.metrics))
        self._failures: dict[str, str] = {}

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        for name, mean in self._scores.take_means(self.trainer.strategy).items():
            # The same names and values in every process already.
            self.log(f"{stage}/{name}", mean, prog_bar=name == "psnr", batch_size=1, sync_dist=True)
        if self._failures:
            problem = "\n".join(f"the metric {failure}" for failure in self._failures.values())
            if self.trainer.state.fn != TrainerFn.FITTING or self.trainer.sanity_checking:
                raise ValueError(problem)
            warnings.warn(f"no score: {problem}")  # days of training do not end for it

    def _log(self, name: str, value: Tensor | float, batch: Batch, prog_bar: bool = False) -> None:
        self.log(name, value, prog_bar=prog_bar, batch_size=len(batch.scene), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self._optimizer()
        if self.schedule is None:
            return {"optimizer": optimizer}
        scheduler = self.schedule.build(optimizer, self.max_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _optimizer(self) -> torch.optim.Optimizer:
        if not self.learning_rate_factors:
            return self.build_optimizer(p for p in self.parameters() if p.requires_grad)
        groups = parameter_groups(self.named_parameters(), self.learning_rate_factors)
        return apply_factors(self.build_optimizer(groups))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[ACCUMULATED] = self.trainer.accumulate_grad_batches
        try:
            parts = {"encoder": self.encoder.config, "decoder": self.decoder.config}
        except TypeError as error:
            warnings.warn(f"mvsplat.load_model will not open this checkpoint: {error}")
            return
        checkpoint[CONFIG_KEY] = {"version": __version__, **parts, "views": self._trained_views()}

    def _trained_views(self) -> dict[str, Any]:
        """What the views of training are like, which ``mvsplat.reconstruct`` imitates."""
        data = getattr(self._trainer, "datamodule", None)
        settings = getattr(data, "settings", None)
        names = ("image_shape", "near", "far") if settings is not None else ()
        views = {name: to_primitives(getattr(settings, name), name) for name in names}
        samplers = getattr(data, "views", None)
        sampler = samplers.get("train") if isinstance(samplers, dict) else None
        if (counts := getattr(sampler, "view_counts", None)) is not None:
            views["context_views"] = list(counts)
        return views

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another model's checkpoint; what fits goes on from its last complete step."""
        self.check_checkpoint(checkpoint)
        self.depth_weights = None
        if self.trainer.state.fn == TrainerFn.FITTING:
            take_trained_weights(checkpoint)
            rewind_to_step(checkpoint, self.trainer.accumulate_grad_batches)
            take_optimizer_settings(checkpoint, self._optimizer())

    def check_start(self) -> None:
        """Refuse weights for parts of the encoder that do not fit, before anything takes time."""
        if self.backbone_weights is not None:
            check_backbone(self.encoder, self.backbone_weights)
        if self.vit_weights is not None:
            check_vit(self.encoder, self.vit_weights)

    def check_checkpoint(self, checkpoint: dict[str, Any], training: bool = False) -> None:
        """Refuse another model's weights with the settings that differ, not with tensor names.

        Args:
            checkpoint: The content of a checkpoint of ``fit``.
            training: Its optimizer must fit, too.

        Raises:
            ValueError: Tensors, behaviours or the optimizer differ.
        """
        check_weights(self.state_dict(), self.encoder, checkpoint)
        if training:
            check_optimizer(checkpoint, self._optimizer())


def _encoder_of(weights: Weights, encoder: Encoder | None) -> Encoder:
    """The encoder of given weights, in training mode: the one that was built for them, if any."""
    if encoder is None and weights.encoder is not None:
        return weights.start_encoder().train()
    encoder = CostVolumeEncoder() if encoder is None else encoder
    weights.load_into(encoder)
    return encoder


def load_model(checkpoint: str | Path, map_location: Any = "cpu") -> MVSplat:
    """The model of a checkpoint, in evaluation mode; no YAML is needed.

    Args:
        checkpoint: ``"small"``, which comes with the package, or another name that ``mvsplat
            weights`` lists; an address (``https://...``, ``hf://owner/repository/file``); a file
            that ``fit`` wrote, or a released checkpoint. Nothing in it is executed.
        map_location: The device to put the weights on.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: It cannot be downloaded; says where to place it by hand.
        ValueError: The file does not say what its model is, or cannot be read.
    """
    weights = read_weights(checkpoint)
    encoder, decoder = weights.build_encoder(), weights.build_decoder()
    return MVSplat(encoder, decoder, losses={"lpips": None}).to(map_location).eval()
