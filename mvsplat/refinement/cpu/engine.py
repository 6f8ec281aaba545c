"""Steps on the CPU: direct calls of the rasterizer's kernels, the loss's and Adam's."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvsplat.decoder.cameras import engine_cameras, extrinsics_gradient
from mvsplat.decoder.cpu import rasterizer
from mvsplat.decoder.cpu.buffers import KeptBuffers, fresh
from mvsplat.decoder.cpu.composite_backward import PAIR
from mvsplat.decoder.cpu.operator import scene_arrays
from mvsplat.decoder.cpu.project_backward import CAMERA, SCREEN
from mvsplat.decoder.cpu.threads import run_all
from mvsplat.refinement.cpu import update_seen as us
from mvsplat.refinement.cpu.photometric import compare
from mvsplat.refinement.engine import HIGHEST_DEGREE, StepResult, twist_gradient
from mvsplat.refinement.parameters import FIELDS, Parameters, Rates
from mvsplat.refinement.photographs import Photograph

_BLACK = np.zeros(3, dtype=np.float32)


class CpuEngine:
    """What ``TorchEngine`` does, without autograd and without writing what is used only once.

    Footprints are known here, so that screen-space gradients, also absolute ones, and radii are
    exact. Results are the same bits for any number of threads. An engine keeps its arrays between
    steps (about 300 bytes a Gaussian in view); it is not for several threads at once.
    """

    def __init__(self) -> None:
        self._allocate = KeptBuffers()
        self._corrections = us.corrections()

    @property
    def bytes_kept(self) -> int:
        """Memory that is kept between steps."""
        return self._allocate.nbytes

    def step(
        self,
        parameters: Parameters,
        photograph: Photograph,
        rates: Rates,
        near: float,
        degree: int,
        exposure: Float[Tensor, "3 2"] | None = None,
    ) -> StepResult:
        """See :class:`~mvsplat.refinement.engine.Engine`."""
        scene = self._scene(parameters, photograph, near, degree)
        lists = rasterizer.build_lists(scene, self._allocate)
        color, _, transmittance, last = rasterizer.render(
            lists, _BLACK, *photograph.shape, self._allocate, with_depth=False
        )
        compared = compare(
            color[0, 0],
            photograph.pixels.numpy(),
            None if photograph.mask is None else photograph.mask.numpy(),
            None if exposure is None else exposure.numpy(),
            self._allocate,
        )
        outputs = (compared.gradient[None, None], None, None, transmittance, last)
        pairs = rasterizer.composite_gradients(lists, _BLACK, outputs, True, self._allocate)
        found, grad_cameras = self._update(parameters, scene, lists, pairs, rates)
        rows, center = (
            torch.from_numpy(part[0, 0]) for part in rasterizer.camera_gradients(grad_cameras)
        )
        pose = extrinsics_gradient(photograph.extrinsics, photograph.intrinsics, near, rows, center)
        return StepResult(
            loss=compared.loss,
            mse=compared.mse,
            seen=torch.from_numpy(found.seen),
            screen_gradients=torch.from_numpy(found.signed),
            absolute_gradients=torch.from_numpy(found.absolute),
            radii=torch.from_numpy(found.radii),
            pose=twist_gradient(photograph.extrinsics, pose),
            exposure=None if exposure is None else torch.from_numpy(compared.exposure).float(),
        )

    def render(
        self, parameters: Parameters, photograph: Photograph, near: float, degree: int
    ) -> Float[Tensor, "3 h w"]:
        """See :class:`~mvsplat.refinement.engine.Engine`."""
        scene = self._scene(parameters, photograph, near, degree)
        lists = rasterizer.build_lists(scene, self._allocate)
        color, *_ = rasterizer.render(lists, _BLACK, *photograph.shape, with_depth=False)
        return torch.from_numpy(color[0, 0])

    def _scene(
        self, parameters: Parameters, photograph: Photograph, near: float, degree: int
    ) -> rasterizer.SplatArrays:
        """The parameters, bounded again, and the view as the kernels know them."""
        scales, opacities = (
            torch.from_numpy(self._allocate(name, tuple(tensor.shape), np.float32))
            for name, tensor in (
                ("scales", parameters.log_scales),
                ("opacities", parameters.opacity_logits),
            )
        )
        torch.exp(parameters.log_scales, out=scales)
        torch.sigmoid(parameters.opacity_logits, out=opacities)
        cameras = engine_cameras(
            photograph.extrinsics[None, None],
            photograph.intrinsics[None, None],
            torch.tensor([[near]], dtype=torch.float64),
            photograph.shape,
        )
        fields = parameters.means, scales, parameters.quaternions, parameters.harmonics, opacities
        return scene_arrays(
            [*(field[None] for field in fields), *cameras],
            *photograph.shape,
            min(degree, parameters.degree, HIGHEST_DEGREE),
            False,
        )

    def _update(
        self,
        parameters: Parameters,
        scene: rasterizer.SplatArrays,
        lists: rasterizer.TileLists,
        pairs: rasterizer.PairGradients,
        rates: Rates,
    ) -> tuple["_Seen", np.ndarray]:
        """Adam for what the view saw; returns that, and the shares of the camera's gradient."""
        count, coefficients = len(parameters), parameters.harmonics.shape[-1]
        chunks = rasterizer.chunks_of(count)
        found = _Seen(*(np.zeros(count, kind) for kind in (bool, *[np.float32] * 3)))
        grad_cameras = np.zeros((1, len(chunks), 1, CAMERA))
        screen = self._allocate("screen gradients", (1, 1, count, SCREEN), np.float32)
        state = [
            _flat(tensors)
            for tensors in (parameters.tensors(), parameters.first, parameters.second)
        ]
        row = _rates(rates, coefficients)
        run_all(
            us.update_seen,
            [
                (
                    *scene, *chunk, lists.records, lists.slots, *pairs, screen,
                    *state, parameters.updates.numpy(), row, self._corrections,
                    grad_cameras[0, c], *found, *_scratch(coefficients),
                )
                for c, chunk in enumerate(chunks)
            ],
        )  # fmt: skip
        return found, grad_cameras


