"""The installed package: light to import, complete as a wheel, the same program twice."""

import gzip
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import mvsplat
from mvsplat.cli import config_files
from mvsplat.weights import read_weights

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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this package, opened."""
    pytest.importorskip("hatchling", reason="building a wheel without a network needs hatchling")
    tmp_path = tmp_path_factory.mktemp("wheel")
    build = "from hatchling.build import build_wheel; print(build_wheel({!r}))"
    name = subprocess.run(
        [sys.executable, "-c", build.format(str(tmp_path))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    ).stdout.split()[-1]
    with zipfile.ZipFile(tmp_path / name) as opened:
        yield opened


def test_the_wheel_carries_the_configurations(wheel):
    files = set(wheel.namelist())
    for config in config_files.shipped():
        assert f"mvsplat/configs/{config}.yaml" in files
    assert "mvsplat/py.typed" in files
    assert not any(name.startswith(("tests/", "configs/")) for name in files)


def test_the_wheel_carries_the_viewer_of_pages_and_its_licence(wheel):
    """With what says where it is from: the same bytes as that says."""
    folder = "mvsplat/export/page/viewer/"
    files = set(wheel.namelist())
    assert {
        f"{folder}LICENSE",
        "mvsplat/export/page/page.js",
        "mvsplat/export/page/page.css",
    } <= files
    assert any(name.endswith(f"licenses/{folder}LICENSE") for name in files)
    script = gzip.decompress(wheel.read(f"{folder}supersplat-viewer.js.gz"))
    style = wheel.read(f"{folder}supersplat-viewer.css")
    origin = wheel.read(f"{folder}README.md").decode()
    for content in (script, style):
        assert hashlib.sha256(content).hexdigest() in origin


def test_the_wheel_carries_weights(wheel, tmp_path):
    """At most 10 MB, in half precision, and they load from there, without Lightning."""
    assert wheel.getinfo("mvsplat/weights/small.ckpt").file_size <= 10_000_000
    wheel.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        "from mvsplat.weights import read_weights; found = read_weights('small'); "
        "found.build_encoder(); assert 'lightning' not in sys.modules; print(found.path)"
    )
    assert Path(python(code)).is_relative_to(tmp_path)


def test_the_packaged_weights_say_what_they_are():
    model, weights = mvsplat.load_model("small"), read_weights("small")
    assert all(value.dtype == torch.float32 for value in model.encoder.parameters())
    content = torch.load(weights.path, weights_only=True)
    assert {value.dtype for value in content["state_dict"].values()} == {torch.float16}
    assert weights.good_for and weights.encoder and weights.decoder
    for fact in ("configuration", "seed", "steps"):
        assert fact in weights.about
    psnr = {method: found["psnr"] for method, found in weights.about["scores"].items()}
    assert psnr["model"] > psnr["nearest_view"]
    assert set(weights.views) == {"image_shape", "near", "far"}
