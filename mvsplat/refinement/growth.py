"""Growing and pruning: Gaussians are split where the pictures ask for detail, faint ones go.

What asks for detail is a Gaussian whose pixels pull it about, to whichever sides: the sum of their
absolute gradients (AbsGS, Ye et al. 2024). How many are split follows from a budget, as in Taming
3DGS (Mallick et al. 2024), not from a threshold on gradients, whose size depends on the scene, the
pictures and the loss. A Gaussian is split across its longest axis, which measured better than
3DGS's random places. (gsplat's own strategies need CUDA for relocation and noise, and one torch
optimiser a field.)
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from mvsplat.geometry.rotations import quaternion_to_matrix
from mvsplat.refinement.engine import StepResult
from mvsplat.refinement.parameters import Parameters

# Fainter Gaussians are removed.
_FAINT = 0.005
# A half's place and length, in standard deviations of the whole along the axis; across it, it
# becomes a little thinner, as two of the same opacity cover more.
_HALF_AT, _HALF_LENGTH, _THINNER = 0.5, 0.6, 0.9


class Growth:
    """Remembers how much the pictures pull at every Gaussian, and splits those with the most."""

    def __init__(self, parameters: Parameters) -> None:
        self._forget(parameters)

    def _forget(self, parameters: Parameters) -> None:
        self._pull = torch.zeros(len(parameters), device=parameters.means.device)
        self._views = torch.zeros_like(self._pull)

    def note(self, found: StepResult) -> None:
        """Remember what a step found."""
        pull = found.absolute_gradients
        self._pull += found.screen_gradients if pull is None else pull
        self._views += found.seen

    def grow(self, parameters: Parameters, target: int) -> None:
        """Remove faint Gaussians, then split so that there are at most ``target``.

        None is removed for the target's sake.
        """
        pull = self._pull / self._views.clamp(min=1)
        kept = parameters.opacity_logits.sigmoid() >= _FAINT
        if not kept.all() and kept.any():
            parameters.keep(kept)
            pull = pull[kept]
        room = min(target - len(parameters), int((pull > 0).sum()))
        if room > 0:
            chosen = torch.zeros_like(pull, dtype=torch.bool)
            chosen[pull.topk(room).indices] = True
            split(parameters, chosen)
        self._forget(parameters)


def split(parameters: Parameters, chosen: Bool[Tensor, " g"]) -> None:
    """Two shorter Gaussians side by side along the longest axis in place of each chosen one."""
    whole = {name: tensor[chosen] for name, tensor in parameters.tensors().items()}
    longest = whole["log_scales"].argmax(dim=1, keepdim=True)
    length = whole["log_scales"].gather(1, longest)
    axes = quaternion_to_matrix(whole["quaternions"])
    axis = torch.take_along_dim(axes, longest[:, None, :], dim=2)[..., 0]
    thinner = whole["log_scales"] + torch.tensor(_THINNER).log()
    narrow = thinner.scatter(1, longest, length + torch.tensor(_HALF_LENGTH * _THINNER).log())
    shift = _HALF_AT * length.exp() * axis
    parameters.keep(~chosen)
    for means in (whole["means"] + shift, whole["means"] - shift):
        half = {**whole, "means": means, "log_scales": narrow}
        parameters.append(Parameters.fresh(*half.values()))
