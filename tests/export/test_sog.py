"""PlayCanvas' SOG: another program's file, what is written, and hostile archives and folders."""

import io
import json
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_packed_formats import SAMPLES, assert_within, moderate
from test_ply import cameras_around, colorful, make_gaussians, render

from mvsplat.export import load_ply, load_splat, save_splat
from mvsplat.export.formats.codebooks import (
    _nearest,
    nearest_number,
    number_codebook,
    vector_codebook,
)

STEPS = {
    "means": 1e-3, "log scales": 0.12, "opacities": 1 / 255, "colors": 0.01,
    "rest": 0.6, "shapes": 0.2,
}  # fmt: skip


def test_another_programs_file_is_read():
    """Its palette has 32 entries for 40 random Gaussians: harmonics are those of entries."""
    truth, found = load_ply(SAMPLES / "degree_3.ply"), load_splat(SAMPLES / "degree_3.sog")
    assert found.harmonics.shape[-1] == 16
    assert_within(truth, found, STEPS)
    order = torch.cdist(truth.means[0], found.means[0]).argmin(1)
    errors = (truth.harmonics[0] - found.harmonics[0, order])[..., 1:].abs().amax((1, 2))
    assert int((errors < 0.03).sum()) >= 20  # those that have an entry of their own


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_round_trip(tmp_path, degree):
    gaussians = moderate(degree)
    save_splat(gaussians, tmp_path / "scene.sog")
    save_splat(gaussians, tmp_path / "scene" / "meta.json")
    found = load_splat(tmp_path / "scene.sog")
    assert found.harmonics.shape == gaussians.harmonics.shape
    assert_within(gaussians, found, STEPS | {"rest": 0.06})
    for name in (tmp_path / "scene", tmp_path / "scene" / "meta.json"):
        folder = load_splat(name)
        assert torch.equal(folder.harmonics, found.harmonics)
        assert torch.equal(folder.rotations, found.rotations)


def test_the_layout_is_that_of_the_specification(tmp_path):
    """Positions, rotations and palette of one Gaussian, worked out by hand from the pictures."""
    gaussians = moderate(1, count=70)
    save_splat(gaussians, tmp_path / "scene.sog")
    with zipfile.ZipFile(tmp_path / "scene.sog") as archive:
        meta = json.loads(archive.read("meta.json"))
        pictures = {
            name: np.asarray(Image.open(io.BytesIO(archive.read(name))))
            for part in ("means", "scales", "quats", "sh0", "shN")
            for name in meta[part]["files"]
        }
    assert (meta["version"], meta["count"], meta["shN"]["bands"]) == (2, 70, 1)
    height, width = pictures["sh0.webp"].shape[:2]
    assert height * width >= 70 and pictures["shN_centroids.webp"].shape[1] == 64 * 3
    number = 37
    y, x = divmod(number, width)
    steps = (
        pictures["means_u.webp"][y, x, :3].astype(int) * 256 + pictures["means_l.webp"][y, x, :3]
    )
    low, high = (np.array(meta["means"][name]) for name in ("mins", "maxs"))
    log = low + steps / 65535 * (high - low)
    mean = np.sign(log) * (np.exp(np.abs(log)) - 1)
    (index,) = (torch.cdist(torch.tensor(mean)[None].float(), gaussians.means[0]).argmin(),)
    np.testing.assert_allclose(gaussians.means[0, index], mean, atol=1e-3)
    r, g, b, a = pictures["quats.webp"][y, x].astype(int)
    smaller = (np.array([r, g, b]) / 255 - 0.5) * 2 / np.sqrt(2)
    quaternion = np.insert(smaller, a - 252, np.sqrt(1 - (smaller**2).sum()))
    assert abs(float(torch.tensor(quaternion) @ gaussians.rotations[0, index].double())) > 0.9999
    label = int(pictures["shN_labels.webp"][y, x, 0]) + 256 * int(
        pictures["shN_labels.webp"][y, x, 1]
    )
    row, column = divmod(label, 64)
    for coefficient in range(3):
        entry = pictures["shN_centroids.webp"][row, column * 3 + coefficient, :3]
        found = [meta["shN"]["codebook"][value] for value in entry]
        expected = gaussians.harmonics[0, index, :, coefficient + 1]
        np.testing.assert_allclose(found, expected, atol=0.06)


