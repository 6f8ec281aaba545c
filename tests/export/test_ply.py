"""PLY files, read by plyfile, written by gsplat, damaged, foreign and large."""

import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from mvsplat.export import load_ply, save_ply
from mvsplat.export.placement import axis_direction
from mvsplat.types import Gaussians

FIELDS = ("means", "scales", "rotations", "harmonics", "opacities")


def make_gaussians(count: int = 50, degree: int = 3, scenes: int = 1) -> Gaussians:
    """Random Gaussians of a usual range."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(scenes, count, *shape, generator=generator)

    return Gaussians(
        means=3 * normal(3),
        scales=(normal(3) - 3).exp(),
        rotations=torch.nn.functional.normalize(normal(4), dim=-1),
        harmonics=normal(3, (degree + 1) ** 2),
        opacities=normal().sigmoid(),
    )


def assert_same(a: Gaussians, b: Gaussians) -> None:
    """Equal up to the rounding of logarithms and their inverses."""
    for name in FIELDS:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=3e-6, atol=1e-7)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_round_trip(tmp_path, degree):
    gaussians = make_gaussians(degree=degree)
    save_ply(gaussians, tmp_path / "new" / "scene.ply")
    loaded = load_ply(tmp_path / "new" / "scene.ply")
    assert_same(loaded, gaussians)
    assert torch.equal(loaded.means, gaussians.means)
    assert torch.equal(loaded.harmonics, gaussians.harmonics)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["scene.ply"]


def test_another_program_reads_the_standard_layout(tmp_path):
    gaussians = make_gaussians()
    save_ply(gaussians, tmp_path / "scene.ply")
    data = PlyData.read(str(tmp_path / "scene.ply"))
    assert data.byte_order == "<" and not data.text
    table = data["vertex"].data
    assert table.dtype.names[:6] == ("x", "y", "z", "nx", "ny", "nz") and len(table.dtype) == 62
    harmonics, row = gaussians.harmonics[0].numpy(), 7
    assert [table[f"f_dc_{c}"][row] for c in range(3)] == harmonics[row, :, 0].tolist()
    for channel in range(3):  # all of red first
        for coefficient in range(15):
            value = table[f"f_rest_{channel * 15 + coefficient}"][row]
            assert value == harmonics[row, channel, coefficient + 1]
    opacity, scale = gaussians.opacities[0, row].item(), gaussians.scales[0, row].tolist()
    assert table["opacity"][row] == pytest.approx(np.log(opacity / (1 - opacity)), rel=1e-5)
    assert [table[f"scale_{i}"][row] for i in range(3)] == pytest.approx(np.log(scale), rel=1e-5)
    rotation = gaussians.rotations[0, row].tolist()  # w first
    assert [table[f"rot_{i}"][row] for i in range(4)] == pytest.approx(rotation, rel=1e-5)


def read_by_the_format(path) -> dict[str, np.ndarray]:
    """A reader made from the PLY format's definition alone: a text header, then packed rows."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = [line.split() for line in header.decode("ascii").splitlines()]
    assert lines[0] == ["ply"] and lines[1] == ["format", "binary_little_endian", "1.0"]
    (count,) = (int(line[2]) for line in lines if line[:2] == ["element", "vertex"])
    names = [line[2] for line in lines if line[:2] == ["property", "float"]]
    rows = np.frombuffer(body, "<f4").reshape(count, len(names))
    return {name: rows[:, column] for column, name in enumerate(names)}


def export_with_gsplat(gaussians: Gaussians, path) -> None:
    exporter = pytest.importorskip("gsplat.exporter")
    harmonics = gaussians.harmonics[0].mT
    exporter.export_splats(
        means=gaussians.means[0],
        scales=gaussians.scales[0].log(),
        quats=gaussians.rotations[0],
        opacities=gaussians.opacities[0].logit(),
        sh0=harmonics[:, :1],
        shN=harmonics[:, 1:],
        save_to=str(path),
    )


