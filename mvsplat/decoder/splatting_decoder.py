"""The splatting decoder: Gaussians and cameras in, colour, depth and alpha out.

Conventions are those of gsplat (and 3DGS): 0.3 px^2 are added to every footprint, a contribution's
alpha is at most 0.999 and counts from 1/255, a pixel is finished at transmittance 1e-4, Gaussians
nearer than 0.2 are not drawn, colour is max(SH + 0.5, 0).
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvsplat.configurable import Configurable
from mvsplat.decoder import checks
from mvsplat.decoder.cameras import engine_cameras
from mvsplat.decoder.filling import fill_uncovered
from mvsplat.geometry.numbers_beside import numbers_beside
from mvsplat.geometry.spherical_harmonics import MAX_DEGREE, degree_of
from mvsplat.types import Gaussians, Rendering


class SplattingDecoder(Configurable, nn.Module):
    """Renders Gaussians, differentiably: gsplat on CUDA, our own rasterizer on CPUs.

    Gradients reach means, scales, rotations, harmonics, opacities and the cameras' extrinsics.

    Args:
        background: Colour (red, green, blue) behind the Gaussians.
        antialiased: Lower the opacity of Gaussians smaller than a pixel by what the dilation adds
            to their footprint (Mip-Splatting), so that they do not grow brighter far away.
        sh_degree: Highest spherical-harmonics degree to evaluate, 0 to 4; Gaussians with fewer
            coefficients are fine. The published models use 3.
        depth: What ``Rendering.depth`` holds: ``expected`` depth (alpha-weighted mean),
            ``accumulated`` depth (alpha-weighted sum) or ``disparity`` (1 / expected depth), along
            the optical axis, 0 where nothing was drawn.
        fill: Fill what no Gaussian covers from the colours around it, not with the background: what
            lies beyond the edges of all context views becomes a blurred continuation, where black
            would be far off. ``alpha`` tells what was filled. Renderings only; as no viewer fills,
            ``predict`` and ``reconstruct`` make the Gaussians that they write opaque and wide
            enough to look the same without.
        scale_invariant: Measure distances in units of each view's near bound, so that the fixed
            near plane (0.2 of it) suits scenes of any size; changes nothing else.
        engine: ``gsplat`` (CUDA), ``cpu`` (any device, computes on the CPU) or ``auto``: gsplat for
            tensors on CUDA, else cpu.
    """

    def __init__(
        self,
        background: tuple[float, float, float] | list[float] = (0.0, 0.0, 0.0),
        antialiased: bool = False,
        sh_degree: int = 3,
        depth: Literal["expected", "accumulated", "disparity"] = "expected",
        fill: bool = False,
        scale_invariant: bool = True,
        engine: Literal["auto", "gsplat", "cpu"] = "auto",
    ):
        super().__init__()
        if len(background) != 3:
            raise ValueError(f"background: {len(background)} numbers found, expected 3 (RGB)")
        if not 0 <= sh_degree <= MAX_DEGREE:
            raise ValueError(f"sh_degree: {sh_degree} found, expected 0 to {MAX_DEGREE}")
        for name, value, choices in (
            ("depth", depth, ("expected", "accumulated", "disparity")),
            ("engine", engine, ("auto", "gsplat", "cpu")),
        ):
            if value not in choices:
                raise ValueError(f"{name}: {value!r} found, expected one of {', '.join(choices)}")
        self.background = tuple(float(value) for value in background)
        self.antialiased = antialiased
        self.sh_degree = sh_degree
        self.depth = depth
        self.fill = fill
        self.scale_invariant = scale_invariant
        self.engine = engine

    def prepare(self, device: torch.device | str = "cpu") -> None:
        """Render a speck on ``device``, so that what must be compiled is compiled now.

        Otherwise this happens at the first call, where it looks like a hang.

        Raises:
            RuntimeError: gsplat cannot be built; says what is missing.
        """
        speck = Gaussians(
            means=torch.tensor([[[0.0, 0.0, 1.0]]], requires_grad=True),
            scales=torch.full((1, 1, 3), 0.1),
            rotations=torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]),
            harmonics=torch.zeros(1, 1, 3, 1),
            opacities=torch.ones(1, 1),
        ).to(device)
        pose, near = torch.eye(4, device=device)[None, None], torch.ones(1, 1, device=device)
        with torch.enable_grad():
            rendering = self(speck, pose, pose[..., :3, :3], near, near, (16, 16))
            rendering.color.sum().backward()

    def forward(
        self,
        gaussians: Gaussians,
        extrinsics: Float[Tensor, "b v 4 4"],
        intrinsics: Float[Tensor, "b v 3 3"],
        near: Float[Tensor, "b v"],
        far: Float[Tensor, "b v"],
        image_shape: tuple[int, int],
    ) -> Rendering:
        """Render every view of every scene, in float32 whatever the autocast state.

        Args:
            gaussians: b scenes.
            extrinsics: Camera-to-world matrices; gradients flow to them.
            intrinsics: Normalised intrinsics; principal point and skew are honoured.
            near: The unit of ``scale_invariant``.
            far: Not used: nothing is dropped for being far away. Part of a view's description.
            image_shape: Height and width in pixels.

        Raises:
            GaussiansNotFinite: A ValueError: NaN or infinite Gaussians, naming the field.
            ValueError: On other values that cannot be rendered, naming them, whatever the engine.
        """
        with torch.autocast(gaussians.means.device.type, enabled=False):
            return self._render(gaussians, extrinsics, intrinsics, near, image_shape)

    def _render(
        self,
        gaussians: Gaussians,
        extrinsics: Tensor,
        intrinsics: Tensor,
        near: Tensor,
        image_shape: tuple[int, int],
    ) -> Rendering:
        device = gaussians.means.device
        on_cuda = self.engine == "gsplat" or (self.engine == "auto" and device.type == "cuda")
        fields = {name: getattr(gaussians, name) for name in checks.GAUSSIANS}
        if on_cuda:
            pose, k, unit = extrinsics.float(), intrinsics.float(), near.float()
            is_finite: Callable[[Tensor], Tensor | bool] = checks.is_finite
            unread: tuple[str, ...] = ()
        else:  # cameras are few: in float64, a pixel's position loses nothing to them
            from mvsplat.decoder.cpu import checks as on_cpu  # numba takes a second

            # The operator reads the Gaussians' values.
            is_finite, unread = on_cpu.is_finite, checks.GAUSSIANS
            fields = {name: value.to("cpu", torch.float32) for name, value in fields.items()}
            pose, k, unit = (t.cpu().double() for t in (extrinsics, intrinsics, near))
        if not self.scale_invariant:
            unit = torch.ones_like(unit)
        cameras = {"extrinsics": pose, "intrinsics": k, "near": unit}
        if not torch.compiler.is_compiling():  # values cannot be read in a graph
            checks.check_inputs(fields | cameras, image_shape, is_finite, unread)
        to_camera, centers, lenses = engine_cameras(pose, k, unit, image_shape)
        engine = self._on_cuda if on_cuda else self._on_cpu
        shown = Gaussians(**fields)
        parts = engine(shown, to_camera, centers, lenses, *image_shape)
        color, depth, transmittance = (part.to(device) for part in parts)
        return self._finish(color, depth * unit.to(depth)[..., None, None], transmittance)

    def _finish(self, color: Tensor, depth: Tensor, transmittance: Tensor) -> Rendering:
        alpha = 1 - transmittance
        if self.fill:
            color = self._filled(color, transmittance)
        if self.depth != "accumulated":
            depth = depth / alpha.clamp(min=1e-10)
        if self.depth == "disparity":
            depth = torch.where(depth > 0, 1 / depth.clamp(min=1e-10), 0)
        return Rendering(color, depth, alpha)

    def _filled(
        self, color: Float[Tensor, "b v 3 h w"], transmittance: Float[Tensor, "b v h w"]
    ) -> Float[Tensor, "b v 3 h w"]:
        behind = numbers_beside(color, *self.background)
        uncovered = transmittance[:, :, None]
        of_gaussians = color - uncovered * behind[:, None, None]
        filled = fill_uncovered(of_gaussians.flatten(0, 1), 1 - uncovered.flatten(0, 1), behind)
        return filled.unflatten(0, color.shape[:2])

    def _degree(self, gaussians: Gaussians) -> int:
        return min(self.sh_degree, degree_of(gaussians.harmonics.shape[-1]))

    def _on_cpu(
        self,
        gaussians: Gaussians,
        cameras: Tensor,
        centers: Tensor,
        lenses: Tensor,
        height: int,
        width: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from mvsplat.decoder.cpu.operator import splat

        color, depth, transmittance, *_ = splat(
            *(getattr(gaussians, name) for name in checks.GAUSSIANS), cameras, centers, lenses,
            list(self.background), height, width, self._degree(gaussians), self.antialiased,
        )  # fmt: skip
        return color, depth, transmittance

    def _on_cuda(
        self,
        gaussians: Gaussians,
        cameras: Tensor,
        centers: Tensor,
        lenses: Tensor,
        height: int,
        width: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from mvsplat.decoder.gsplat_engine import splat

        return splat(
            gaussians, cameras, centers, lenses, self.background, height, width,
            self._degree(gaussians), self.antialiased,
        )  # fmt: skip
