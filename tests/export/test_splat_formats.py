"""Splat formats, chosen by the suffix: ours, and a user's from a package of its own."""

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData
from test_ply import FIELDS, assert_same, make_gaussians

from mvsplat.evaluation.prediction_writer import PredictionWriter
from mvsplat.export import load_ply, load_splat, save_ply, save_splat
from mvsplat.viewer import Viewer, find_items


def install(site: Path, module: str, **formats: str) -> None:
    """What pip leaves of a package that brings splat formats: one file, and its entry points."""
    site.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("npz_splats.py"), site / f"{module}.py")
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = "\n".join(f"{suffix} = {value}" for suffix, value in formats.items())
    (info / "entry_points.txt").write_text(f"[mvsplat.splat_formats]\n{lines}\n")


@pytest.fixture
def npz(tmp_path, monkeypatch):
    """A user's format is installed."""
    install(tmp_path / "site", "user_npz_splats", npz="user_npz_splats:NpzFormat")
    monkeypatch.syspath_prepend(tmp_path / "site")


def test_ply_files_are_those_of_save_ply_with_all_its_options(tmp_path):
    gaussians = make_gaussians(count=200, scenes=2)
    options = {"scene": 1, "min_opacity": 0.4, "max_scale": 0.2, "recenter": True, "up_axis": "y"}
    save_ply(gaussians, tmp_path / "a.ply", **options)
    save_splat(gaussians, tmp_path / "new" / "b.PLY", **options)
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "new" / "b.PLY").read_bytes()
    assert_same(load_splat(tmp_path / "new" / "b.PLY"), load_ply(tmp_path / "a.ply"))


def test_a_users_format_is_written_and_read(npz, tmp_path):
    gaussians, path = make_gaussians(count=200, scenes=2), tmp_path / "scene.npz"
    save_splat(gaussians, path, scene=1, min_opacity=0.4)
    kept = gaussians.opacities[1] >= 0.4
    for name in FIELDS:
        assert torch.equal(getattr(load_splat(path), name)[0], getattr(gaussians, name)[1, kept])
    save_splat(gaussians, path, scene=0, half=True)
    assert np.load(path)["means"].dtype == np.float16
    assert sorted(file.name for file in tmp_path.iterdir()) == ["scene.npz", "site"]
    for arguments in ({"quarter": True}, {"recenter": True}):
        with pytest.raises(ValueError, match=r"\.npz files take no option .* max_scale, half"):
            save_splat(gaussians, path, scene=0, **arguments)


def test_a_users_format_gets_only_what_is_sound(npz, tmp_path, caplog):
    gaussians, path = make_gaussians(count=50), tmp_path / "scene.npz"
    save_splat(gaussians, path)
    before = path.read_bytes()
    gaussians.opacities[0, 7] = torch.nan
    for thresholds in ({}, {"min_opacity": 0.2}):
        with pytest.raises(ValueError, match="Gaussian 7 has values that are not finite"):
            save_splat(gaussians, path, **thresholds)
    assert path.read_bytes() == before
    np.savez(path, **{name: getattr(gaussians, name)[0].numpy() for name in FIELDS})
    assert load_splat(path).means.shape == (1, 49, 3)
    assert "scene.npz: 1 of 50 Gaussians are left out" in caplog.text
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"scene\.npz cannot be read as \.npz .*user_npz_splats"):
        load_splat(path)


def test_a_users_format_in_every_command_that_has_splats(npz, program, tmp_path, monkeypatch):
    pytest.importorskip("viser")
    shown = []
    monkeypatch.setattr(Viewer, "wait", lambda viewer: shown.extend(viewer._items))
    assert program("fit", "--trainer.max_steps=1") == 0, program.err
    options = ["--ckpt_path", "last", "--predictions.format", "npz"]
    options += ["--predictions.films=[]", "--predictions.depth=[]"]
    assert program("predict", *options) == 0, program.err
    (file, *_) = (program.run_dir / "predictions").glob("*.npz")
    assert not list(program.run_dir.rglob("*.ply")) and load_splat(file).means.shape[1] > 0
    view = ["--no-open", "--port", 0]
    assert program("view", program.run_dir, *view, config=False) == 0, program.err
    assert program("view", file, *view, config=False) == 0, program.err
    assert shown[-1].ply == file and shown[-1].cameras is not None
    assert {item.ply for item in shown[:-1]} == set((program.run_dir / "predictions").glob("*.npz"))


