"""One step of optimisation: render a photograph's view, compare, update what the view saw.

Whatever the engine, a step does the same; ``TorchEngine`` says what that is, and runs anywhere.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mvsplat.decoder import SplattingDecoder
from mvsplat.refinement.loss import photometric_loss
from mvsplat.refinement.parameters import FIELDS, Parameters, Rates
from mvsplat.refinement.photographs import Photograph
from mvsplat.types import Gaussians

BETAS = 0.9, 0.999
EPSILON = 1e-15
# Standard deviations that a footprint's radius spans.
REACH = 3.0
# Harmonics of higher degrees are kept, but not shown, as the decoder does if not told otherwise.
HIGHEST_DEGREE = 3


@dataclass
class StepResult:
    """What a step found out, about the Gaussians as they were before it.

    Args:
        loss: 0.8 L1 + 0.2 (1 - SSIM), see ``photometric_loss``.
        mse: Mean squared error of the rendering, exposed as the photograph and clipped to [0, 1].
        seen: Which Gaussians the view saw; only these were updated.
        screen_gradients: Length of the loss's gradient with respect to each Gaussian's position
            in the picture, in units of half the picture's width and height (as in 3DGS).
        absolute_gradients: The same of the sum over pixels of each one's absolute gradient (Ye et
            al., AbsGS, 2024), where the engine knows them.
        radii: Three standard deviations of each footprint in pixels, 0 where it was not seen.
        pose: Gradient with respect to a small motion xi = (turn, shift) of the camera in its own
            frame, extrinsics exp(xi).
        exposure: Gradient with respect to each channel's gain and offset; None without exposure.
    """

    loss: float
    mse: float
    seen: Bool[Tensor, " g"]
    screen_gradients: Float[Tensor, " g"]
    absolute_gradients: Float[Tensor, " g"] | None
    radii: Float[Tensor, " g"]
    pose: Float[Tensor, "6"]
    exposure: Float[Tensor, "3 2"] | None


@runtime_checkable
class Engine(Protocol):
    """Renders and optimises Gaussians."""

    def step(
        self,
        parameters: Parameters,
        photograph: Photograph,
        rates: Rates,
        near: float,
        degree: int,
        exposure: Float[Tensor, "3 2"] | None = None,
    ) -> StepResult:
        """Update, in place, the Gaussians that a photograph's view sees, by one step of Adam.

        Args:
            parameters: The Gaussians.
            photograph: At the size at which it is compared, with the camera to use.
            rates: Learning rates.
            near: The unit of the decoder's near plane.
            degree: Highest degree of harmonics that is shown and updated.
            exposure: Each channel's gain and offset, applied to the rendering.
        """
        ...

    def render(
        self, parameters: Parameters, photograph: Photograph, near: float, degree: int
    ) -> Float[Tensor, "3 h w"]:
        """The picture of a photograph's view, neither exposed nor clipped."""
        ...


