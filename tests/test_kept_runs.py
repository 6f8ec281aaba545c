"""A run that version 0.1.0 left goes on working: loaded, resumed, tested, reconstructed with.

``kept_run/`` is what ``fit --config tests/configs/tiny.yaml`` with smaller sizes, a background and
``scale_range [0.5, 12]`` wrote in two steps; ``expected.npz`` is what its model then gave for
``views()``: every ``SAMPLED``-th Gaussian and every fourth pixel. ``explicit_arguments.json`` is
how a checkpoint described a model that was built in Python with most arguments left out.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mvsplat
from mvsplat.export import load_ply
from mvsplat.types import Views

KEPT = Path(__file__).parent / "kept_run"
CHECKPOINT = KEPT / "checkpoints" / "last.ckpt"
SAMPLED = 16


def pictures():
    """Two views of coloured waves, [2, 3, 32, 32]; the second is shifted by three pixels."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(35.0), indexing="ij")
    waves = [torch.sin(0.7 * x + 0.2 * y), torch.cos(0.5 * y - 0.1 * x), torch.sin(0.3 * (x + y))]
    wide = 0.5 + 0.4 * torch.stack(waves)
    return torch.stack([wide[:, :, :32], wide[:, :, 3:]])


def views():
    extrinsics = torch.eye(4).repeat(1, 2, 1, 1)
    extrinsics[0, 1, 0, 3] = 0.3
    return Views(
        image=pictures()[None],
        extrinsics=extrinsics,
        intrinsics=torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).repeat(1, 2, 1, 1),
        near=torch.full((1, 2), 1.0),
        far=torch.full((1, 2), 10.0),
    )


def test_load_model_gives_the_same_scene():
    expected = np.load(KEPT / "expected.npz")
    model = mvsplat.load_model(CHECKPOINT)
    with torch.no_grad():
        gaussians = model.encoder(views())
        color = model.render(gaussians, views()).color
    found = {n: getattr(gaussians, n)[0, ::SAMPLED] for n in expected.files if n != "color"}
    assert found.keys() == {"means", "scales", "rotations", "harmonics", "opacities"}
    found["color"] = color[0, :, :, ::4, ::4]
    for name, value in found.items():
        right = torch.from_numpy(expected[name])
        torch.testing.assert_close(value, right, rtol=1e-3, atol=1e-4, msg=name)


@pytest.fixture
def run(program):
    """A copy of the kept folder where the program writes."""
    shutil.copytree(KEPT, program.run_dir)
    return program.run_dir


def in_the_copy(program, run, command, *more):
    """Its own configuration is the only one."""
    paths = ["--run_dir", run, "--data.source.root", program.scenes]
    given = ["--config", run / "config.yaml", "--ckpt_path", "last", *paths, *more]
    return program(command, *given, config=False)


def test_a_kept_run_goes_on(program, run):
    assert in_the_copy(program, run, "fit", "--trainer.max_steps", "3") == 0, program.err
    files = (CHECKPOINT, run / "checkpoints" / "last.ckpt")
    before, after = (torch.load(file, weights_only=True) for file in files)
    assert (before["global_step"], after["global_step"]) == (2, 3)
    assert after["optimizer_states"][0]["state"][0]["step"] == 3, "Adam's moments went on"
    assert after["SceneDataModule"]["position"] == 3, "so did the data"
    moved = [(after["state_dict"][n] - w).abs().max() for n, w in before["state_dict"].items()]
    assert 0 < max(moved) < 1e-3


def test_a_kept_run_is_tested(program, run):
    assert in_the_copy(program, run, "test") == 0, program.err
    scores = json.loads((run / "test" / "scores.json").read_text())
    assert len(scores["scenes"]) == 3


def test_photos_are_reconstructed_with_a_kept_checkpoint(program, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    frames = []
    for index, (picture, pose) in enumerate(zip(pictures(), views().extrinsics[0], strict=True)):
        pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(photos / f"{index}.png")
        in_opengl = pose @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
        frames.append({"file_path": f"{index}.png", "transform_matrix": in_opengl.tolist()})
    camera = {"fl_x": 32, "fl_y": 32, "cx": 16, "cy": 16, "w": 32, "h": 32}
    (photos / "transforms.json").write_text(json.dumps({**camera, "frames": frames}))
    given = ["--checkpoint", CHECKPOINT, "--output", tmp_path / "scene", "--near", "1"]
    given += ["--refine", "off"]
    code = program("reconstruct", photos, *given, "--far", "10", config=False)
    assert code == 0, program.err
    found = load_ply(tmp_path / "scene" / "scene.ply")
    assert found.means.shape == (1, 2 * 32 * 32, 3)


def test_arguments_that_an_old_checkpoint_does_not_mention_are_the_defaults(tmp_path):
    described = json.loads((KEPT / "explicit_arguments.json").read_text())
    given = described["encoder"]["init_args"]
    assert "sh_degree" not in given and "attention_splits" not in given
    encoder = mvsplat.CostVolumeEncoder(**given)
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    torch.save({"mvsplat": described, "state_dict": weights}, tmp_path / "old.ckpt")
    model = mvsplat.load_model(tmp_path / "old.ckpt")
    assert model.decoder.background == (0.1, 0.2, 0.3)
    with torch.no_grad():
        found, expected = model.encoder(views()), encoder(views())
    assert found.harmonics.shape == (1, 2 * 32 * 32, 3, 16), "the published degree, 3"
    torch.testing.assert_close(found.means, expected.means)
