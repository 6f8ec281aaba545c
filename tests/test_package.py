"""The installed package: light to import, complete as a wheel, the same program twice."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mvsplat
from mvsplat.cli import config_files

ROOT = Path(__file__).parent.parent


def python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, torch; before = set(sys.modules); import mvsplat; mvsplat.Views; "
        "print(*(set(sys.modules) - before))"
    )
    loaded = {name.partition(".")[0] for name in python(code).split()}
    assert not loaded & {"lightning", "numba", "gsplat", "skimage", "plyfile", "jsonargparse"}


def test_public_names_exist():
    for name in mvsplat.__all__:
        assert getattr(mvsplat, name) is not None
    with pytest.raises(AttributeError, match=r"mvsplat.*Gaussian"):
        mvsplat.Gaussian  # noqa: B018


def test_help_needs_neither_torch_nor_lightning():
    code = (
        "import sys; from mvsplat.__main__ import main; main(['--help']); "
        "print('loaded', *sys.modules)"
    )
    loaded = python(code).rpartition("loaded")[2].split()
    assert "lightning" not in loaded and "torch" not in loaded


def test_the_wheel_carries_the_configurations(tmp_path):
    pytest.importorskip("hatchling", reason="building a wheel without a network needs hatchling")
    build = "from hatchling.build import build_wheel; print(build_wheel({!r}))"
    name = subprocess.run(
        [sys.executable, "-c", build.format(str(tmp_path))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    ).stdout.split()[-1]
    files = set(zipfile.ZipFile(tmp_path / name).namelist())
    for config in config_files.shipped():
        assert f"mvsplat/configs/{config}.yaml" in files
    assert "mvsplat/py.typed" in files
    assert not any(name.startswith(("tests/", "configs/")) for name in files)
