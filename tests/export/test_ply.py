"""PLY files, read by plyfile, written by gsplat, damaged, foreign and large."""

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from mvsplat.export import load_ply, save_ply
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


def test_reads_what_gsplat_writes(tmp_path):
    exporter = pytest.importorskip("gsplat.exporter")
    gaussians = make_gaussians()
    harmonics = gaussians.harmonics[0].mT
    exporter.export_splats(
        means=gaussians.means[0],
        scales=gaussians.scales[0].log(),
        quats=gaussians.rotations[0],
        opacities=gaussians.opacities[0].logit(),
        sh0=harmonics[:, :1],
        shN=harmonics[:, 1:],
        save_to=str(tmp_path / "scene.ply"),
    )
    assert_same(load_ply(tmp_path / "scene.ply"), gaussians)


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
    mesh = np.zeros(4, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1")])
    PlyData([PlyElement.describe(mesh, "vertex")]).write(str(path))
    with pytest.raises(ValueError, match="not a file of 3-D Gaussians.* no f_dc_0.* x, y, z, red"):
        load_ply(path)
    PlyData([PlyElement.describe(mesh, "points")]).write(str(path))
    with pytest.raises(ValueError, match="no element named vertex"):
        load_ply(path)


def test_a_loaded_file_renders_the_same_from_every_side(tmp_path):
    from mvsplat.decoder import SplattingDecoder

    gaussians = make_gaussians(count=100, degree=3)
    gaussians.means *= 0.3
    gaussians.scales = gaussians.scales.clamp(max=0.3)
    save_ply(gaussians, tmp_path / "scene.ply")
    angles = torch.linspace(0, 6, 4)
    extrinsics = torch.eye(4).repeat(1, 4, 1, 1)
    rotation = torch.stack([angles.cos(), angles.sin(), -angles.sin(), angles.cos()], -1)
    extrinsics[0, :, ::2, ::2][:, :2, :2] = rotation.view(4, 2, 2)
    extrinsics[0, :, :3, 3] = -6 * extrinsics[0, :, :3, 2]
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).expand(1, 4, 3, 3)
    near, far = torch.full((1, 4), 1.0), torch.full((1, 4), 20.0)
    original, loaded = (
        SplattingDecoder()(splats, extrinsics, intrinsics, near, far, (32, 32)).color
        for splats in (gaussians, load_ply(tmp_path / "scene.ply"))
    )
    assert original.std() > 0.05
    torch.testing.assert_close(loaded, original, atol=1e-4, rtol=0)