def test_an_unknown_suffix_lists_what_is_known(npz, tmp_path):
    gaussians = make_gaussians(count=3)
    known = r"are written as \.npz \(NumPy archive\), \.ply \(3DGS PLY\), .*\.spz \(Niantic's\)"
    for name, found in (("scene.foo", "the suffix '.foo'"), ("scene", "without a suffix")):
        with pytest.raises(ValueError, match=f"{found} are not written. Splats {known}"):
            save_splat(gaussians, tmp_path / name)
        (tmp_path / name).write_bytes(b"something")
        with pytest.raises(ValueError, match=rf"{found} are not read.*\.npz.*\.ply"):
            load_splat(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="nothing.ply"):
        load_splat(tmp_path / "nothing.ply")
    with pytest.raises(ValueError, match=r"suffix '\.foo' are not written"):
        PredictionWriter(format="foo")


def test_a_scene_in_two_formats_is_told_apart_in_the_viewer(npz, tmp_path):
    for name in ("a.npz", "a.ply", "b.ply"):
        save_splat(make_gaussians(count=3), tmp_path / "run" / name)
    items = find_items([tmp_path / "run"])
    assert [item.scene for item in items] == ["a.npz", "a.ply", "b"]


@pytest.mark.parametrize(
    "name",
    ["a.compressed.ply", "a.splat", "a.spz", "a.sog", "meta.json", "a.glb", "a.gltf"],
)
def test_the_viewer_finds_every_format_and_names_what_is_cut_short(tmp_path, name):
    path = tmp_path / "run" / name
    save_splat(make_gaussians(count=7, degree=1), path)
    assert [item.ply for item in find_items([path.parent])] == [path]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 + 1])
    with pytest.raises(ValueError, match=re.escape(name)):
        find_items([path.parent])
        load_splat(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=re.escape(name)):
        find_items([path])


@pytest.mark.parametrize("actual", [".ply", ".compressed.ply", ".spz", ".glb", ".sog"])
def test_a_file_of_another_formats_name_is_named_and_never_read_as_that(tmp_path, actual):
    """Of 32 bytes a Gaussian, PLY files may well be read as .splat."""
    whole = tmp_path / f"whole{actual}"
    save_splat(make_gaussians(count=8, degree=1), whole)
    content = whole.read_bytes()
    own = {".ply", ".compressed.ply"} if "ply" in actual else {actual}
    own |= {".gltf"} if actual == ".glb" else set()
    for suffix in {".ply", ".splat", ".spz", ".glb", ".gltf", ".sog", ".ksplat"} - own:
        path = tmp_path / f"scene{suffix}"
        path.write_bytes(content + bytes(-len(content) % 32) if suffix == ".splat" else content)
        renamed = "scene.ply" if "ply" in actual else f"scene{actual}"
        with pytest.raises(ValueError, match=rf"of another name: rename it to {renamed}"):
            load_splat(path)
    for suffix in own:
        path = tmp_path / f"right{suffix}"
        path.write_bytes(content)
        assert load_splat(path).means.shape == (1, 8, 3)


def damaged_splat(path, value: float) -> None:
    rows = np.fromfile(path, "<f4").reshape(-1, 8)
    rows[3, 1] = value
    rows.tofile(path)


def damaged_glb(path, value: float) -> None:
    content = bytearray(path.read_bytes())
    start = 20 + int.from_bytes(content[12:16], "little") + 8  # of the positions
    content[start + 3 * 12 : start + 3 * 12 + 4] = np.float32(value).tobytes()
    path.write_bytes(content)


def damaged_compressed(path, value: float) -> None:
    data = PlyData.read(str(path), mmap=False)
    data["chunk"]["max_scale_y"][0] = value
    data.write(str(path))


