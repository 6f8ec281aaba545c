"""Every ablation overlay trains a step."""

from pathlib import Path

import pytest

OVERLAYS = sorted((Path(__file__).parents[1] / "configs" / "ablations").glob("*.yaml"))


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_overlay_trains_a_step(program, overlay):
    assert program("fit", "--config", overlay, "--trainer.max_steps", "1") == 0, program.err
    assert program.checkpoint().is_file()


def test_there_is_an_overlay_for_each_published_ablation():
    assert len(OVERLAYS) == 7
