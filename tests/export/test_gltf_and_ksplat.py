"""glTF with Gaussians, and .ksplat, which is read only: other programs' files, and damaged ones."""

import base64
import json
import random
import shutil
import struct

import numpy as np
import pytest
import torch
from splat_truth import largest_errors
from test_packed_formats import SAMPLES, assert_within, moderate
from test_ply import assert_same, cameras_around, colorful, make_gaussians, render

from mvsplat.export import load_ply, load_splat, save_splat
from mvsplat.geometry.rotations import axis_angle_to_quaternion, quaternion_to_matrix

EXACT = dict.fromkeys(("means", "log scales", "opacities", "colors", "rest", "shapes"), 1e-5)
KSPLAT = {
    0: EXACT | {"opacities": 1 / 255, "colors": 1 / 255},
    1: EXACT | {
        "means": 1e-4, "log scales": 1e-3, "opacities": 1 / 255, "colors": 1 / 255,
        "rest": 1e-3, "shapes": 4e-3,
    },
    2: EXACT | {
        "means": 1e-4, "log scales": 1e-3, "opacities": 1 / 255, "colors": 1 / 255,
        "rest": 3 / 255, "shapes": 4e-3,
    },
}  # fmt: skip


def test_another_programs_glb_is_read():
    truth = load_ply(SAMPLES / "degree_3.ply")
    assert_within(truth, load_splat(SAMPLES / "degree_3.glb"), EXACT)


def values_of(path) -> dict[str, np.ndarray]:
    """The attributes of a .glb file, read by glTF's definition, all of it floats or bytes."""
    content = path.read_bytes()
    magic, version, size, length, kind = struct.unpack_from("<4sIII4s", content)
    assert (magic, version, size, kind) == (b"glTF", 2, len(content), b"JSON") and length % 4 == 0
    document = json.loads(content[20 : 20 + length])
    assert content[20 + length + 4 : 20 + length + 8] == b"BIN\0"
    body = content[20 + length + 8 :]
    assert document["buffers"] == [{"byteLength": len(body)}]
    (primitive,) = document["meshes"][0]["primitives"]
    assert primitive["mode"] == 0 and document["extensionsUsed"] == ["KHR_gaussian_splatting"]
    assert primitive["extensions"]["KHR_gaussian_splatting"]["kernel"] == "ellipse"
    values = {}
    for name, number in primitive["attributes"].items():
        accessor = document["accessors"][number]
        view = document["bufferViews"][accessor["bufferView"]]
        dtype = {5126: "<f4", 5121: "u1"}[accessor["componentType"]]
        part = body[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        values[name] = np.frombuffer(part, dtype).reshape(accessor["count"], -1)
        if "min" in accessor:
            np.testing.assert_allclose(values[name].min(0), accessor["min"])
            np.testing.assert_allclose(values[name].max(0), accessor["max"])
    return values


def test_we_write_the_glb_that_the_other_program_writes(tmp_path):
    save_splat(load_ply(SAMPLES / "degree_3.ply"), tmp_path / "ours.glb")
    ours, theirs = values_of(tmp_path / "ours.glb"), values_of(SAMPLES / "degree_3.glb")
    assert list(ours) == list(theirs)
    for name, values in ours.items():
        if name.endswith(":ROTATION"):  # the same Gaussians: principal axes have no signs
            ours_axes, theirs_axes = (
                quaternion_to_matrix(torch.tensor(np.roll(q, 1, -1)))
                for q in (values, theirs[name])
            )
            torch.testing.assert_close(ours_axes.abs(), theirs_axes.abs(), atol=1e-5, rtol=0)
        else:
            bound = 1 if values.dtype == np.uint8 else 2e-6
            np.testing.assert_allclose(values.astype(float), theirs[name], atol=bound, rtol=1e-5)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
def test_nothing_is_lost(tmp_path, suffix, degree):
    gaussians = make_gaussians(degree=degree)
    save_splat(gaussians, tmp_path / f"scene{suffix}")
    found = load_splat(tmp_path / f"scene{suffix}")
    assert_same(found, gaussians)
    assert torch.equal(found.means, gaussians.means)
    json.loads((tmp_path / "scene.gltf").read_text()) if suffix == ".gltf" else None
    save_splat(make_gaussians(count=0, degree=degree), tmp_path / f"scene{suffix}")
    assert load_splat(tmp_path / f"scene{suffix}").means.shape == (1, 0, 3)
    with pytest.raises(ValueError, match="found degree 4"):
        save_splat(make_gaussians(degree=4), tmp_path / f"scene{suffix}")


def change(path, edit) -> None:
    """Edit the JSON of a .gltf file."""
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def test_nodes_move_turn_and_scale(tmp_path):
    """A tree of nodes: the picture is that of cameras that were moved along."""
    gaussians, poses, path = colorful(3), cameras_around(4), tmp_path / "scene.gltf"
    save_splat(gaussians, path)
    quaternion = axis_angle_to_quaternion(torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64))
    turn, shift, factor = quaternion_to_matrix(quaternion), torch.tensor([1.0, 2.0, -3.0]), 0.5
    inner = torch.eye(4).double()
    inner[:3, :3] = factor * torch.eye(3)

    def edit(document) -> None:
        document["nodes"] = [
            {"mesh": 0, "matrix": inner.T.flatten().tolist()},
            {
                "children": [0],
                "rotation": quaternion.roll(-1).tolist(),
                "translation": shift.tolist(),
            },
        ]
        document["scenes"] = [{"nodes": [1]}]

    change(path, edit)
    to_gltf = torch.diag(torch.tensor([-1.0, -1.0, 1.0])).double()
    moved = poses.double()
    rotation = to_gltf @ turn @ to_gltf
    moved[0, :, :3, :3] = rotation @ moved[0, :, :3, :3]
    moved[0, :, :3, 3] = factor * moved[0, :, :3, 3] @ rotation.T + to_gltf @ shift.double()
    found = load_splat(path)
    original = render(gaussians, poses)
    torch.testing.assert_close(render(found, moved.float()), original, atol=2e-3, rtol=0)
    assert original.std() > 0.05


