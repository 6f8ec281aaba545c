"""Formats that round values: against another program's files, byte by byte, and damaged ones."""

import gzip
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement
from splat_truth import largest_errors
from test_ply import cameras_around, colorful, make_gaussians, render

from mvsplat.export import load_ply, load_splat, save_splat
from mvsplat.types import Gaussians

SAMPLES = Path(__file__).with_name("samples")
# The largest error that a format's own rounding explains, of scenes a few units large.
STEPS = {
    ".compressed.ply": {
        "means": 0.01, "log scales": 0.003, "opacities": 0.5 / 255, "colors": 0.5 / 64,
        "rest": 4 / 255, "shapes": 0.01,
    },
    ".splat": {
        "means": 0, "log scales": 1e-6, "opacities": 0.5 / 255, "colors": 0.5 / 255,
        "rest": 0, "shapes": 0.04,
    },
    ".spz": {
        "means": 2**-13, "log scales": 1 / 32, "opacities": 0.5 / 255, "colors": 0.5 / 255 / 0.53,
        "rest": 1 / 64, "shapes": 0.08,
    },
}  # fmt: skip
WRITTEN = list(STEPS)


def moderate(degree: int, count: int = 300) -> Gaussians:
    """Gaussians whose harmonics are in every format's range."""
    gaussians = make_gaussians(count=count, degree=degree)
    gaussians.harmonics *= 0.25
    return gaussians


def assert_within(truth: Gaussians, found: Gaussians, steps: dict[str, float]) -> None:
    for field, error in largest_errors(truth, found).items():
        assert error <= 1.001 * steps[field] + 1e-6, f"{field}: {error} over {steps[field]}"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("degree_1.compressed.ply", ".compressed.ply"),
        ("degree_3.compressed.ply", ".compressed.ply"),
        ("degree_1_v3.spz", ".spz"),
        ("degree_3_v3.spz", ".spz"),
        ("degree_3_v4.spz", ".spz"),
    ],
)
def test_another_programs_files_are_read(name, suffix):
    truth = load_ply(SAMPLES / f"{name[:8]}.ply")
    found = load_splat(SAMPLES / name)
    assert found.harmonics.shape == truth.harmonics.shape
    # The other program rounds harmonics of .spz more.
    rounding = {"rest": 1 / 15} if suffix == ".spz" else {}
    assert_within(truth, found, STEPS[suffix] | rounding)


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_round_trip_loses_no_more_than_the_formats_rounding(tmp_path, suffix, degree):
    gaussians = moderate(degree)
    save_splat(gaussians, tmp_path / f"scene{suffix}")
    found = load_splat(tmp_path / f"scene{suffix}")
    coefficients = 1 if suffix == ".splat" else (degree + 1) ** 2
    assert found.harmonics.shape[-1] == coefficients
    assert_within(gaussians, found, STEPS[suffix])
    assert [path.name for path in tmp_path.iterdir()] == [f"scene{suffix}"]


@pytest.mark.parametrize(
    ("suffix", "name"),
    [(".compressed.ply", "degree_3.compressed.ply"), (".spz", "degree_3_v3.spz")],
)
def test_we_write_what_the_other_program_writes(tmp_path, suffix, name):
    """Rounded values a step apart at most: both round the same numbers."""
    ours = tmp_path / f"scene{suffix}"
    save_splat(load_ply(SAMPLES / "degree_3.ply"), ours)
    if suffix == ".spz":
        a, b = (
            np.frombuffer(gzip.decompress(p.read_bytes()), "u1") for p in (ours, SAMPLES / name)
        )
        assert a[:16].tolist() == b[:16].tolist() and len(a) == len(b)
        words = slice(16 + 40 * 16, 16 + 40 * 20)
        a_words, b_words = (content[words].view("<u4") for content in (a, b))
        assert (a_words >> 30 == b_words >> 30).all()
        far = np.abs(a.astype(int) - b)
        far[words] = 0
        assert far[: 16 + 40 * 20].max() <= 1
        assert far.max() <= 10  # harmonics, which the other program rounds to 16
        return
    a, b = (PlyData.read(str(p)) for p in (ours, SAMPLES / name))
    assert [e.name for e in a.elements] == [e.name for e in b.elements]
    for element in a.elements:
        assert element.data.dtype == b[element.name].data.dtype
    for column in a["chunk"].data.dtype.names:
        np.testing.assert_allclose(a["chunk"][column], b["chunk"][column], rtol=1e-5, atol=1e-6)
    assert len(a["vertex"].data) == len(b["vertex"].data) == 40


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_file_renders_as_the_scene_from_every_side(tmp_path, suffix):
    """Axes, handedness, order of quaternions and harmonics: any mistake shows from some side."""
    gaussians, poses = colorful(0 if suffix == ".splat" else 3), cameras_around(6)
    gaussians.harmonics = gaussians.harmonics.clamp(-0.9, 0.9)
    original = render(gaussians, poses)
    save_splat(gaussians, tmp_path / f"scene{suffix}")
    rendered = render(load_splat(tmp_path / f"scene{suffix}"), poses)
    assert original.std() > 0.05
    assert (rendered - original).square().mean() < 1e-4 * original.square().mean() + 5e-5