def test_reads_what_gsplat_writes(tmp_path):
    gaussians = make_gaussians()
    export_with_gsplat(gaussians, tmp_path / "scene.ply")
    assert_same(load_ply(tmp_path / "scene.ply"), gaussians)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_gsplat_and_two_readers_agree_on_every_field(tmp_path, degree):
    gaussians = make_gaussians(degree=degree)
    save_ply(gaussians, tmp_path / "ours.ply")
    export_with_gsplat(gaussians, tmp_path / "theirs.ply")
    ours = read_by_the_format(tmp_path / "ours.ply")
    table = PlyData.read(str(tmp_path / "ours.ply"))["vertex"].data
    theirs = PlyData.read(str(tmp_path / "theirs.ply"))["vertex"].data
    assert set(theirs.dtype.names) <= set(ours) == set(table.dtype.names)
    for name, values in ours.items():
        np.testing.assert_array_equal(values, table[name])
        if name in theirs.dtype.names:
            np.testing.assert_allclose(values, theirs[name], rtol=2e-6, atol=2e-6, err_msg=name)


def test_reads_any_order_type_and_encoding_of_properties(tmp_path):
    gaussians = make_gaussians(count=5, degree=1)
    save_ply(gaussians, tmp_path / "scene.ply")
    table = PlyData.read(str(tmp_path / "scene.ply"))["vertex"].data
    names = [name for name in reversed(table.dtype.names) if name[0] != "n"]
    other = np.empty(5, [("label", "i4"), *((name, "f8") for name in names)])
    for name in names:
        other[name] = table[name]
    for text, order in ((True, "="), (False, ">")):
        element = PlyElement.describe(other, "vertex")
        PlyData([element], text=text, byte_order=order).write(str(tmp_path / "other.ply"))
        assert_same(load_ply(tmp_path / "other.ply"), gaussians)


def test_extreme_values_stay_finite(tmp_path):
    gaussians = make_gaussians(count=3, degree=0)
    gaussians.opacities = torch.tensor([[0.0, 1.0, 0.5]])
    gaussians.scales[0, 0] = 0
    save_ply(gaussians, tmp_path / "scene.ply")
    loaded = load_ply(tmp_path / "scene.ply")
    torch.testing.assert_close(loaded.opacities, gaussians.opacities)
    torch.testing.assert_close(loaded.scales, gaussians.scales)


def test_one_scene_of_a_batch(tmp_path):
    gaussians = make_gaussians(scenes=3)
    save_ply(gaussians, tmp_path / "scene.ply", scene=1)
    assert torch.equal(load_ply(tmp_path / "scene.ply").means[0], gaussians.means[1])
    with pytest.raises(ValueError, match="3 scenes: choose one with scene="):
        save_ply(gaussians, tmp_path / "other.ply")
    with pytest.raises(ValueError, match="no scene 3"):
        save_ply(gaussians, tmp_path / "other.ply", scene=3)
    assert not (tmp_path / "other.ply").exists()


def test_thresholds_leave_out_transparent_and_huge_gaussians(tmp_path):
    gaussians = make_gaussians(count=200)
    save_ply(gaussians, tmp_path / "scene.ply", min_opacity=0.3, max_scale=0.2)
    kept = (gaussians.opacities[0] >= 0.3) & (gaussians.scales[0] <= 0.2).all(-1)
    assert 0 < kept.sum() < 200
    assert torch.equal(load_ply(tmp_path / "scene.ply").means[0], gaussians.means[0, kept])
    save_ply(gaussians, tmp_path / "scene.ply", max_scale=0.0)
    assert load_ply(tmp_path / "scene.ply").means.shape == (1, 0, 3)