def test_other_layouts_of_the_same_values(tmp_path):
    """Values in a file beside, interleaved, normalised, in two primitives; drafts' logarithms."""
    gaussians, path = moderate(1, count=60), tmp_path / "scene.gltf"
    save_splat(gaussians, path)
    document = json.loads(path.read_text())
    body = base64.b64decode(document["buffers"][0]["uri"].partition(",")[2])
    names = document["meshes"][0]["primitives"][0]["attributes"]

    def values(name: str) -> np.ndarray:
        accessor = document["accessors"][names[name]]
        view = document["bufferViews"][accessor["bufferView"]]
        part = body[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        return np.frombuffer(part, "<f4").reshape(60, -1)

    floats = {name: values(name) for name in names if name != "COLOR_0"}
    floats["KHR_gaussian_splatting:SCALE"] = np.log(floats["KHR_gaussian_splatting:SCALE"])
    quantised = {
        "KHR_gaussian_splatting:OPACITY": (65535, "<u2", 5123),
        "KHR_gaussian_splatting:ROTATION": (32767, "<i2", 5122),
    }
    fields = [
        (name, *((quantised[name][1],) if name in quantised else ("<f4",)), array.shape[1:])
        for name, array in floats.items()
    ]
    rows = np.zeros(60, np.dtype(fields, align=True))
    accessors = []
    for name, array in floats.items():
        highest, _, kind = quantised.get(name, (1, "", 5126))
        rows[name] = np.round(array * highest) if name in quantised else array
        accessors.append(
            {
                "bufferView": 0, "byteOffset": rows.dtype.fields[name][1], "componentType": kind,
                "normalized": name in quantised, "count": 60,
                "type": "SCALAR" if array.shape[1] == 1 else f"VEC{array.shape[1]}",
            }
        )  # fmt: skip
    attributes = {name: number for number, name in enumerate(floats)}
    kind = document["meshes"][0]["primitives"][0]["extensions"]
    half = {**attributes}
    document["meshes"][0]["primitives"] = [
        {"attributes": half, "mode": 0, "extensions": kind}, {"attributes": {"POSITION": 0}},
    ]  # fmt: skip
    document["accessors"] = accessors
    size = rows.nbytes
    document["bufferViews"] = [{"buffer": 0, "byteLength": size, "byteStride": rows.dtype.itemsize}]
    document["buffers"] = [{"uri": "values.bin", "byteLength": size}]
    path.write_text(json.dumps(document))
    (tmp_path / "values.bin").write_bytes(rows.tobytes())
    errors = largest_errors(gaussians, load_splat(path))
    assert errors["means"] == 0 and errors["rest"] == 0 and errors["opacities"] < 1e-5
    assert errors["log scales"] < 1e-5 and errors["shapes"] < 2e-4
    document["meshes"].append(document["meshes"][0])
    document["nodes"] = [{"mesh": 0}, {"mesh": 1, "translation": [1, 0, 0]}]
    document["scenes"] = [{"nodes": [0, 1]}]
    path.write_text(json.dumps(document))
    both = load_splat(path)
    assert both.means.shape == (1, 120, 3)
    torch.testing.assert_close(both.means[0, 60:, 0], gaussians.means[0, :, 0] - 1)  # x is left


def set_buffer(uri: str):
    return lambda document: document["buffers"].__setitem__(0, {"uri": uri, "byteLength": 4})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_buffer("../secret.bin"), r"its buffer 0 is to be in '\.\./secret\.bin'; expected"),
        (set_buffer("/etc/hostname"), "expected the name of a file beside it"),
        (set_buffer("https://example.com/a.bin"), "expected the name of a file beside it"),
        (set_buffer(".."), "expected the name of a file beside it"),
        (set_buffer("data:application/octet-stream;base64,AAA"), "is damaged: buffer 0"),
        (set_buffer("data:;base64,AAAA"), "is damaged: POSITION ends at byte 480 of a buffer of 3"),
        (lambda d: d["accessors"][0].update(count=2**40), "POSITION ends at byte"),
        (lambda d: d["accessors"][0].update(count=-1), "is damaged: POSITION is -1 of VEC3"),
        (lambda d: d["accessors"][2].update(count=3), "ROTATION is 3 of VEC4"),
        (lambda d: d["bufferViews"][0].update(byteOffset=-4), "POSITION has no place"),
        (lambda d: d["bufferViews"][0].update(byteStride=1), "POSITION has no place"),
        (lambda d: d["nodes"][0].update(children=[0]), "node 0|without Gaussians|no entry"),
        (lambda d: d["nodes"][0].update(mesh=7), "there is no entry 7 among 1"),
        (lambda d: d["nodes"][0].update(scale=[1, 2, 1]), "stretches them unevenly"),
        (lambda d: d["nodes"][0].update(scale=[0, 0, 0]), "mirrors .* or stretches"),
        (lambda d: d["nodes"][0].update(rotation="up"), "node 0 has something else than 4 numbers"),
        (lambda d: d["meshes"][0]["primitives"][0].update(extensions={}), "without Gaussians"),
    ],
)
def test_hostile_gltf_is_refused(tmp_path, edit, message):
    path = tmp_path / "inside" / "scene.gltf"
    save_splat(moderate(0, count=40), path)
    (tmp_path / "secret.bin").write_bytes(bytes(10_000))
    change(path, edit)
    with pytest.raises(ValueError, match=rf"scene\.gltf.*({message})"):
        load_splat(path)


