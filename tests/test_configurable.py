"""A part's configuration rebuilds an equal part, and nothing else can be built from one."""

import copy
import json
import pickle

import pytest
from torch import nn

from mvsplat.configurable import Configurable, completed, from_config


class Leaf(Configurable):
    def __init__(self, size: int, names: tuple[str, ...] = ("a",)):
        self.size, self.names = size, names


class Tree(Configurable, nn.Module):
    def __init__(self, leaf: Leaf, extra: dict[str, Leaf] | None = None):
        super().__init__()
        self.leaf, self.extra = leaf, extra


def leaf(**arguments):
    return {"class_path": f"{__name__}.Leaf", "init_args": arguments}


def test_config_holds_primitives_and_rebuilds():
    tree = Tree(Leaf(3, names=("x", "y")), extra={"one": Leaf(size=1)})
    config = tree.config
    assert config == {
        "class_path": f"{__name__}.Tree",
        "init_args": {
            "leaf": leaf(size=3, names=["x", "y"]),
            "extra": {"one": leaf(size=1, names=["a"])},
        },
    }
    again = from_config(config)
    assert (again.leaf.size, list(again.leaf.names), again.extra["one"].size) == (3, ["x", "y"], 1)
    assert again.config == config


def test_a_changed_default_does_not_change_what_was_built(monkeypatch):
    tree = Tree(Leaf(1))
    config = json.loads(json.dumps(tree.config))
    monkeypatch.setattr(Leaf.__init__, "__defaults__", (("changed",),))
    monkeypatch.setattr(Tree.__init__, "__defaults__", ({"changed": 1},))
    again = from_config(config)
    assert list(again.leaf.names) == ["a"] and again.extra is None


def test_what_an_older_record_does_not_mention_is_completed():
    old = {"class_path": f"{__name__}.Tree", "init_args": {"leaf": leaf(size=3)}}
    assert completed(old) == Tree(Leaf(3)).config
    assert completed(completed(old)) == completed(old)
    with pytest.raises(ValueError, match=r"cannot rebuild no.such.Module"):
        completed({"class_path": "no.such.Module", "init_args": {}})


class Derived(Leaf):
    """As a user extends a part of ours: what it does not care about is handed on."""

    def __init__(self, depth: int = 2, **settings):
        super().__init__(size=depth * 10, **settings)
        self.depth = depth


def test_defaults_behind_handed_on_keywords_are_recorded():
    config = Derived().config
    assert config["init_args"] == {"depth": 2, "names": ["a"]}, "size is not an argument of it"
    assert Derived(names=("b",)).config["init_args"]["names"] == ["b"]
    again = from_config(config)
    assert (again.size, again.depth, list(again.names)) == (20, 2, ["a"])


class WithObject(Configurable):
    def __init__(self, size: int = 1, activation: type = nn.ReLU):
        self.size, self.activation = size, activation


class ByPosition(Leaf):
    def __init__(self, *arguments):
        super().__init__(*arguments)


def test_a_default_that_is_no_primitive_stays_a_default():
    assert WithObject().config["init_args"] == {"size": 1}
    assert from_config(WithObject(3).config).activation is nn.ReLU


def test_what_has_no_name_cannot_be_stored():
    with pytest.raises(TypeError, match=r"ByPosition\(\*arguments\): only arguments given by name"):
        _ = ByPosition(3).config


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
