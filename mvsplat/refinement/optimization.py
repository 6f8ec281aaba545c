"""Optimising Gaussians on photographs with cameras."""

from collections.abc import Sequence
from dataclasses import replace

from mvsplat.refinement.closeness import Anchor
from mvsplat.refinement.engine import Engine
from mvsplat.refinement.engines import engine_for
from mvsplat.refinement.judging import split_off
from mvsplat.refinement.outcome import CurvePoint, Progress, Refined, Report, Settings
from mvsplat.refinement.photographs import Photograph
from mvsplat.refinement.run import Run
from mvsplat.types import Gaussians

__all__ = ["CurvePoint", "Progress", "Refined", "Report", "Settings", "optimise", "split_off"]


def optimise(
    gaussians: Gaussians,
    photographs: Sequence[Photograph],
    near: float,
    settings: Settings | None = None,
    report: Report | None = None,
    engine: Engine | None = None,
    anchor: Anchor | None = None,
) -> Refined:
    """Optimise one scene's Gaussians on photographs of it.

    Of six photographs or more, some judge the scene before they are trained on, too: if the scene
    becomes worse for them, the best step is taken. With fewer, the Gaussians stay close to their
    start, and make few steps.

    Args:
        gaussians: Where to start from.
        photographs: To compare with; those that judge are among them.
        near: Nearest depth of the scene, the unit of steps and of the near plane.
        settings: How; None takes the defaults.
        report: Told after every step how far it is; KeyboardInterrupt ends optimising with the best
            so far.
        engine: What makes the steps; None takes the fastest for the Gaussians' device.
        anchor: For few photographs: what the network knew of the Gaussians; None finds it out if
            they come from an encoder that saw these photographs in this order.

    Raises:
        SceneDoesNotFit: A ValueError: Gaussians and photographs do not belong together.
        ValueError: There is nothing to optimise, or nothing to compare with, or memory is too
            small.
    """
    if not photographs:
        raise ValueError("there is no photograph to compare with")
    engine = engine or engine_for(gaussians.means.device)
    run = Run(gaussians, list(photographs), near, settings or Settings(), engine, anchor)
    interrupted = False
    try:
        run.all_steps(report)
    except KeyboardInterrupt:
        interrupted = True
        if run.step:  # what there is now may be the best so far
            run.check()
    return replace(run.result(), interrupted=interrupted)