class _Seen(NamedTuple):
    """What a view saw; see ``kernel update_seen``."""

    seen: np.ndarray
    signed: np.ndarray
    absolute: np.ndarray
    radii: np.ndarray


def _flat(tensors: dict[str, Tensor]) -> tuple[np.ndarray, ...]:
    """The five fields as the kernel takes them, no copies."""
    arrays = [tensors[name].numpy() for name in FIELDS]
    assert all(array.flags.c_contiguous for array in arrays)
    means, log_scales, quaternions, harmonics, logits = arrays
    return (
        means.reshape(-1), log_scales.reshape(-1), quaternions.reshape(-1),
        harmonics.reshape(len(means), -1), logits,
    )  # fmt: skip


def _rates(rates: Rates, coefficients: int) -> np.ndarray:
    """Every lane's learning rate."""
    row = np.zeros(us.row_length(coefficients), dtype=np.float32)
    row[us.MEAN : us.LOG_SCALE] = rates.means
    row[us.LOG_SCALE : us.QUATERNION] = rates.log_scales
    row[us.QUATERNION : us.LOGIT] = rates.quaternions
    row[us.LOGIT] = rates.opacity_logits
    harmonics = row[us.HARMONICS : us.HARMONICS + 3 * coefficients]
    harmonics[:] = rates.harmonics_rest
    harmonics[::coefficients] = rates.harmonics_base
    return row


def _scratch(coefficients: int) -> tuple[np.ndarray, ...]:
    """A job's row of gradients, its harmonics, and what else the kernel asks for."""
    gradient = fresh("gradient", (us.row_length(coefficients),))
    gradient[:] = 0
    harmonics = gradient[us.HARMONICS : us.HARMONICS + 3 * coefficients].reshape(3, coefficients)
    return (
        gradient, harmonics,
        np.empty(25, np.float32), np.empty(25, np.float32), np.empty(PAIR + 12),
    )  # fmt: skip
