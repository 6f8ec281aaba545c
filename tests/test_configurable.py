"""A part's configuration rebuilds an equal part, and nothing else can be built from one."""

import copy
import pickle

import pytest
from torch import nn

from mvsplat.configurable import Configurable, from_config


class Leaf(Configurable):
    def __init__(self, size: int, names: tuple[str, ...] = ("a",)):
        self.size, self.names = size, names


class Tree(Configurable, nn.Module):
    def __init__(self, leaf: Leaf, extra: dict[str, Leaf] | None = None):
        super().__init__()
        self.leaf, self.extra = leaf, extra


def test_config_holds_primitives_and_rebuilds():
    tree = Tree(Leaf(3, names=("x", "y")), extra={"one": Leaf(size=1)})
    config = tree.config
    assert config == {
        "class_path": f"{__name__}.Tree",
        "init_args": {
            "leaf": {
                "class_path": f"{__name__}.Leaf",
                "init_args": {"size": 3, "names": ["x", "y"]},
            },
            "extra": {"one": {"class_path": f"{__name__}.Leaf", "init_args": {"size": 1}}},
        },
    }
    again = from_config(config)
    assert (again.leaf.size, list(again.leaf.names), again.extra["one"].size) == (3, ["x", "y"], 1)
    assert again.config == config


class Open(Configurable):
    def __init__(self, size: int = 1, **settings: int):
        self.size, self.settings = size, settings


def test_open_keywords_are_kept():
    again = from_config(Open(size=2, depth=3).config)
    assert (again.size, again.settings) == (2, {"depth": 3})


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_keep_their_configuration(copied):
    assert copied(Leaf(5)).config == Leaf(5).config


def test_what_is_no_primitive_is_named():
    with pytest.raises(TypeError, match=r"Leaf\(size=...\): a object cannot be stored"):
        _ = Leaf(object()).config


@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "builtins.dict", "pathlib.Path"])
def test_a_config_from_anywhere_builds_nothing_but_parts(path, tmp_path):
    with pytest.raises(ValueError, match="cannot rebuild"):
        from_config({"class_path": path, "init_args": {"args": f"touch {tmp_path}/ran"}})
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "config",
    [
        {"class_path": "no.such.Module", "init_args": {}},
        {"class_path": f"{__name__}.Missing", "init_args": {}},
        {"class_path": f"{__name__}.Leaf", "init_args": {"sise": 3}},
    ],
)
def test_a_config_that_does_not_fit_is_named(config):
    with pytest.raises(ValueError, match="cannot rebuild"):
        from_config(config)