def test_refuses_what_a_file_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="found 25"):
        save_ply(make_gaussians(degree=4), tmp_path / "scene.ply")
    gaussians = make_gaussians(count=100_000, degree=0)
    save_ply(gaussians, tmp_path / "scene.ply")
    before = (tmp_path / "scene.ply").read_bytes()
    gaussians.means[0, 70_000, 1] = torch.nan
    with pytest.raises(ValueError, match="Gaussian 70000 has values that are not finite"):
        save_ply(gaussians, tmp_path / "scene.ply")
    assert (tmp_path / "scene.ply").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_damaged_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "scene.ply"
    with pytest.raises(FileNotFoundError, match=r"no PLY file at .*scene\.ply"):
        load_ply(path)
    save_ply(make_gaussians(), path)
    content = path.read_bytes()
    for damaged in (content[:-100], content[:40], b"", b"\x89PNG\r\n\x1a\n" + bytes(100)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"scene\.ply is damaged, or no PLY file"):
            load_ply(path)
    PlyData([PlyElement.describe(np.zeros(4, [("x", "f4")]), "points")]).write(str(path))
    with pytest.raises(ValueError, match="no element named vertex"):
        load_ply(path)


def write_elements(path, properties, *others) -> None:
    table = np.zeros(4, [(name, "f4") for name in properties])
    elements = [PlyElement.describe(table, "vertex")]
    elements += [PlyElement.describe(np.zeros(1, [("a", "i4")]), name) for name in others]
    PlyData(elements).write(str(path))


@pytest.mark.parametrize(
    ("properties", "others", "message"),
    [
        ("x y z nx ny nz opacity red green blue", [], r"no scale_0, .* have x, y, z, nx"),
        ("x y z nx ny nz", ["face"], "is a mesh.*mvsplat reconstruct"),
        ("x y z f_offset_0 f_anchor_feat_0 opacity scale_0", [], "anchors of Scaffold-GS"),
        ("x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 rot_0", [], "2-D Gaussians"),
    ],
)
def test_other_things_in_ply_files_are_named(tmp_path, properties, others, message):
    path = tmp_path / "scene.ply"
    write_elements(path, properties.split(), *others)
    with pytest.raises(ValueError, match=rf"scene\.ply is .*{message}"):
        load_ply(path)


def test_gaussians_that_are_not_finite_are_left_out_and_counted(tmp_path, caplog):
    path, whole = tmp_path / "scene.ply", make_gaussians(count=50_000, degree=0)
    save_ply(whole, path)
    table = PlyData.read(str(path), mmap=False)["vertex"].data
    others = [*range(4321), *range(4322, 50_000)]
    for name, value, field in (
        ("y", math.nan, "means"), ("scale_1", 1000.0, "scales"), ("rot_0", math.inf, "rotations"),
        ("f_dc_2", -math.inf, "harmonics"), ("opacity", math.nan, "opacities"),
    ):  # fmt: skip
        damaged = table.copy()
        damaged[name][4321] = value
        PlyData([PlyElement.describe(damaged, "vertex")]).write(str(path))
        caplog.clear()
        loaded = load_ply(path)
        assert torch.equal(loaded.means[0], whole.means[0, others])
        assert loaded.opacities.shape == (1, 49_999) and loaded.harmonics.shape[1] == 49_999
        assert "scene.ply: 1 of 50000 Gaussians are left out" in caplog.text
        assert f"{field} of Gaussian 4321 are not finite" in caplog.text
    table["z"] = math.inf
    PlyData([PlyElement.describe(table, "vertex")]).write(str(path))
    with pytest.raises(ValueError, match=r"scene\.ply is damaged: none of its 50000 Gaussians"):
        load_ply(path)


def test_a_filter_that_is_not_applied_is_named(tmp_path, caplog):
    path = tmp_path / "scene.ply"
    save_ply(make_gaussians(count=3, degree=0), path)
    table = PlyData.read(str(path), mmap=False)["vertex"].data
    mip = np.zeros(3, [*table.dtype.descr, ("filter_3D", "f4")])
    for name in table.dtype.names:
        mip[name] = table[name]
    PlyData([PlyElement.describe(mip, "vertex")]).write(str(path))
    assert load_ply(path).means.shape == (1, 3, 3)
    assert "3-D filter (filter_3D) is not applied here" in caplog.text