def packed(version: int, positions: bytes, rotations: bytes) -> bytes:
    """An .spz file of two Gaussians, degree 1, made from the format's description alone."""
    header = struct.pack("<4sIIBBBB", b"NGSP", version, 2, 1, 8, 0, 0)
    opacities, colors = bytes([255, 51]), bytes([128, 0, 255] * 2)
    scales = bytes([160, 144, 176] * 2)  # logarithms 0, -1, 1
    harmonics = bytes(range(128, 146))
    return header + positions + opacities + colors + scales + rotations + harmonics


@pytest.mark.parametrize("version", [1, 2])
def test_older_versions_of_spz_are_read(tmp_path, version):
    if version == 1:
        positions = np.array([1, -2, 0.5, 3, 4, -5], "<f2").tobytes()
    else:
        steps = [round(256 * v) & 0xFFFFFF for v in (1, -2, 0.5, 3, 4, -5)]
        positions = b"".join(step.to_bytes(3, "little") for step in steps)
    turn = bytes([round(127.5 * (0.6 + 1)), 128, 128, 128, 128, round(127.5 * (-0.8 + 1))])
    path = tmp_path / "scene.spz"
    path.write_bytes(gzip.compress(packed(version, positions, turn)))
    scene = load_splat(path)
    torch.testing.assert_close(
        scene.means[0], torch.tensor([[1.0, 2.0, -0.5], [3.0, -4.0, 5.0]])
    )  # y up and z back become y down and z forward
    torch.testing.assert_close(scene.scales[0, 1].log(), torch.tensor([0.0, -1.0, 1.0]))
    expected = torch.tensor([[0.8, 0.6, 0.0, 0.0], [0.6, 0.0, 0.0, 0.8]])
    torch.testing.assert_close(scene.rotations[0], expected, atol=8e-3, rtol=0)
    torch.testing.assert_close(scene.opacities[0], torch.tensor([1.0, 0.2]))
    # Coefficients of y, z and x, red first: those of y and z change signs.
    torch.testing.assert_close(
        scene.harmonics[0, 0, :, 1:] * 128,
        torch.tensor([[0.0, -3, 6], [-1, -4, 7], [-2, -5, 8]]),
    )


def test_bytes_of_a_splat_file(tmp_path):
    path = tmp_path / "scene.splat"
    path.write_bytes(
        struct.pack("<6f8B", 1, 2, 3, 0.5, 0.25, 2, 255, 0, 102, 51, 128, 192, 128, 64)
    )
    scene = load_splat(path)
    assert scene.means[0].tolist() == [[1, 2, 3]] and scene.scales[0].tolist() == [[0.5, 0.25, 2]]
    color = scene.harmonics[0, 0, :, 0] * 0.28209479177387814 + 0.5
    torch.testing.assert_close(color, torch.tensor([1.0, 0.0, 0.4]))
    assert scene.opacities.item() == pytest.approx(0.2)
    torch.testing.assert_close(scene.rotations[0, 0], torch.tensor([0.0, 0.5**0.5, 0, -(0.5**0.5)]))
    save_splat(scene, tmp_path / "again.splat")
    again = np.fromfile(tmp_path / "again.splat", "u1")
    assert again[24:28].tolist() == [255, 0, 102, 51] and again[28] == 128
    for content, problem in ((b"", "is empty"), (bytes(63), "has 63 bytes, expected 32")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"scene.splat .*{problem}"):
            load_splat(path)