def test_a_file_renders_as_the_scene_from_every_side(tmp_path):
    gaussians, poses = colorful(3), cameras_around(6)
    original = render(gaussians, poses)
    save_splat(gaussians, tmp_path / "scene.sog")
    rendered = render(load_splat(tmp_path / "scene.sog"), poses)
    assert (rendered - original).square().mean() < 1e-3 * original.square().mean()


def test_codebooks_are_near_the_best():
    """Of normal numbers, 256 entries at best leave an error of sigma^2 sqrt(3) pi / 2 / 256^2."""
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    codebook = number_codebook(values, 256)
    error = float((codebook[nearest_number(values, codebook)] - values).square().mean())
    assert error < 1.1 * 3**0.5 * np.pi / 2 / 256**2
    vectors = torch.randn(999, 6, generator=torch.Generator().manual_seed(2))
    for size in (1, 2, 100, 5000):
        entries = torch.randn(size, 6, generator=torch.Generator().manual_seed(3))
        distances = torch.cdist(vectors.double(), entries.double())
        chosen = distances.gather(1, _nearest(vectors, entries)[:, None])[:, 0]
        torch.testing.assert_close(chosen, distances.amin(1), rtol=1e-4, atol=0)
    groups = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(4000) % 50
    entries, found = vector_codebook(groups[labels], 1024)
    torch.testing.assert_close(entries[found], groups[labels])
    assert len(entries) <= 1024
    same = torch.zeros(100, 3)
    assert torch.equal(vector_codebook(same, 10)[0][:1], same[:1])
    assert (number_codebook(same.flatten(), 256) == 0).all()


def test_what_cannot_be_held_is_named(tmp_path):
    for gaussians in (make_gaussians(count=0), make_gaussians(degree=4)):
        with pytest.raises(ValueError, match="at least one Gaussian, with harmonics of degree 0"):
            save_splat(gaussians, tmp_path / "scene.sog")
    assert not list(tmp_path.iterdir())
    one = make_gaussians(count=1)
    save_splat(one, tmp_path / "scene.sog")
    found = load_splat(tmp_path / "scene.sog")
    torch.testing.assert_close(found.means, one.means)
    torch.testing.assert_close(found.harmonics, one.harmonics, atol=1e-6, rtol=1e-6)


def webp(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (width, height)).save(file, "WEBP", lossless=True)
    return file.getvalue()


def set_part(part: str, **values):
    def edit(meta, files) -> None:
        meta[part].update(values)

    return edit


def set_meta(**values):
    return lambda meta, files: meta.update(values)


def set_file(name: str, content):
    return lambda meta, files: files.__setitem__(name, content)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_meta(version=3), "is of version 3 of SOG; 1 and 2 are read"),
        (lambda meta, files: meta.pop("version"), "a count of None found"),
        (lambda meta, files: meta.pop("means"), "is no SOG"),
        (set_meta(count=0), "a count of 0 found"),
        (set_meta(count=True), "a count of True found"),
        (set_meta(count=10**9), "is damaged: 1000000000 Gaussians in"),
        (set_meta(count=10**6), r"sh0\.webp has \d+ x \d+ pixels for 1000000 Gaussians"),
        (set_part("means", mins=[0, 1]), "mins of means are not 3 numbers"),
        (set_part("means", maxs=["a", 1, 2]), "maxs of means are not 3 numbers"),
        (set_part("scales", codebook=[1e999] * 256), "codebook of scales are not 256 numbers"),
        (set_part("scales", codebook=[0.0] * 10**5), "scales has no codebook of up to 256"),
        (set_part("sh0", files=[]), "sh0 names no picture 0"),
        (set_part("sh0", files=["../sh0.webp"]), "'../sh0.webp'"),
        (set_part("sh0", files=["/etc/hostname"]), "'/etc/hostname'"),
        (set_part("shN", bands=4), "shN has 4 bands"),
        (set_part("scales", codebook=[None, None] + [0.0] * 254), "codebook of scales are not"),
        (set_part("shN", bands=2), r"shN_centroids\.webp has 192 x"),
        (set_file("sh0.webp", b"no picture"), r"sh0\.webp is no picture"),
        (set_file("quats.webp", webp(12, 8)), "quats has alpha 0, expected 252 to 255"),
        (set_file("means_l.webp", webp(4, 4)), r"means_l\.webp has 4 x 4 pixels for 70"),
        (set_file("means_u.webp", webp(2000, 2000)), r"means_u\.webp has 2000 x 2000 pixels"),
        (set_file("shN_centroids.webp", webp(192, 1)), "shN has 64 entries, of which number"),
        (set_file("means_u.webp", None), r"means_u\.webp"),
        (set_file("sh0.webp", bytes(70_000_000)), r"sh0\.webp.* (over 6\d+|70000000) bytes"),
    ],
)
@pytest.mark.parametrize("form", ["archive", "folder"])
def test_hostile_scenes_are_refused(tmp_path, edit, message, form):
    """Declared counts, sizes beyond any use, bombs, codebooks, and names that lead elsewhere."""
    folder = tmp_path / "inside" / "scene"
    save_splat(moderate(1, count=70), folder / "meta.json")
    shutil.copy(folder / "sh0.webp", tmp_path / "inside" / "sh0.webp")
    meta = json.loads((folder / "meta.json").read_text())
    files = {path.name: path.read_bytes() for path in folder.glob("*.webp")}
    edit(meta, files)
    files["meta.json"] = json.dumps(meta).encode()
    path = folder
    if form == "archive":
        path = tmp_path / "scene.sog"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                if content is not None:
                    archive.writestr(name, content)
    else:
        for name, content in files.items():
            Path(folder, name).unlink() if content is None else Path(folder, name).write_bytes(
                content
            )
    with pytest.raises(ValueError, match=rf"scene.*({message})"):
        load_splat(path)


