"""Private names of other libraries: still there, as we use them, and only in one module of ours."""

import ast
from pathlib import Path

import numba
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info

import mvsplat
from mvsplat import private_names

PACKAGE = Path(mvsplat.__file__).parent
# Documented in spite of their names.
DOCUMENTED = {"_replace", "_asdict", "_fields", "_exit"}


class Line(LightningModule):
    """A line fitted to numbers, with a schedule."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch):
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Numbers(Dataset):
    def __len__(self):
        return 9

    def __getitem__(self, index):
        return torch.tensor([float(index)])


class StopAfterFour(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 3:
            private_names.stop_after_batch(trainer)


def test_a_trainer_stops_and_tells_its_state(make_trainer, tmp_path):
    trainer, model = make_trainer(StopAfterFour(), max_steps=9), Line()
    with pytest.raises((SIGTERMException, SystemExit)):
        trainer.fit(model, DataLoader(Numbers(), num_workers=0))
    counts = private_names.batch_progress(trainer)
    assert trainer.global_step == counts.total.ready == counts.current.processed == 4
    assert not counts.is_last_batch
    schedule = private_names.schedule_progress(trainer)
    assert schedule.ready == schedule.completed == 0  # it steps at the end of an epoch
    dumped = private_names.dump_checkpoint(trainer)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    saved = torch.load(tmp_path / "saved.ckpt", weights_only=True)
    assert dumped["global_step"] == 4 and dumped.keys() == saved.keys()
    assert torch.equal(dumped["state_dict"]["layer.weight"], saved["state_dict"]["layer.weight"])


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (
            LightningCLI,
            ["_get", "_instantiate_trainer", "_parse_ckpt_path", "_prepare_subcommand_parser"],
        ),
        (RichProgressBar, ["_get_train_description", "_update"]),
    ],
)
def test_what_we_override_is_still_there(cls, names):
    """One that is gone would be "overridden" without a word."""
    for name in names:
        assert callable(getattr(cls, name))


def test_a_parsers_options():
    parser = ArgumentParser()
    parser.add_argument("--count", type=int | None, help="How many.")
    option = next(o for o in private_names.options_of(parser) if o.dest == "count")
    assert option.help == "How many." and private_names.type_of(option) == (int | None)
    assert private_names.type_of(private_names.options_of(parser)[0]) is None  # --help


class Worker(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return get_worker_info().id if get_worker_info() else -1


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_are_stopped(workers):
    loader = DataLoader(Worker(), num_workers=workers, persistent_workers=workers > 0)
    private_names.stop_workers(loader)  # none yet
    next(iter(loader))
    before = torch.multiprocessing.active_children()
    assert len(before) >= workers
    private_names.stop_workers(loader)
    assert len(torch.multiprocessing.active_children()) == len(before) - workers
    assert len(list(loader)) == 8
    private_names.stop_workers(loader)


def test_norms_are_those_of_each_tensor():
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(*shape, generator=generator) for shape in ((3,), (2, 5), (1, 1, 4))]
    expected = [tensor.double().square().sum().sqrt() for tensor in tensors]
    found = private_names.norms([*tensors, torch.tensor([1.0, float("nan")])])
    torch.testing.assert_close(torch.stack(found[:3]).double(), torch.stack(expected))
    assert found[3].isnan()


def own_private_names(trees) -> set[str]:
    """Functions, classes and attributes of the package whose names begin with an underscore."""
    names = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id == "self":
                    names.add(node.attr)
    return names


def test_private_names_of_others_stand_in_one_module():
    trees = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
    own = own_private_names(trees.values())
    found = []
    for path, tree in trees.items():
        if path.name == "private_names.py":
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
                continue
            mine = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            upwards = isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()"
            if mine or upwards or node.attr.startswith("__") or node.attr in own | DOCUMENTED:
                continue
            found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node)}")
    assert not found, "\n".join(found)


def test_softmax_backward():
    x = torch.randn(3, 5, requires_grad=True)
    result, probe = x.softmax(dim=1), torch.randn(3, 5)
    found = private_names.softmax_backward(probe, result.detach(), dim=1)
    torch.testing.assert_close(found, torch.autograd.grad(result, x, probe)[0])


def test_machine_code_is_kept_for_the_same_sources(monkeypatch, tmp_path):
    def double(x):
        return 2 * x

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert private_names.folder_on_disk(numba.njit(double)) is None
    taken = []
    for sources in ("first", "second", "first"):
        compiled = numba.njit(double)
        private_names.keep_on_disk(compiled, double, lambda sources=sources: sources)
        assert compiled(3) == 6
        assert private_names.folder_on_disk(compiled).startswith(str(tmp_path))
        taken.append(sum(compiled.stats.cache_hits.values()))
    assert taken == [0, 0, 1]