def test_legal_extremes_stay(tmp_path, caplog):
    path = tmp_path / "scene.ply"
    save_ply(make_gaussians(count=5_000, degree=0), path)
    table = PlyData.read(str(path), mmap=False)["vertex"].data
    exact = table.copy()  # what some programs write for opacity 1 and 0, scale 0 and no rotation
    exact["opacity"][:2], exact["scale_0"][0] = (math.inf, -math.inf), -math.inf
    for i in range(4):
        exact[f"rot_{i}"][1] = 0
    PlyData([PlyElement.describe(exact, "vertex")]).write(str(path))
    loaded = load_ply(path)
    assert loaded.opacities[0, :2].tolist() == [1, 0] and loaded.scales[0, 0, 0] == 0
    assert loaded.rotations[0, 1].tolist() == [1, 0, 0, 0]
    assert loaded.means.shape == (1, 5_000, 3) and not caplog.records


def test_scenes_of_unusual_scale_or_opacity_are_not_called_activated(tmp_path, caplog):
    gaussians = make_gaussians(count=300)
    gaussians.scales = gaussians.scales * 1e3  # millimetres
    constant = torch.full_like(gaussians.opacities, 0.7)
    for opacities in (constant, torch.linspace(0.45, 0.72, 300)[None]):
        gaussians.opacities = opacities
        save_ply(gaussians, tmp_path / "scene.ply")
        load_ply(tmp_path / "scene.ply")
        assert not caplog.records


def test_lists_and_impossible_sizes_are_refused(tmp_path):
    path = tmp_path / "scene.ply"
    save_ply(make_gaussians(count=2, degree=0), path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"property float x", b"property list uchar float x"))
    with pytest.raises(ValueError, match=r"scene\.ply"):
        load_ply(path)
    names = [name for name in read_names(content) if name != "x"]
    lines = ["ply", "format ascii 1.0", "element vertex 1", "property list uchar float x"]
    lines += [f"property float {name}" for name in names] + ["end_header", "1 5 " + "0 " * 16]
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="x is a list for every point, expected one number"):
        load_ply(path)
    for kind in (b"binary_little_endian", b"ascii"):
        huge = content.replace(b"vertex 2", b"vertex 999999999999999")
        path.write_bytes(huge.replace(b"binary_little_endian", kind))
        with pytest.raises(ValueError, match=r"scene\.ply is damaged"):
            load_ply(path)


def read_names(content: bytes) -> list[str]:
    return re.findall(r"property float (\w+)", content.partition(b"end_header")[0].decode())


def test_no_damage_to_a_header_gets_past_the_reader(tmp_path):
    path = tmp_path / "scene.ply"
    save_ply(make_gaussians(count=3, degree=1), path)
    content = path.read_bytes()
    length, generator = content.index(b"end_header"), random.Random(0)
    for _ in range(300):
        damaged, at = bytearray(content), generator.randrange(length)
        damaged[at : at + generator.randrange(4)] = generator.randbytes(generator.randrange(4))
        path.write_bytes(damaged)
        try:
            load_ply(path)
        except ValueError as error:
            assert "scene.ply" in str(error)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory needs Linux")
def test_writing_needs_no_second_copy(tmp_path):
    gaussians = make_gaussians(count=400_000)
    size = save_and_measure(gaussians, tmp_path / "warm.ply")[1]
    assert size == pytest.approx(400_000 * 62 * 4, rel=0.001)
    peak, _ = save_and_measure(gaussians, tmp_path / "scene.ply", min_opacity=0.1, up_axis="y")
    assert peak < 0.6 * size  # a few blocks of rows at a time, whatever the scene's size


def save_and_measure(gaussians: Gaussians, path, **options) -> tuple[int, int]:
    """Bytes by which the process grew at most, and bytes of the file."""

    def memory(name: str) -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1])

    Path("/proc/self/clear_refs").write_text("5")  # starts a new peak
    before = memory("VmRSS")
    save_ply(gaussians, path, **options)
    return memory("VmHWM") - before, path.stat().st_size