def damaged_spz(path, value: float) -> None:
    """Version 1, whose positions are half-precision floats."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    count, positions = 20, np.zeros((20, 3), "<f2")
    positions[3, 2] = value
    content[4] = 1
    rotations = bytes([128] * 3 * count)
    body = content[16 + 9 * count : -4 * count]
    path.write_bytes(gzip.compress(content[:16] + positions.tobytes() + body + rotations))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("suffix", "damage", "left"),
    [
        (".splat", damaged_splat, 19),
        (".glb", damaged_glb, 19),
        (".compressed.ply", damaged_compressed, 256),
        (".spz", damaged_spz, 19),
    ],
)
def test_values_that_are_not_finite_are_left_out_of_every_format(
    tmp_path, caplog, suffix, damage, left, value
):
    path, count = tmp_path / f"scene{suffix}", 512 if "ply" in suffix else 20
    save_splat(make_gaussians(count=count, degree=0), path)
    damage(path, value)
    found = load_splat(path)
    assert found.means.shape == (1, left, 3) and found.means.isfinite().all()
    assert f"scene{suffix}: {count - left} of {count} Gaussians are left out" in caplog.text


def test_what_a_decoder_has_to_know_of_a_scene_is_said(tmp_path, caplog):
    gaussians, spz = make_gaussians(count=3, degree=0), tmp_path / "scene.spz"
    save_splat(gaussians, spz)
    load_splat(spz)
    assert not caplog.records
    content = bytearray(gzip.decompress(spz.read_bytes()))
    content[14] = 1  # its flags
    spz.write_bytes(gzip.compress(content))
    folder = tmp_path / "scene" / "meta.json"
    save_splat(gaussians, folder)
    folder.write_text(json.dumps(json.loads(folder.read_text()) | {"antialias": True}))
    for path in (spz, folder):
        caplog.clear()
        load_splat(path)
        assert "trained with anti-aliasing" in caplog.text and "antialiased=True" in caplog.text
    caplog.clear()
    gltf = tmp_path / "scene.gltf"
    save_splat(gaussians, gltf)
    gltf.write_text(gltf.read_text().replace("srgb_rec709_display", "lin_rec709_display"))
    load_splat(gltf)
    assert "scene.gltf has linear colours, which are shown as sRGB" in caplog.text


def test_a_name_that_is_whole_is_not_a_suffix(tmp_path):
    """Else two scenes of one folder would share their pictures."""
    with pytest.raises(ValueError, match=r"suffix '\.json' are not written"):
        save_splat(make_gaussians(count=3), tmp_path / "a.meta.json")
    with pytest.raises(ValueError, match=r"suffix '\.json' are not written"):
        PredictionWriter(format="meta.json")


def test_formats_that_cannot_be_used_are_named_and_the_others_stay(tmp_path, monkeypatch, caplog):
    install(tmp_path / "site", "user_broken", foo="user_missing:X", bar="user_broken:FIELDS")
    monkeypatch.syspath_prepend(tmp_path / "site")
    save_splat(make_gaussians(count=3), tmp_path / "scene.ply")
    assert "'foo' (user_missing:X of user_broken) is left out: ModuleNotFoundError" in caplog.text
    assert "'bar'" in caplog.text and "no class derived from mvsplat.export.Splat" in caplog.text


def test_a_format_that_writes_elsewhere_or_fails_is_named(tmp_path, monkeypatch):
    install(tmp_path / "site", "user_poor", poor="user_poor:Poor", worse="user_poor:Worse")
    (tmp_path / "site/user_poor.py").write_text(
        "from mvsplat.export import SplatFormat\n"
        "class Poor(SplatFormat):\n"
        "    def write(self, gaussians, path): pass\n"
        "class Worse(SplatFormat):\n"
        "    def write(self, gaussians, path): path.write_text('half'); gaussians.colors\n"
        "    def read(self, path): return 'no Gaussians'\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(ValueError, match="scene.poor cannot be written.*made no file at the path"):
        save_splat(make_gaussians(count=3), tmp_path / "scene.poor")
    with pytest.raises(ValueError, match="scene.worse cannot be written.*AttributeError"):
        save_splat(make_gaussians(count=3), tmp_path / "scene.worse")
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    (tmp_path / "scene.worse").touch()
    with pytest.raises(ValueError, match=r"cannot be read as \.worse.*must return mvsplat.Gauss"):
        load_splat(tmp_path / "scene.worse")
    (tmp_path / "scene.poor").touch()
    with pytest.raises(ValueError, match=r"'.poor' are not read. Splats are read as .*\.worse"):
        load_splat(tmp_path / "scene.poor")


def test_two_packages_of_one_suffix_are_named(npz, tmp_path, monkeypatch):
    install(tmp_path / "other", "user_other", npz="user_other:NpzFormat")
    monkeypatch.syspath_prepend(tmp_path / "other")
    with pytest.raises(ValueError, match=r"user_other.* and .*user_npz.* both installed for \.npz"):
        save_splat(make_gaussians(count=3), tmp_path / "scene.npz")
    save_splat(make_gaussians(count=3), tmp_path / "scene.ply")


def test_the_longest_suffix_and_an_installed_format_come_first(tmp_path, monkeypatch):
    formats = {"ply": "user_own:NpzFormat", "small.foo": "user_own:NpzFormat"}
    install(tmp_path / "site", "user_own", **formats)
    monkeypatch.syspath_prepend(tmp_path / "site")
    gaussians = make_gaussians(count=3)
    for name in ("scene.ply", "scene.SMALL.foo"):
        save_splat(gaussians, tmp_path / name, half=True)
        assert np.load(tmp_path / name)["means"].shape == (3, 3)
    with pytest.raises(ValueError, match="suffix '.foo' are not written"):
        save_splat(gaussians, tmp_path / "scene.foo")
    save_ply(gaussians, tmp_path / "plain.ply")
    assert_same(load_ply(tmp_path / "plain.ply"), gaussians)
