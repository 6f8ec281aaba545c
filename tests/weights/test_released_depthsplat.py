"""Released files of DepthSplat in the commands: with Gaussians, and of depth alone."""

import re

import numpy as np
import pytest
import torch
import yaml
from tiny_depthsplat import published_state, small_depthsplat

import mvsplat
from mvsplat import published
from mvsplat.encoder.initialization import nothing_drawn
from mvsplat.export import load_depth_png

NULL = ["--model.encoder=null"]
DEPTH_ALONE = "is a DepthSplat checkpoint of depth alone, .* depthsplat-gs-.* would fit"


def random_views() -> mvsplat.Views:
    """Two views of 32x32 pixels, side by side."""
    extrinsics = torch.eye(4).repeat(1, 2, 1, 1)
    extrinsics[0, 1, 0, 3] = 0.3
    lens = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]]).repeat(1, 2, 1, 1)
    bounds = torch.full((1, 2), 1.0)
    return mvsplat.Views(torch.rand(1, 2, 3, 32, 32), extrinsics, lens, bounds, 20 * bounds)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file with Gaussians, and one of depth alone."""
    folder, model = tmp_path_factory.mktemp("released"), small_depthsplat("small")
    torch.save({"state_dict": published_state(model)}, folder / "gs.pth")
    torch.save({"model": published_state(model.depth)}, folder / "depth.pth")
    return folder


@pytest.fixture(scope="module")
def depth_file(files):
    return files / "depth.pth"


def trained(program):
    """The encoder of the last checkpoint as it was configured, and its tensors."""
    written = torch.load(program.checkpoint(), weights_only=True)
    state = written["state_dict"]
    return written["mvsplat"]["encoder"], {
        n[8:]: x for n, x in state.items() if n[:8] == "encoder."
    }


# Of depth alone


def test_prediction_writes_depth_maps(program, depth_file, caplog):
    arguments = [*NULL, "--model.weights", depth_file, "--predictions.depth=[png,npy]"]
    assert program("predict", *arguments) == 0, program.err
    assert "depth.pth holds depth alone: no Gaussians are written, and no films" in caplog.text
    folder = program.run_dir / "predictions"
    scenes = sorted(folder.iterdir())
    assert len(scenes) == 3 and all(scene.is_dir() for scene in scenes), "no splats, no films"
    names = sorted(re.sub(r"^\d+", "N", path.name) for path in scenes[0].iterdir())
    assert names == sorted(["N.png", "N_depth.npy", "N_depth.png"] * 2)
    depth = np.load(next(scenes[0].glob("*_depth.npy")))
    assert depth.shape == (32, 32) and 1 <= depth.min() < depth.max() <= 10
    rounded = load_depth_png(next(scenes[0].glob("*_depth.png")))
    assert np.abs(rounded.numpy() - depth).max() < 1e-3


def test_predicted_depth_is_the_models(depth_file):
    views = random_views()
    model = mvsplat.MVSplat(weights=str(depth_file)).eval()
    batch = mvsplat.Batch(views, views, ["one"])
    expected = published.load_depth(depth_file)(views).depth
    torch.testing.assert_close(model.predict_step(batch, 0).depth, expected)


@pytest.mark.parametrize("command", ["validate", "test"])
def test_scores_of_depth_alone_are_refused(program, depth_file, tmp_path, command):
    fresh = tmp_path / "fresh"
    arguments = [*NULL, "--model.weights", depth_file, f"--data.source.root={fresh}"]
    assert program(command, *arguments) == 2
    assert re.search(f"depth.pth {DEPTH_ALONE}", program.err)
    assert not fresh.exists()
    # From Python, too.
    with pytest.raises(ValueError, match=f"depth.pth {DEPTH_ALONE}"):
        mvsplat.MVSplat(weights=str(depth_file)).setup(command)


def test_loading_gaussians_from_depth_alone_is_refused(depth_file):
    for load in (published.load_encoder, mvsplat.load_model):
        with pytest.raises(ValueError, match=f"depth.pth {DEPTH_ALONE}"):
            load(depth_file)


def test_a_training_starts_from_depth_alone(program, depth_file, caplog):
    options = [*NULL, "--model.weights", depth_file, "--trainer.max_steps=1"]
    assert program("fit", *options) == 0, program.err
    assert "depth.pth holds weights of depth alone: what makes Gaussians" in caplog.text
    config, state = trained(program)
    assert config["class_path"] == "mvsplat.DepthSplatEncoder"
    arguments = config["init_args"]
    assert arguments["vit_width"] == 64 and arguments["published_metric_depth"]
    # Of what makes Gaussians: twice the other DPT head's width, as in all released models.
    assert arguments["feature_width"] == 16 and not arguments["published_world_scales"]
    for name, value in published.load_depth(depth_file).state_dict().items():
        # One step of Adam moves every number by at most its learning rate, 2e-4.
        torch.testing.assert_close(state[f"depth.{name}"], value, rtol=0, atol=3e-4)
    # It has Gaussians from now on.
    assert mvsplat.load_model(program.checkpoint()).encoder.config == config


def test_what_makes_gaussians_is_as_configured(program, depth_file):
    options = ["--model.encoder=DepthSplatEncoder", "--model.encoder.feature_width=8"]
    given = [*options, "--model.encoder.sh_degree=0", "--model.weights", depth_file]
    assert program("fit", *NULL, *given, "--trainer.max_steps=1") == 0, program.err
    arguments = trained(program)[0]["init_args"]
    assert (arguments["feature_width"], arguments["sh_degree"]) == (8, 0)
    assert program("fit", *NULL, *given, "--model.encoder.scales=2") == 2
    assert "model.encoder.scales is 2 (there 1)" in program.err


# With Gaussians


def test_bounds_of_the_scale_are_those_of_the_file_or_as_configured(program, files):
    assert mvsplat.MVSplat(weights=str(files / "gs.pth")).encoder.adapter.scale_range == (1e-10, 3)
    named = [*NULL, "--model.encoder=DepthSplatEncoder", "--model.weights", files / "gs.pth"]
    step = "--trainer.max_steps=1"
    assert program("fit", *named, step) == 0, program.err
    assert mvsplat.load_model(program.checkpoint()).encoder.adapter.scale_range == (1e-10, 3.0)
    assert program("fit", *named, step, "--model.encoder.scale_range=[1e-10,0.1]") == 0, program.err
    assert mvsplat.load_model(program.checkpoint()).encoder.adapter.scale_range == (1e-10, 0.1)
    saved = yaml.safe_load((program.run_dir / "config.yaml").read_text())["model"]["encoder"]
    assert [float(bound) for bound in saved["init_args"]["scale_range"]] == [1e-10, 0.1]


def test_new_trainings_have_bounds_of_their_own():
    assert small_depthsplat().adapter.scale_range == (0.5, 15.0)
    assert small_depthsplat(published_world_scales=True).adapter.scale_range == (1e-10, 3.0)


# Loading draws nothing


def test_loading_takes_no_random_numbers(files):
    expected = published.load_encoder(files / "gs.pth").state_dict()
    for load in (
        lambda: published.load_encoder(files / "gs.pth"),
        lambda: mvsplat.load_model(files / "gs.pth").encoder,
    ):
        before = torch.random.get_rng_state()
        state = load().state_dict()
        assert torch.equal(torch.random.get_rng_state(), before)
        for name, value in state.items():
            assert torch.equal(value, expected[name]), name


def test_what_is_drawn_is_as_ever_afterwards():
    def weight():
        torch.manual_seed(0)
        return torch.nn.Linear(3, 3).weight

    expected = weight()
    with nothing_drawn():
        before = torch.random.get_rng_state()
        torch.nn.Conv2d(3, 3, 3), torch.nn.Linear(3, 3), torch.nn.init.normal_(torch.ones(3))
        # Which draws until all numbers are within two standard deviations, whatever was there.
        assert not torch.nn.init.trunc_normal_(torch.full((3,), 9.0)).any()
        assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(weight(), expected)