def cameras_around(count: int, distance: float = 6.0) -> torch.Tensor:
    """Cameras in all directions, looking at the origin [1, v, 4, 4]."""
    generator = torch.Generator().manual_seed(1)
    axes = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator)).Q
    axes[:, :, 0] *= torch.linalg.det(axes)[:, None]
    poses = torch.eye(4).repeat(1, count, 1, 1)
    poses[0, :, :3, :3], poses[0, :, :3, 3] = axes, -distance * axes[:, :, 2]
    return poses


def render(gaussians: Gaussians, extrinsics: torch.Tensor) -> torch.Tensor:
    from mvsplat.decoder import SplattingDecoder

    count = extrinsics.shape[1]
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).expand(1, count, 3, 3)
    near, far = torch.full((1, count), 1.0), torch.full((1, count), 20.0)
    return SplattingDecoder()(gaussians, extrinsics, intrinsics, near, far, (32, 32)).color


def colorful(degree: int) -> Gaussians:
    """Gaussians around the origin, in view-dependent colours."""
    gaussians = make_gaussians(count=100, degree=degree)
    gaussians.means *= 0.3
    gaussians.scales = gaussians.scales.clamp(max=0.3)
    return gaussians


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_loaded_file_renders_the_same_from_every_side(tmp_path, degree):
    gaussians, poses = colorful(degree), cameras_around(8)
    save_ply(gaussians, tmp_path / "scene.ply")
    original = render(gaussians, poses)
    assert original.std() > 0.05
    torch.testing.assert_close(
        render(load_ply(tmp_path / "scene.ply"), poses), original, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("up_axis", ["x", "y", "z", "-x", "-y", "-z"])
@pytest.mark.parametrize("up", [(0.0, -1.0, 0.0), (0.3, -2.0, 0.5)])
def test_a_placed_scene_renders_the_same_from_placed_cameras(tmp_path, up_axis, up):
    gaussians, poses, path = colorful(3), cameras_around(3), tmp_path / "scene.ply"
    gaussians.means += torch.tensor([5.0, -3.0, 2.0])
    poses[0, :, :3, 3] += torch.tensor([5.0, -3.0, 2.0])
    save_ply(gaussians, path, recenter=True, up_axis=up_axis, up=up)
    loaded = load_ply(path)
    comments = PlyData.read(str(path)).comments
    shift, rotation = (
        torch.tensor([float(word) for word in line.split() if re.match(r"^-?\d", word)])
        for line in comments
    )
    rotation = rotation.view(3, 3)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.tensor(1.0))
    direction = torch.nn.functional.normalize(torch.tensor(up), dim=0)
    expected = torch.zeros(3)
    expected["xyz".index(up_axis[-1])] = -1 if up_axis[0] == "-" else 1
    torch.testing.assert_close(rotation @ direction, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(shift, -gaussians.means[0].median(dim=0).values)
    turned = poses.clone()
    turned[0, :, :3, :3] = rotation @ poses[0, :, :3, :3]
    turned[0, :, :3, 3] = (poses[0, :, :3, 3] + shift) @ rotation.T
    torch.testing.assert_close(render(loaded, turned), render(gaussians, poses), atol=1e-4, rtol=0)


def test_placement_is_off_by_default_and_refuses_nonsense(tmp_path):
    gaussians, path = make_gaussians(count=4, degree=1), tmp_path / "scene.ply"
    save_ply(gaussians, path)
    assert PlyData.read(str(path)).comments == []
    save_ply(gaussians, path, up_axis="-y")  # as it is already
    torch.testing.assert_close(load_ply(path).means, gaussians.means)
    with pytest.raises(ValueError, match="up_axis: 'w' found, expected x, y, z, -x, -y or -z"):
        axis_direction("w")
    with pytest.raises(ValueError, match=r"up: .* found, expected a direction"):
        save_ply(gaussians, path, up_axis="y", up=(0.0, 0.0, 0.0))
    empty = make_gaussians(count=0, degree=1)
    save_ply(empty, path, recenter=True, up_axis="z")
    assert load_ply(path).means.shape == (1, 0, 3)