class TorchEngine:
    """The splatting decoder, autograd, and Adam in torch; on CUDA through gsplat.

    Which Gaussians a view saw is told by their gradients: a Gaussian was seen if its opacity's is
    not 0. Screen-space gradients follow from those of the means, up to what a change of place does
    to colour and footprint.
    """

    def __init__(self) -> None:
        self._decoder = SplattingDecoder(sh_degree=HIGHEST_DEGREE)

    def step(
        self,
        parameters: Parameters,
        photograph: Photograph,
        rates: Rates,
        near: float,
        degree: int,
        exposure: Float[Tensor, "3 2"] | None = None,
    ) -> StepResult:
        """See :class:`Engine`."""
        leaves = {name: t.detach().requires_grad_() for name, t in parameters.tensors().items()}
        device = parameters.means.device
        pose = photograph.extrinsics.to(device, copy=True).requires_grad_()
        light = None if exposure is None else exposure.to(device, copy=True).requires_grad_()
        rendered = self._render(leaves, photograph, pose, near, degree)
        if light is not None:
            rendered = light[:, :1, None] * rendered + light[:, 1:, None]
        photo = photograph.pixels.to(device).float() / 255
        mask = None if photograph.mask is None else photograph.mask.to(device)
        loss = photometric_loss(rendered, photo, mask)
        inputs = [*leaves.values(), pose, *([] if light is None else [light])]
        gradients = torch.autograd.grad(loss, inputs)
        by_name = dict(zip(FIELDS, gradients))
        seen = by_name["opacity_logits"] != 0
        screen, radii = self._screen(parameters, photograph, by_name["means"])
        _update(parameters, by_name, seen, rates)
        return StepResult(
            loss=loss.item(),
            mse=masked_mse(rendered.detach(), photo, mask),
            seen=seen,
            screen_gradients=screen,
            absolute_gradients=None,
            radii=torch.where(seen, radii, 0),
            pose=twist_gradient(photograph.extrinsics, gradients[5]),
            exposure=None if light is None else gradients[6].cpu(),
        )

    def render(
        self, parameters: Parameters, photograph: Photograph, near: float, degree: int
    ) -> Float[Tensor, "3 h w"]:
        """See :class:`Engine`."""
        with torch.no_grad():
            pose = photograph.extrinsics.to(parameters.means.device)
            return self._render(parameters.tensors(), photograph, pose, near, degree)

    def _render(
        self,
        tensors: dict[str, Tensor],
        photograph: Photograph,
        pose: Tensor,
        near: float,
        degree: int,
    ) -> Tensor:
        means, log_scales, quaternions, harmonics, logits = tensors.values()
        shown = harmonics[..., : (degree + 1) ** 2]
        gaussians = Gaussians(
            means[None],
            log_scales[None].exp(),
            quaternions[None],
            shown[None],
            logits[None].sigmoid(),
        )
        intrinsics = photograph.intrinsics.to(pose)[None, None]
        unit = pose.new_full((1, 1), near)
        rendering = self._decoder(
            gaussians, pose[None, None], intrinsics, unit, unit, photograph.shape
        )
        return rendering.color[0, 0]

    @staticmethod
    def _screen(
        parameters: Parameters, photograph: Photograph, gradient: Float[Tensor, "g 3"]
    ) -> tuple[Float[Tensor, " g"], Float[Tensor, " g"]]:
        """Screen-space gradients and radii."""
        to_camera = torch.linalg.inv(photograph.extrinsics).to(gradient)
        height, width = photograph.shape
        depth = (parameters.means @ to_camera[2, :3] + to_camera[2, 3]).clamp(min=1e-9)
        # A move of half the picture is one of depth / (2 fx) in the scene.
        focal = photograph.intrinsics.diagonal()[:2].to(gradient)
        across = gradient @ to_camera[:2, :3].T * (depth[:, None] / (2 * focal))
        pixels = max(float(focal[0]) * width, float(focal[1]) * height)
        radii = REACH * parameters.log_scales.amax(dim=1).exp() * pixels / depth
        return across.norm(dim=1), radii


def masked_mse(rendered: Tensor, photo: Tensor, mask: Tensor | None) -> float:
    """Mean squared error of the pixels that count, of colours clipped to [0, 1]."""
    error = (rendered.clamp(0, 1) - photo).square().mean(dim=0)
    return float(error.mean() if mask is None else error[mask].mean() if mask.any() else 0.0)


def twist_gradient(
    extrinsics: Float[Tensor, "4 4"], gradient: Float[Tensor, "4 4"]
) -> Float[Tensor, "6"]:
    """From a gradient of extrinsics E to that of xi = (turn, shift) in E exp(xi), at xi = 0."""
    local = extrinsics[:3, :3].cpu().double().T @ gradient[:3].cpu().double()
    turn = torch.stack(
        [local[2, 1] - local[1, 2], local[0, 2] - local[2, 0], local[1, 0] - local[0, 1]]
    )
    return torch.cat([turn, local[:, 3]])


@torch.no_grad()
def _update(
    parameters: Parameters, gradients: dict[str, Tensor], seen: Tensor, rates: Rates
) -> None:
    """Adam for the Gaussians that were seen, each by the count of its own updates."""
    at = seen.nonzero()[:, 0]
    parameters.updates[at] += 1
    count = parameters.updates[at].double()
    for name, tensor in parameters.tensors().items():
        ones = (1,) * (tensor.ndim - 1)
        gradient = gradients[name][at]
        first = torch.lerp(gradient, parameters.first[name][at], BETAS[0])
        second = torch.lerp(gradient.square(), parameters.second[name][at], BETAS[1])
        parameters.first[name][at], parameters.second[name][at] = first, second
        lift = (1 - BETAS[0] ** count).float().view(-1, *ones)
        spread = (1 - BETAS[1] ** count).float().view(-1, *ones)
        rate = _rate(name, rates, tensor)
        tensor[at] -= rate * (first / lift) / ((second / spread).sqrt() + EPSILON)


def _rate(name: str, rates: Rates, tensor: Tensor) -> float | Tensor:
    if name != "harmonics":
        return getattr(rates, name)
    rate = tensor.new_full((tensor.shape[-1],), rates.harmonics_rest)
    rate[0] = rates.harmonics_base
    return rate