def test_compressed_extensions_are_named(tmp_path):
    path = tmp_path / "scene.gltf"
    save_splat(moderate(0, count=4), path)

    def edit(document) -> None:
        kind = document["meshes"][0]["primitives"][0]["extensions"]["KHR_gaussian_splatting"]
        kind["extensions"] = {"KHR_gaussian_splatting_compression_spz_2": {"bufferView": 0}}

    change(path, edit)
    with pytest.raises(ValueError, match="in the form of KHR_gaussian_splatting_compression_spz_2"):
        load_splat(path)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_ksplat_of_its_own_library_is_read(level, tmp_path):
    path = SAMPLES / f"degree_2_level_{level}.ksplat"
    found = load_splat(path)
    assert found.harmonics.shape[-1] == 9
    assert_within(load_ply(SAMPLES / "degree_2.ply"), found, KSPLAT[level])
    with pytest.raises(ValueError, match=r"suffix '\.ksplat' are not written"):
        save_splat(found, tmp_path / "scene.ksplat")


def test_hostile_ksplat_is_refused(tmp_path):
    path = tmp_path / "scene.ksplat"
    shutil.copy(SAMPLES / "degree_2_level_1.ksplat", path)
    whole = path.read_bytes()
    for place, value, message in (
        (0, b"\7", "version 7.1"), (4, b"\xff\xff\xff\xff", "4294967295 sections declared"),
        (20, b"\3", "level 3"), (4096, b"\xff\xff\xff", "section 0 of"),
        (4096 + 4, b"\xff\xff\xff\xff", "section 0 of"), (4096 + 12, b"\0\0", "0 buckets|on 0"),
        (4096 + 20, b"\1\0", "of 1 bytes"), (4096 + 36, b"\xff\xff\xff\x7f", "section 0"),
        (4096 + 40, b"\4", "harmonics of degree 4"), (4096, bytes(4), "holds no Gaussians"),
    ):  # fmt: skip
        path.write_bytes(whole[:place] + value + whole[place + len(value) :])
        with pytest.raises(ValueError, match=rf"scene\.ksplat.*({message})"):
            load_splat(path)


@pytest.mark.parametrize("name", ["degree_2_level_1.ksplat", "degree_3.glb", "scene.gltf"])
def test_no_damage_gets_past_a_reader(tmp_path, name):
    path, generator = tmp_path / name, random.Random(name)
    if name == "scene.gltf":
        save_splat(moderate(0, count=2), path)
    else:
        shutil.copy(SAMPLES / name, path)
    whole = path.read_bytes()
    start = {"degree_2_level_1.ksplat": 4096}.get(name, 0)
    words = [b"-1", b"null", b"[]", b"{}", b"99999999999999999999", b"1e999", b'"a"', b"true"]
    for _ in range(150):
        damaged, at = bytearray(whole), start + int(generator.random() ** 2 * (len(whole) - start))
        kind = generator.randrange(4)
        if kind == 0:
            damaged[at : at + generator.randrange(4)] = generator.randbytes(generator.randrange(4))
        elif kind == 1:
            del damaged[at:]
        elif kind == 2 and name != "degree_2_level_1.ksplat":
            word = next((i for i in range(at, len(damaged)) if damaged[i : i + 1].isdigit()), at)
            damaged[word : word + 1] = generator.choice(words)
        else:
            damaged[at : at + 4] = generator.choice((b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"))
        path.write_bytes(damaged)
        try:
            load_splat(path)
        except ValueError as error:
            assert path.name in str(error) and "mvsplat)" not in str(error), str(error)
