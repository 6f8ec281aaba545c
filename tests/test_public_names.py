"""Public names stay where other programs import them from."""

import re
from importlib import import_module
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
NAMES = {
    "mvsplat": """
        Batch CostVolumeEncoder DepthEstimate DepthSplatDepth DepthSplatEncoder Encoder Gaussians
        Loss MVSplat Reconstruction Rendering SplattingDecoder Views __version__ data evaluation
        export geometry load_model published reconstruct refine
    """,
    "mvsplat.data": """
        AllViewSampler AnyScenes ArbitraryViewSampler BoundedViewSampler ChunkScenes ColmapScenes
        ContextChoice DTUScenes EvaluationViewSampler FrameGaps GeneratedScenes LoaderSettings
        MiddleViewSampler NearestViews OverlapTiers RealEstate10KScenes Scene SceneDataModule
        SceneSource TransformsScenes UnsuitableScene ViewSampler WholeScene make_index open_scenes
        read_evaluation_index write_chunks write_evaluation_index
    """,
    "mvsplat.evaluation": """
        Comparison Difference METHODS METRICS Prediction Result Results compare evaluate
        extreme_scenes group_table groups load_results mean_scores median_timing merge
        paired_bootstrap print_results results_table save_comparison save_results score_batch
    """,
    "mvsplat.export": """
        Cameras Frame RenderedFrame color_depth color_error depth_unit load_cameras load_depth_png
        load_ply render_path save_cameras save_depth_npy save_depth_png save_ply save_png save_video
        sheet
    """,
    "mvsplat.viewer": "Item Viewer find_items",
    "mvsplat.published": "infer_arguments load_backbone load_depth load_encoder load_vit",
    "mvsplat.geometry.trajectories": """
        CameraPath mean_camera spin through_cameras visiting_order wobble
    """,
}
"""What each public module had when its names became a promise; more may come, none may go."""


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module in NAMES for name in NAMES[module].split()]
)
def test_public_names_are_importable(module, name):
    found = {}
    exec(f"from {module} import {name} as found", found)
    assert found["found"] is not None
    if module != "mvsplat.geometry.trajectories":
        assert name in import_module(module).__all__


@pytest.mark.parametrize("module", NAMES)
def test_star_imports_bring_what_is_public(module):
    found = {}
    exec(f"from {module} import *", found)
    assert not set(NAMES[module].split()) - set(found)


def resolve(path: str) -> object:
    """What a dotted path names, modules on the way imported."""
    found, parts = import_module("mvsplat"), path.split(".")[1:]
    for number, part in enumerate(parts, start=2):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = import_module(".".join(path.split(".")[:number]))
    return found


def names_in(text: str) -> set[str]:
    """Dotted names, and what lines like ``from mvsplat.viewer import Viewer`` name; no files."""
    dotted = {match.rstrip(".") for match in re.findall(r"(?<![\w./-])mvsplat(?:\.\w+)+", text)}
    imports = re.findall(r"from (mvsplat[\w.]*) import ([\w, ]+)", text)
    return dotted | {
        f"{module}.{name.split(' as ')[0].strip()}"
        for module, names in imports
        for name in names.split(",")
    }


def test_names_are_found_in_text():
    text = "`mvsplat.data.Scene`, x/mvsplat.png. from mvsplat.viewer import Viewer, Item as I\n"
    assert names_in(text) == {
        "mvsplat.data.Scene",
        "mvsplat.viewer",
        "mvsplat.viewer.Viewer",
        "mvsplat.viewer.Item",
    }
    assert resolve("mvsplat.viewer.Viewer").__name__ == "Viewer"
    with pytest.raises(ModuleNotFoundError, match="mvsplat.data.nothing"):
        resolve("mvsplat.data.nothing")


def test_the_readmes_names_exist():
    text = README.read_text(encoding="utf-8")
    groups = set(re.findall(r'entry-points\."(.+?)"', text))  # of entry points, no modules
    names = names_in(text) - groups
    assert names and groups
    for name in sorted(names):
        assert resolve(name) is not None, name
