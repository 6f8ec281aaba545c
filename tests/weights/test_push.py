"""Weights to hand on: packed in half precision, described, uploaded, and used from there."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from stand_in_hub import HubHandler
from unreliable_server import UnreliableServer, serving

import mvsplat
from mvsplat.cli.commands.push import push
from mvsplat.weights import read_weights
from mvsplat.weights.packing import pack

KEPT = Path(__file__).parent.parent / "kept_run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was trained and tested."""
    folder = tmp_path_factory.mktemp("runs") / "rooms"
    shutil.copytree(KEPT / "checkpoints", folder / "checkpoints")
    shutil.copy(KEPT / "config.yaml", folder)
    scores = {"model": {"mean": {"psnr": 20.0}, "views": [{"frame": 1, "psnr": 20.0}]}}
    scene = {"context": [0, 2], "target": [1], "scores": scores}
    scenes = {"a": scene, "b": scene}
    (folder / "test").mkdir()
    (folder / "test" / "scores.json").write_text(json.dumps({"scenes": scenes}))
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MVSPLAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
def test_packed_weights_are_the_model_in_half_precision(program, run, tmp_path, ending):
    if ending == "safetensors":
        pytest.importorskip("safetensors")
    packed = tmp_path / f"rooms.{ending}"
    assert program("push", run, packed, "--good_for", "rooms of 32 pixels", config=False) == 0, (
        program.err
    )
    assert "--model.weights" in program.out
    weights = read_weights(packed)
    assert weights.good_for == "rooms of 32 pixels" and weights.about["configuration"] == "rooms"
    assert weights.about["steps"] == 2 and weights.about["scores"]["model"]["psnr"] == 20.0
    assert (
        weights.about["seed"]
        == yaml.safe_load((run / "config.yaml").read_text())["seed_everything"]
    )
    whole, half = mvsplat.load_model(run / "checkpoints" / "last.ckpt"), mvsplat.load_model(packed)
    assert half.encoder.config == whole.encoder.config
    assert half.decoder.config == whole.decoder.config
    for name, value in whole.encoder.state_dict().items():
        found = half.encoder.state_dict()[name]
        assert found.dtype == value.dtype == torch.float32
        torch.testing.assert_close(found, value, rtol=2**-11, atol=2**-25)
    state = whole.encoder.state_dict().values()
    assert packed.stat().st_size < sum(2 * value.numel() + 600 for value in state) + 20_000
    assert read_weights(packed).views == read_weights(run / "checkpoints" / "last.ckpt").views


def test_a_training_starts_from_packed_weights(program, run, tmp_path):
    push(str(run), str(tmp_path / "w.ckpt"))
    given = ["--model.encoder=null", "--model.weights", tmp_path / "w.ckpt"]
    assert program("fit", *given, "--trainer.max_steps=1") == 0, program.err
    written = torch.load(program.checkpoint(), weights_only=True)["state_dict"]
    for name, value in mvsplat.load_model(tmp_path / "w.ckpt").encoder.state_dict().items():
        torch.testing.assert_close(written[f"encoder.{name}"], value, rtol=0, atol=3e-4)


def test_what_cannot_be_packed(run, tmp_path):
    torch.save({"encoder.weight": torch.ones(1)}, tmp_path / "bare.pt")
    with pytest.raises(ValueError, match="bare.pt does not describe its model"):
        pack(tmp_path / "bare.pt", tmp_path / "w.ckpt", {})
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    name = next(n for n in content["state_dict"] if n.startswith("encoder."))
    content["state_dict"][name] = content["state_dict"][name] + 1e6
    torch.save(content, tmp_path / "large.ckpt")
    with pytest.raises(ValueError, match=f"large.ckpt: {name} has values that half"):
        pack(tmp_path / "large.ckpt", tmp_path / "w.ckpt", {})
    assert not (tmp_path / "w.ckpt").exists()


@pytest.mark.parametrize(
    ("run_name", "target", "expected"),
    [
        ("nowhere", "w.ckpt", "no run or checkpoint nowhere"),
        ("", "weights", "neither hf://owner/name nor a file ending in"),
        ("", "hf://me", "not of the form hf://owner/repository"),
        ("", "hf://me/room/w.pth", "neither hf://owner/name nor"),
    ],
)
def test_wrong_arguments(program, run, run_name, target, expected):
    assert program("push", run_name or run, target, config=False) == 2
    assert expected in program.err


@pytest.fixture
def hub(monkeypatch):
    pytest.importorskip("huggingface_hub")
    with serving(UnreliableServer(needs="secret"), HubHandler) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


def test_weights_go_to_the_hub_and_come_back(program, run, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    more = ["--licence", "mit", "--good_for", "rooms"]
    assert program("push", run, "hf://me/room", *more, config=False) == 0, program.err
    card = hub.files["/me/room/resolve/main/README.md"].decode()
    facts = yaml.safe_load(card.split("---")[1])
    assert facts["license"] == "mit" and facts["library_name"] == "mvsplat"
    for line in (
        "| model | 20 |",
        "mean of 2 test scenes",
        "* steps: 2",
        "--checkpoint hf://me/room",
    ):
        assert line in card
    weights = read_weights("hf://me/room")
    assert weights.good_for == "rooms" and weights.name == "hf://me/room"
    right = mvsplat.load_model(run / "checkpoints" / "last.ckpt").encoder
    assert weights.build_encoder().config == right.config


def test_the_hub_refuses(program, run, hub):
    assert program("push", run, "hf://me/room", config=False) == 2
    assert "cannot upload to me/room" in program.err and "HF_TOKEN" in program.err
    assert not hub.files


def test_without_the_hub_s_library(program, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert program("push", run, "hf://me/room", config=False) == 2
    assert "pip install 'mvsplat[hub]'" in program.err
    assert program("push", "hf://me/room", run, config=False) == 2, "the wrong way round"
