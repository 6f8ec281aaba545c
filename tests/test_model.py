"""The model over its life: trained, saved, resumed, loaded, and trained by two processes."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.data._utils.pin_memory import pin_memory

import mvsplat
from mvsplat.data.loading.loaders import LoadedBatch
from mvsplat.types import Batch, Views

TINY = Path(__file__).parent / "configs" / "tiny.yaml"


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def assert_equal_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def views(b=1, v=2, size=32):
    extrinsics = torch.eye(4).repeat(b, v, 1, 1)
    extrinsics[:, :, 0, 3] = torch.arange(v) * 0.3
    return Views(
        image=torch.rand(b, v, 3, size, size, generator=torch.Generator().manual_seed(0)),
        extrinsics=extrinsics,
        intrinsics=torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).repeat(b, v, 1, 1),
        near=torch.full((b, v), 1.0),
        far=torch.full((b, v), 10.0),
    )


def test_load_model_rebuilds_from_the_checkpoint_alone(program, tmp_path):
    assert program("fit", "--trainer.max_steps=1", "--model.encoder.sh_degree=1") == 0, program.err
    model = mvsplat.load_model(program.checkpoint())
    assert not model.training
    with torch.no_grad():
        gaussians = model.encoder(views())
        rendering = model.render(gaussians, views())
    assert gaussians.harmonics.shape[-1] == 4
    assert rendering.color.shape == (1, 2, 3, 32, 32)
    stored = weights(program.checkpoint())
    assert_equal_weights(dict(model.state_dict()), stored)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", {"state_dict": {}}, [1, 2]])
def test_load_model_refuses_other_files(tmp_path, content):
    file = tmp_path / "other.ckpt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match="other.ckpt"):
        mvsplat.load_model(file)
    with pytest.raises(FileNotFoundError, match="missing.ckpt"):
        mvsplat.load_model(tmp_path / "missing.ckpt")


def test_load_model_executes_nothing(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"mvsplat": Malicious()}, tmp_path / "malicious.ckpt")
    with pytest.raises(ValueError, match="malicious.ckpt"):
        mvsplat.load_model(tmp_path / "malicious.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_is_the_uninterrupted_one(program, workers):
    """Weights, data order, views, flips and schedule go on bit by bit."""
    arguments = [
        "--trainer.val_check_interval=4",
        f"--data.train_loader.num_workers={workers}",
        "--data.train_views.min_gap=2",
        "--checkpoint.every_n_steps=2",
    ]
    assert program("fit", "--trainer.max_steps=4", *arguments) == 0, program.err
    whole = weights(program.checkpoint())
    halfway = program.checkpoint("step-0000002")
    assert program("fit", "--trainer.max_steps=4", "--ckpt_path", halfway, *arguments) == 0, (
        program.err
    )
    assert_equal_weights(whole, weights(program.checkpoint()))


def test_another_models_checkpoint_names_the_setting(program):
    assert program("fit", "--trainer.max_steps=1") == 0, program.err
    code = program("test", "--ckpt_path=last", "--model.encoder.d_feature=24")
    assert code == 2
    assert "d_feature = 16 (here 24)" in program.err
    assert "config.yaml" in program.err


def test_pretrained_backbone_starts_training(program, tmp_path):
    assert program("fit", "--trainer.max_steps=1") == 0, program.err
    missing = tmp_path / "gmdepth.pth"
    assert program("fit", "--trainer.max_steps=1", f"--model.backbone_weights={missing}") == 2
    assert "gmdepth.pth" in program.err


def test_a_batch_moves_to_a_device_as_lightning_does_it():
    from lightning.fabric.utilities import move_data_to_device

    batch = Batch(views(), views(), ["a"])
    moved = move_data_to_device(batch, torch.device("meta"))
    assert moved.context.image.device.type == moved.target.near.device.type == "meta"
    assert moved.scene == ["a"] and moved.context.depth is None


class Moves(TorchFunctionMode):
    """Notes of every ``Tensor.to`` whether it was told not to block."""

    def __init__(self):
        super().__init__()
        self.non_blocking = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.to:
            self.non_blocking.append((kwargs or {}).get("non_blocking", False))
        return function(*args, **kwargs or {})


def complete_batch():
    """A batch with all that views can have: 7 tensors each."""
    full = replace(views(), index=torch.zeros(1, 2).long(), depth=torch.ones(1, 2, 32, 32))
    return Batch(full, replace(full), ["a"])


@pytest.mark.parametrize("device, waits", [("meta", False), ("cpu", True)])
def test_copies_of_a_batch_to_an_accelerator_do_not_block(device, waits):
    from lightning.fabric.utilities import move_data_to_device

    batch = complete_batch()
    with Moves() as moves:
        move_data_to_device(batch, torch.device(device))
    assert moves.non_blocking == [not waits] * 14


@pytest.mark.parametrize("loaded", [lambda batch: batch, LoadedBatch])
def test_a_loader_pins_every_tensor_of_a_batch(loaded, monkeypatch):
    """As torch's DataLoader does it, whether the loader is ours or somebody's own."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x) or x.clone())
    batch = complete_batch()
    result = pin_memory(loaded(batch))
    found = result.batch if isinstance(result, LoadedBatch) else result
    assert len(pinned) == 14
    assert found.scene == ["a"] and torch.equal(found.target.depth, batch.target.depth)
    assert found.context.image is not batch.context.image


def test_a_loader_pins_no_batch_where_all_scenes_were_skipped():
    assert pin_memory(LoadedBatch(None)).batch is None


def test_bfloat16_training_stays_finite(program):
    assert program("fit", "--trainer.precision=bf16-mixed") == 0, program.err
    for name, value in weights(program.checkpoint()).items():
        assert value.isfinite().all(), name