def test_compressed_ply_goes_by_content(tmp_path):
    """Under a plain name, without ranges of colours as older programs wrote it, and the reverse."""
    save_splat(moderate(0), tmp_path / "a.compressed.ply")
    data = PlyData.read(str(tmp_path / "a.compressed.ply"), mmap=False)
    data.write(str(tmp_path / "b.ply"))
    a, b = load_splat(tmp_path / "a.compressed.ply"), load_splat(tmp_path / "b.ply")
    assert torch.equal(a.means, b.means) and torch.equal(a.harmonics, b.harmonics)
    bounds = data["chunk"].data

    def write_chunks(rows: np.ndarray) -> None:
        elements = [PlyElement.describe(rows, "chunk"), data["vertex"]]
        PlyData(elements, byte_order="<").write(str(tmp_path / "b.ply"))

    without_colors = np.zeros(2, bounds.dtype.descr[:12])
    for column in without_colors.dtype.names:
        without_colors[column] = bounds[column]
    write_chunks(without_colors)
    b = load_splat(tmp_path / "b.ply")
    color = data["vertex"]["packed_color"].astype(np.int64) >> 24 & 255
    found = b.harmonics[0, :, 0, 0] * 0.28209479177387814 + 0.5
    np.testing.assert_allclose(found, color / 255, atol=1e-6)
    with pytest.raises(ValueError, match=r"b\.ply: activated=True is for plain PLY"):
        load_splat(tmp_path / "b.ply", activated=True)
    write_chunks(bounds[:1])
    with pytest.raises(
        ValueError, match=r"b\.ply is a damaged.* 1 chunks of 256 for 300 Gaussians"
    ):
        load_splat(tmp_path / "b.ply")


@pytest.mark.parametrize("suffix", WRITTEN)
def test_what_a_format_cannot_hold_is_named(tmp_path, suffix):
    path = tmp_path / f"scene{suffix}"
    with pytest.raises(ValueError, match=r"activated=True is for"):
        save_splat(moderate(0), path)
        load_splat(path, activated=True)
    extreme = moderate(0, count=300)
    extreme.scales[0, 0], extreme.opacities[0, :2] = 0, torch.tensor([0.0, 1.0])
    extreme.means[0, 0] = torch.tensor([100.0, -200.0, 300.0])
    save_splat(extreme, path)
    found = load_splat(path)
    assert found.means.shape == (1, 300, 3) and found.opacities.amax() == 1
    assert (found.means.abs().amax() - 300).abs() < 0.2


def test_declared_sizes_are_not_believed(tmp_path):
    path = tmp_path / "scene.spz"
    huge = struct.pack("<4sIIBBBB", b"NGSP", 3, 2**32 - 1, 3, 12, 0, 0)
    for content in (
        gzip.compress(huge),
        struct.pack("<4sIIBBBBI12x", b"NGSP", 4, 2**32 - 1, 3, 12, 0, 6, 32),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"scene\.spz is damaged: it would hold [\d,]+ bytes"):
            load_splat(path)
    path.write_bytes(
        gzip.compress(struct.pack("<4sIIBBBB", b"NGSP", 3, 10**5, 0, 12, 0, 0) + bytes(99))
    )
    with pytest.raises(ValueError, match=r"scene\.spz is damaged: its content has 115 bytes of"):
        load_splat(path)
    path.write_bytes(gzip.compress(struct.pack("<4sIIBBBB", b"NGSP", 9, 1, 0, 12, 0, 0)))
    with pytest.raises(ValueError, match=r"scene\.spz is of version 9 of \.spz"):
        load_splat(path)


@pytest.mark.parametrize(
    "name",
    ["degree_1.compressed.ply", "degree_1_v3.spz", "degree_3_v4.spz", "inner.spz", "scene.splat"],
)
def test_no_damage_gets_past_a_reader(tmp_path, name):
    """Any damage ends in Gaussians or in a sentence that names the file; inner: below gzip."""
    path, generator = tmp_path / name.replace("inner", "scene"), random.Random(name)
    if name == "scene.splat":
        save_splat(moderate(0, count=3), path)
        content = path.read_bytes()
    else:
        source = "degree_1_v3.spz" if name == "inner.spz" else name
        content = (SAMPLES / source).read_bytes()
    inner = name == "inner.spz"
    whole = gzip.decompress(content) if inner else content
    head = whole.find(b"end_header") + 200 if name.endswith(".ply") else 200
    for _ in range(120):
        damaged = bytearray(whole)
        at = generator.randrange(generator.choice((head, len(whole))))
        damaged[at : at + generator.randrange(4)] = generator.randbytes(generator.randrange(4))
        if generator.random() < 0.2:
            del damaged[generator.randrange(len(damaged)) :]
        path.write_bytes(gzip.compress(bytes(damaged), 1) if inner else bytes(damaged))
        try:
            load_splat(path)
        except ValueError as error:
            assert path.name in str(error) and "mvsplat)" not in str(error), str(error)
