"""PLY files as other programs write them: every layout the format allows, and what they mean."""

import logging

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement
from test_ply import assert_same, make_gaussians

from mvsplat.export import load_ply, load_splat, save_ply
from mvsplat.geometry.spherical_harmonics import normalization


def table_of(path) -> np.ndarray:
    return PlyData.read(str(path), mmap=False)["vertex"].data


def write(path, table: np.ndarray, **options) -> None:
    PlyData([PlyElement.describe(table, "vertex")], **options).write(str(path))


def only(table: np.ndarray, names, extra=()) -> np.ndarray:
    """Columns of a table, and room for others."""
    kept = np.zeros(len(table), [(name, "f4") for name in names] + list(extra))
    for name in names:
        kept[name] = table[name]
    return kept


@pytest.fixture
def standard(tmp_path):
    """A file of degree 1, its Gaussians, and its rows."""
    gaussians = make_gaussians(count=300, degree=1)
    save_ply(gaussians, tmp_path / "scene.ply")
    return tmp_path / "scene.ply", gaussians, table_of(tmp_path / "scene.ply")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_comments_and_other_elements_anywhere(standard, end):
    path, gaussians, _ = standard
    header, _, body = path.read_bytes().partition(b"end_header\n")
    first, form, *others = header.splitlines()
    before = [b"element cameras 2", b"property double fov", b"property list uchar int ids"]
    lines = [first, b"comment made by hand: \xc3\xa9", form, b"obj_info one", *before]
    for line in others:
        lines += [b"comment between lines", line]
    lines += [b"element view_data 1", b"property float near", b"comment last", b"end_header", b""]
    camera = np.float64(1.5).tobytes() + b"\2" + np.array([7, 8], "<i4").tobytes()
    path.write_bytes(end.join(lines) + camera + camera + body + np.float32(2).tobytes())
    assert_same(load_ply(path), gaussians)


def test_no_comment_stands_in_a_plain_file(standard):
    path, _, _ = standard
    assert b"comment" not in path.read_bytes().partition(b"end_header")[0]


@pytest.mark.parametrize("kind", ["u1", "f4", "u2"])
def test_colors_take_the_place_of_missing_harmonics(standard, kind):
    path, gaussians, table = standard
    names = [name for name in table.dtype.names if name[:2] != "f_"]
    colored = only(table, names, [(name, kind) for name in ("red", "green", "blue")])
    highest = {"u1": 255, "u2": 65535, "f4": 1}[kind]
    colors = np.random.default_rng(0).uniform(0, 1, (300, 3))
    for number, name in enumerate(("red", "green", "blue")):
        colored[name] = colors[:, number] * highest
    write(path, colored)
    loaded = load_ply(path)
    shown = loaded.harmonics[0, :, :, 0] * normalization(0, 0) + 0.5
    np.testing.assert_allclose(shown, colors, atol=1 / 255 if kind == "u1" else 1e-4)
    assert torch.equal(loaded.means, gaussians.means) and loaded.harmonics.shape[-1] == 1


def test_a_point_cloud_becomes_small_round_splats(tmp_path, caplog):
    """On a grid of known spacing, far from the origin, as surveyors' clouds are."""
    path, spacing = tmp_path / "points.ply", 0.25
    grid = np.stack(np.meshgrid(*[np.arange(8)] * 3), -1).reshape(-1, 3) * spacing + 1000
    table = np.zeros(
        512, [(n, "f8") for n in "xyz"] + [(n, "u1") for n in ("red", "green", "blue")]
    )
    for axis, name in enumerate("xyz"):
        table[name] = grid[:, axis]
    table["red"], table["green"] = 255, 51
    faces = PlyElement.describe(np.zeros(0, [("vertex_indices", "i4", (3,))]), "face")
    PlyData([PlyElement.describe(table, "vertex"), faces], text=True).write(str(path))
    cloud = load_splat(path)
    np.testing.assert_allclose(cloud.means[0], grid, rtol=1e-6)
    torch.testing.assert_close(cloud.scales, torch.full((1, 512, 3), spacing / 2))
    assert (cloud.opacities == 1).all() and (cloud.rotations[..., 0] == 1).all()
    color = cloud.harmonics[0, 0, :, 0] * normalization(0, 0) + 0.5
    torch.testing.assert_close(color, torch.tensor([1.0, 0.2, 0.0]))
    assert "points.ply is a point cloud: its 512 points are read as round splats" in caplog.text
    write(path, only(table, "xyz"))
    assert (load_ply(path).harmonics == 0).all()  # grey
    for count in (0, 1):
        write(path, only(table[:count], "xyz"))
        assert load_ply(path).means.shape == (1, count, 3)


def store_activated(path, gaussians, table, opacities: bool, scales: bool) -> None:
    """As programs write that forget the logit, the logarithm or both."""
    table = table.copy()
    if opacities:
        table["opacity"] = gaussians.opacities[0]
    if scales:
        for i in range(3):
            table[f"scale_{i}"] = gaussians.scales[0, :, i]
    write(path, table)


@pytest.mark.parametrize(("opacities", "scales"), [(True, True), (True, False), (False, True)])
def test_activated_values_are_recognised_said_and_read_right(standard, caplog, opacities, scales):
    path, gaussians, table = standard
    store_activated(path, gaussians, table, opacities, scales)
    for activated in (None, True):
        caplog.clear()
        loaded = load_splat(path, activated=activated)
        torch.testing.assert_close(loaded.opacities, gaussians.opacities, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(loaded.scales, gaussians.scales, rtol=1e-5, atol=1e-6)
        said = [record.message for record in caplog.records]
        assert len(said) == (opacities + scales if activated is None else 0)
        assert all("scene.ply" in line and "activated=False" in line for line in said)
        assert any("all opacities are stored" in line for line in said) == (
            opacities and bool(said)
        )
    as_the_format_says = load_splat(path, activated=False)
    if opacities:
        torch.testing.assert_close(as_the_format_says.opacities, gaussians.opacities.sigmoid())
    if scales:
        torch.testing.assert_close(as_the_format_says.scales, gaussians.scales.exp())


def test_values_that_cannot_be_activated_are_not_taken_so(standard, caplog):
    path, _, _ = standard
    with pytest.raises(ValueError, match=r"scene\.ply is said to be activated, but opacities go"):
        load_ply(path, activated=True)
    caplog.set_level(logging.WARNING)
    load_ply(path)
    assert not caplog.records
