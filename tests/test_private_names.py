"""Private names of other libraries stand in one module, whose functions do what they say."""

import ast
from pathlib import Path

import numba
import pytest
import torch

import mvsplat
from mvsplat import private_names

PACKAGE = Path(mvsplat.__file__).parent
# Parts of the package whose other modules know no private names.
PARTS = ("encoder", "decoder", "kernels.py", "machine.py")


# Documented, in spite of its name.
PUBLIC = {"_exit"}


def is_private(name: str) -> bool:
    parts = set(name.split(".")) - PUBLIC
    return any(part.startswith("_") and not part.endswith("__") for part in parts)


def private_names_of_others(tree: ast.Module) -> set[str]:
    """Names with an underscore that are imported, or looked up on anything but what is our own."""
    found = set()
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("mvsplat"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and not (
            isinstance(node.value, ast.Name) and node.value.id in {"self", "cls", *own}
        ):
            names = [node.attr]
        else:
            continue
        found |= {name for name in names if is_private(name)}
    return found


@pytest.mark.parametrize("part", PARTS)
def test_no_other_module_uses_one(part):
    path = PACKAGE / part
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    used = {str(file): private_names_of_others(ast.parse(file.read_text())) for file in files}
    assert files and {file: names for file, names in used.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "torch._softmax_backward_data(x)", "compiled._cache = 1", "super()._index_key()",
        "from torch import _foreach_norm", "import torch._inductor", "self.trainer._results",
    ],
)  # fmt: skip
def test_uses_are_noticed(line):
    assert private_names_of_others(ast.parse(line))


def test_softmax_backward():
    x = torch.randn(3, 5, requires_grad=True)
    result, probe = x.softmax(dim=1), torch.randn(3, 5)
    found = private_names.softmax_backward(probe, result.detach(), dim=1)
    torch.testing.assert_close(found, torch.autograd.grad(result, x, probe)[0])


def test_norms():
    tensors = [torch.randn(3, 4), torch.full((2,), torch.inf), torch.zeros(5)]
    expected = [x.square().sum().sqrt() for x in tensors]
    torch.testing.assert_close(private_names.norms(tensors), expected)


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
