"""gsplat's build: asked for when needed, with a message, and explained when it fails."""

import subprocess
import sys
from importlib.abc import MetaPathFinder
from types import SimpleNamespace

import pytest
import torch
from rendering import render
from splatting_scenes import random_gaussians

from mvsplat.decoder import gsplat_engine


@pytest.fixture
def loader(monkeypatch, tmp_path):
    """``load_gsplat`` as it is in a new process on a machine with CUDA."""
    gsplat = pytest.importorskip("gsplat")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.delitem(sys.modules, "gsplat.cuda._backend", raising=False)
    monkeypatch.delattr(gsplat.cuda, "_backend", raising=False)
    gsplat_engine.load_gsplat.cache_clear()
    yield gsplat_engine.load_gsplat
    gsplat_engine.load_gsplat.cache_clear()


class Backend(MetaPathFinder):
    """Stands in for the module that builds and loads gsplat's extension."""

    def __init__(self, monkeypatch, action):
        self.action = action
        monkeypatch.setattr(sys, "meta_path", [self, *sys.meta_path])

    def find_spec(self, name, path, target=None):
        if name == "gsplat.cuda._backend":
            self.action()
        return None


def provide(monkeypatch, extension) -> None:
    """Let gsplat have this extension."""
    backend = SimpleNamespace(_C=extension)
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", backend)
    monkeypatch.setattr(sys.modules["gsplat.cuda"], "_backend", backend, raising=False)


def test_it_is_loaded_once_and_says_so(loader, monkeypatch, capsys):
    provide(monkeypatch, SimpleNamespace())
    assert loader() is sys.modules["gsplat"] and loader() is loader()
    captured = capsys.readouterr()
    first, second = captured.err.splitlines()
    assert "building (once, which takes minutes) gsplat's CUDA extension" in first
    assert "ready after" in second and captured.out == ""


def test_what_is_built_is_not_said_to_be_built(loader, monkeypatch, capsys, tmp_path):
    provide(monkeypatch, SimpleNamespace())
    monkeypatch.setattr(gsplat_engine, "extension", lambda: tmp_path)
    loader()
    assert "loading gsplat's CUDA extension" in capsys.readouterr().err


def test_the_build_finds_the_environments_ninja(loader, monkeypatch):
    provide(monkeypatch, SimpleNamespace())
    loader()
    first = gsplat_engine.os.environ["PATH"].split(":")[0]
    assert first == str(gsplat_engine.Path(sys.executable).parent)


def test_a_build_that_fails_is_explained(loader, monkeypatch):
    def fail():
        raise subprocess.CalledProcessError(1, ["ninja", "-v"])

    Backend(monkeypatch, fail)
    with pytest.raises(RuntimeError) as caught:
        loader()
    message = str(caught.value)
    assert "CalledProcessError" in message and "ninja" in message
    assert f"torch {torch.__version__} built for CUDA" in message
    assert "nvcc: " in message and "compiler: " in message
    assert "Install a CUDA toolkit" in message and "engine cpu" in message


def test_a_home_that_cannot_be_written_is_explained(loader, monkeypatch, tmp_path):
    (tmp_path / ".cache").write_text("no folder")
    with pytest.raises(RuntimeError, match="not usable: (FileExists|NotADirectory)Error"):
        loader()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    provide(monkeypatch, SimpleNamespace())
    assert loader() is sys.modules["gsplat"]


def test_no_toolkit_is_explained(loader, monkeypatch):
    provide(monkeypatch, None)
    with pytest.raises(RuntimeError, match="no CUDA toolkit to build") as caught:
        loader()
    assert "prebuilt for this torch" in str(caught.value)


def test_no_device_is_explained(loader, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="torch finds no CUDA device"):
        loader()


def test_tensors_on_the_cpu_are_refused():
    with pytest.raises(ValueError, match=r"on cpu, expected a CUDA device.*engine cpu or auto"):
        render(random_gaussians(5), engine="gsplat")


def test_compilers_are_found_where_they_are(monkeypatch, tmp_path):
    """nvcc on the path or in CUDA_HOME; $CXX or c++; missing and broken ones."""
    toolkit, path = tmp_path / "cuda" / "bin", tmp_path / "bin"
    for folder, name, text in (
        (toolkit, "nvcc", "echo 'nvcc: NVIDIA'; echo 'Cuda compilation tools, release 12.4'"),
        (path, "my-c++", "echo 'my-c++ 13.1'"),
        (path, "broken", "exit 1"),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("torch.utils.cpp_extension.CUDA_HOME", None)
    assert gsplat_engine.toolchain() == (gsplat_engine.MISSING, gsplat_engine.MISSING)
    monkeypatch.setattr("torch.utils.cpp_extension.CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.setenv("CXX", "my-c++")
    assert gsplat_engine.toolchain() == ("Cuda compilation tools, release 12.4", "my-c++ 13.1")
    monkeypatch.setenv("CXX", "broken")
    assert gsplat_engine.toolchain()[1] == str(path / "broken")


def test_the_extension_is_found_where_it_was_built(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert gsplat_engine.extension() is None
    built = tmp_path / "gsplat_cuda" / "gsplat_cuda.so"
    built.parent.mkdir()
    built.touch()
    assert gsplat_engine.extension() == built
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    monkeypatch.setattr(
        "torch.utils.cpp_extension.get_default_build_root", lambda: str(tmp_path / "root")
    )
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    assert gsplat_engine.extension() is None
    for version in ("cu121", "cu124"):
        built = tmp_path / "root" / f"py311_{version}" / "gsplat_cuda" / "gsplat_cuda.so"
        built.parent.mkdir(parents=True)
        built.touch()
    assert gsplat_engine.extension() == built
