"""A splat of any origin, refined on photographs with cameras, as a scene with scores and report."""

from pathlib import Path
from typing import Any

from mvsplat.decoder import SplattingDecoder
from mvsplat.export.splats import load_splat
from mvsplat.geometry.spherical_harmonics import MAX_DEGREE
from mvsplat.reconstruction.checkpoint import device_named
from mvsplat.reconstruction.choosing import HeldOut, WantedDepth, choose_readable
from mvsplat.reconstruction.inputs import open_posed
from mvsplat.reconstruction.refinement import refine_on, refinement_settings
from mvsplat.reconstruction.result import Reconstruction
from mvsplat.reconstruction.stages import Stages
from mvsplat.reconstruction.unrefined import Unrefined
from mvsplat.refinement.optimization import Settings
from mvsplat.refinement.photographs import DEFAULT_SIZE

_USUAL_BOUNDS = 1.0, 100.0


def refine_splat(
    splat: str | Path,
    photos: Any,
    near: float | None = None,
    far: float | None = None,
    scene: str | None = None,
    max_photos: int | None = None,
    held_out: HeldOut = "auto",
    seconds: float | None = None,
    refine_steps: int | None = None,
    refine_size: int = DEFAULT_SIZE,
    max_gaussians: int = Settings.max_gaussians,
    refine_poses: bool = True,
    refine_exposures: bool = True,
    device: str = "auto",
    seed: int = 0,
    format: str = "auto",
    activated: bool | None = None,
    stages: Stages | None = None,
) -> Reconstruction:
    """Refine a splat on photographs whose cameras are in its frame and unit.

    Args:
        splat: A file of any format that is read.
        photos: Data with cameras in any format that is read (a COLMAP model, a transforms.json
            ...); from Python also a Scene. Pixels do not count that are transparent, or black in
            masks/NAME.png in or beside the photos' folder.
        near: Nearest depth of the scene; null takes that of the data, or estimates it.
        far: Farthest depth; as for near.
        scene: Which scene, where the data has several; null takes the first.
        max_photos: Refine on so many photos only, chosen by overlap, baseline and coverage; null
            takes all that are not held out.
        held_out: Photos that the scene is compared with and never optimised on: how many, evenly
            spread, or a list of their names; auto takes every 8th one (the 4th, the 12th ...), at
            most 12, and none of fewer than 6 photos; 0 uses every photo for the scene.
        seconds: How long to optimise; null takes a number of steps that suits the photos, about a
            minute on two cores.
        refine_steps: Optimise by so many steps instead.
        refine_size: Longer side in pixels of the photos that the scene is optimised on and compared
            with; smaller ones are never enlarged.
        max_gaussians: Optimising adds Gaussians up to this number.
        refine_poses: Correct the cameras while optimising.
        refine_exposures: Allow for each photo's exposure while optimising.
        device: Where to compute: cpu, cuda, or auto.
        seed: Of everything random; the same seed gives the same scene, unless seconds are given.
        format: What the photos are: a reader's name (chunks, transforms, colmap, dtu ...), or the
            import path of your own; auto looks.
        activated: Whether a PLY file stores opacities and scales as they are, as some feed-forward
            programs do, and not as logits and logarithms; null finds out and says so.
        stages: Told about progress, and asked for times afterwards.

    Raises:
        FileNotFoundError: There is no such splat, or no such data.
        ValueError: One of them cannot be used, or they do not belong together.
    """
    stages = stages or Stages()
    settings = refinement_settings(
        "auto" if seconds is None else seconds,
        refine_steps,
        refine_size,
        max_gaussians,
        refine_poses,
        refine_exposures,
        seed,
    )
    assert settings is not None, "it is not off"
    on = device_named(device)
    with stages.stage("Reading the splat"):
        gaussians = load_splat(splat, activated).to(on)
    with stages.stage("Opening the input"):
        found = open_posed(photos, scene, format)
    bounds = WantedDepth(near, far, _USUAL_BOUNDS)
    with stages.stage("Choosing photos"):
        chosen = choose_readable(found, bounds, max_photos, held_out, refine_size, stages)
    decoder = SplattingDecoder(sh_degree=MAX_DEGREE).eval()
    before = Unrefined(gaussians, decoder, f"the splat {Path(splat).name}")
    refinement = refine_on(chosen.used, before, chosen.depth.bounds, settings, stages)
    return Reconstruction(
        before,
        chosen.source,
        chosen.used,
        chosen.held_out,
        chosen.depth.bounds,
        stages,
        refinement,
    )