def shares(values: np.ndarray, steps: int) -> tuple[np.ndarray, list, list]:
    """Whole numbers from 0 to steps, from the lowest to the highest of each column."""
    low, high = values.min(0), values.max(0)
    whole = np.round((values - low) / (high - low) * steps).astype(np.uint16)
    return whole, low.tolist(), high.tolist()


def write_version_1(folder: Path, gaussians, degree: int) -> None:
    """A folder as the format's first program, sogs, writes it: 16 x 16 Gaussians, a palette of 64
    entries, PNG instead of WebP."""
    folder.mkdir()
    fields = {
        name: getattr(gaussians, name)[0].double().numpy()
        for name in ("means", "scales", "rotations", "harmonics", "opacities")
    }
    logs = np.sign(fields["means"]) * np.log1p(np.abs(fields["means"]))
    means, *means_ends = shares(logs, 65535)
    scales, *scales_ends = shares(np.log(fields["scales"]), 255)
    logits = np.log(fields["opacities"] / (1 - fields["opacities"]))
    colors, *colors_ends = shares(
        np.concatenate([fields["harmonics"][..., 0], logits[:, None]], -1), 255
    )
    quaternions = fields["rotations"]
    largest = np.abs(quaternions).argmax(-1)
    signs = np.sign(quaternions[np.arange(256), largest])
    three = [np.delete(q * s, i) for q, s, i in zip(quaternions, signs, largest, strict=True)]
    packed = np.round((np.array(three) * 2**0.5 / 2 + 0.5) * 255)
    pictures = {
        "means_l.png": means & 255, "means_u.png": means >> 8, "scales.png": scales,
        "quats.png": np.concatenate([packed, 252 + largest[:, None]], -1), "sh0.png": colors,
    }  # fmt: skip
    meta = {
        "means": {"shape": [256, 3], "dtype": "float32", "files": ["means_l.png", "means_u.png"]},
        "scales": {"shape": [256, 3], "dtype": "float32", "files": ["scales.png"]},
        "quats": {
            "shape": [256, 4], "dtype": "uint8", "encoding": "quaternion_packed",
            "files": ["quats.png"],
        },
        "sh0": {"shape": [256, 1, 4], "dtype": "float32", "files": ["sh0.png"]},
    }  # fmt: skip
    ends = {"means": means_ends, "scales": scales_ends, "sh0": colors_ends}
    for name, (low, high) in ends.items():
        meta[name] |= {"mins": low, "maxs": high}
    if degree:
        rest = fields["harmonics"][:64, :, 1:]  # Gaussian i has those of Gaussian i % 64
        low, high = float(rest.min()), float(rest.max())
        entries = np.round((rest - low) / (high - low) * 255).transpose(0, 2, 1)
        Image.fromarray(entries.reshape(1, -1, 3).astype(np.uint8)).save(folder / "centroids.png")
        number = np.arange(256) % 64
        pictures["labels.png"] = np.stack([number, 0 * number, 0 * number], -1)
        meta["shN"] = {
            "shape": [256, 3 * rest.shape[-1]], "dtype": "float32", "mins": low, "maxs": high,
            "quantization": 8, "files": ["centroids.png", "labels.png"],
        }  # fmt: skip
    for name, rows in pictures.items():
        picture = rows.astype(np.uint8).reshape(16, 16, -1)
        Image.fromarray(picture).save(folder / name)
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_version_1_is_read(tmp_path, degree):
    gaussians = moderate(degree, count=256)
    gaussians.harmonics[..., 1:] = gaussians.harmonics[:, torch.arange(256) % 64, :, 1:]
    write_version_1(tmp_path / "scene", gaussians, degree)
    found = load_splat(tmp_path / "scene")
    assert found.harmonics.shape == gaussians.harmonics.shape
    bounds = {"means": 1e-3, "log scales": 0.02, "opacities": 0.02, "colors": 0.01, "rest": 0.01}
    assert_within(gaussians, found, bounds | {"shapes": 0.1})
    meta = json.loads((tmp_path / "scene" / "meta.json").read_text())
    for part, change, message in (
        ("quats", {"encoding": "axis_angle"}, "rotations as 'axis_angle'"),
        ("sh0", {"mins": [0, 0, 0]}, "mins of sh0 are not 4 numbers"),
        ("scales", {"maxs": None}, "maxs of scales are not 3 numbers"),
        ("means", {"shape": [10**9, 3]}, "is damaged: 1000000000 Gaussians in"),
        *((("shN", {"shape": [256, 44]}, "shN has None bands"),) if degree else ()),
        *((("shN", {"mins": "low"}, "mins of shN are not 1 numbers"),) if degree else ()),
    ):
        changed = meta | {part: meta[part] | change}
        (tmp_path / "scene" / "meta.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=rf"scene.*{message}"):
            load_splat(tmp_path / "scene")


def test_a_lost_first_entry_of_a_codebook_is_made_up_for(tmp_path):
    """As PlayCanvas' engine does: by the second and the mean distance of entries."""
    path = tmp_path / "scene" / "meta.json"
    save_splat(moderate(0, count=300), path)
    meta, whole = json.loads(path.read_text()), load_splat(path)
    codebook = meta["scales"]["codebook"]
    first = codebook[1] + (codebook[1] - codebook[255]) / 255
    meta["scales"]["codebook"] = [None, *codebook[1:]]
    path.write_text(json.dumps(meta))
    found = load_splat(path).scales.log()
    expected = whole.scales.log()
    expected[(expected - codebook[0]).abs() < 1e-5] = first
    torch.testing.assert_close(found, expected)


def test_what_is_no_archive_is_named(tmp_path):
    path = tmp_path / "scene.sog"
    for content, message in (
        (b"", "is damaged, or no .sog file"), (b"PK\3\4 and so on", "is damaged, or no .sog file"),
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"scene.sog {message}"):
            load_splat(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.json", "{}")
    with pytest.raises(ValueError, match="scene.sog is damaged: there is no 'meta.json' in it"):
        load_splat(path)
    (tmp_path / "meta.json").write_text('{"name": "something else"}')
    with pytest.raises(ValueError, match="is no SOG: its meta.json describes something else"):
        load_splat(tmp_path)


def test_no_damage_gets_past_the_reader(tmp_path):
    path, generator = tmp_path / "scene.sog", random.Random(0)
    save_splat(moderate(1, count=8), path)
    whole = path.read_bytes()
    for _ in range(120):
        damaged, at = bytearray(whole), generator.randrange(len(whole))
        if generator.random() < 0.8:
            damaged[at : at + generator.randrange(4)] = generator.randbytes(generator.randrange(4))
        else:
            del damaged[at:]
        path.write_bytes(damaged)
        try:
            load_splat(path)
        except ValueError as error:
            assert path.name in str(error) and "mvsplat)" not in str(error), str(error)
