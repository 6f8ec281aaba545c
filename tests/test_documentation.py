"""Examples in docstrings and in the README do what they say."""

import doctest
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from mvsplat.__main__ import main

ROOT = Path(__file__).parents[1]
EXAMPLE = re.compile(r"<!-- example -->\s*```python\n(.*?)```", re.DOTALL)
"""A block of the README that is run: the comment before it marks it."""


def modules_with_examples() -> list[str]:
    """Modules of the package that have lines like those of an interpreter's prompt."""
    return [
        file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for file in sorted((ROOT / "mvsplat").rglob("*.py"))
        if re.search(r"^ +>>> ", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstring_examples(name):
    assert doctest.testmod(import_module(name)).failed == 0


def examples(text: str) -> list[str]:
    return EXAMPLE.findall(text)


@pytest.fixture
def runs(tmp_path, scenes_root, tiny_config, monkeypatch, capsys):
    """A folder like a user's, after a very short quickstart and a test of it under another name."""
    monkeypatch.chdir(tmp_path)
    arguments = ["--config", str(tiny_config), "--data.source.root", str(scenes_root)]
    arguments += ["--run_dir", "runs/quickstart"]
    assert main(["fit", *arguments, "--trainer.max_steps=1", "--trainer.limit_val_batches=0"]) == 0
    assert main(["test", *arguments, "--ckpt_path=last"]) == 0
    shutil.copytree("runs/quickstart", "runs/mine")
    capsys.readouterr()
    return tmp_path


def test_the_readmes_examples_run_in_order(runs):
    blocks = examples((ROOT / "README.md").read_text(encoding="utf-8"))
    if not blocks:
        pytest.skip("README.md marks no block of Python with <!-- example -->")
    names: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks, start=1):
        code = compile(block, f"README.md, example {number}", "exec")
        exec(code, names)


def test_marked_blocks_are_found():
    block = "```python\n{}\n```\n"
    text = "<!-- example -->\n" + block.format("a = 1") + block.format("not marked")
    text += "\n<!-- example -->\n\n" + block.format("b = a")
    assert examples(text) == ["a = 1\n", "b = a\n"]
