"""``mvsplat export``: every format from every other, and what is done to a scene on the way."""

import re
from pathlib import Path

import pytest
import torch
from test_ply import cameras_around, colorful, make_gaussians

from mvsplat.decoder import SplattingDecoder
from mvsplat.export import (
    Cameras,
    Frame,
    load_cameras,
    load_ply,
    load_splat,
    save_cameras,
    save_ply,
)
from mvsplat.types import Gaussians

LENS = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]])
WRITTEN = (".ply", ".compressed.ply", ".spz", ".sog", ".glb", ".gltf", "/meta.json", ".splat")


def put_cameras(path: Path, count: int = 3) -> Cameras:
    poses = cameras_around(count)[0]
    frames = [Frame(f"{i}.jpg", pose, LENS, 48, 32) for i, pose in enumerate(poses)]
    cameras = Cameras(frames, 1.0, 50.0)
    save_cameras(cameras, path)
    return cameras


@pytest.fixture
def scene(tmp_path) -> Path:
    """A splat of degree 1 with cameras around it."""
    gaussians = colorful(1)
    gaussians.harmonics = gaussians.harmonics.clamp(-0.9, 0.9)
    save_ply(gaussians, tmp_path / "in" / "door.ply")
    put_cameras(tmp_path / "in" / "cameras.json")
    return tmp_path / "in" / "door.ply"


def export(program, *arguments) -> str:
    assert program("export", *arguments, config=False) == 0, program.err
    return program.out


def refused(program, *arguments) -> str:
    assert program("export", *arguments, config=False) == 2
    assert len(program.err.splitlines()) <= 5
    return program.err


def test_every_format_from_every_other(program, scene, tmp_path):
    """Each is made of the one before; the file's size and the loss of each step are right."""
    before = scene
    for number, suffix in enumerate(WRITTEN):
        target = tmp_path / f"{number}" / f"scene{suffix}"
        lines = export(program, before, target).splitlines()
        assert lines[0].startswith(f"{before}: 100 Gaussians of degree 1, ")
        said = lines[-1]
        assert said.startswith(f"{target}: 100 Gaussians of degree {int(suffix != '.splat')}, ")
        if suffix != "/meta.json":
            size = target.stat().st_size
            assert f"{size / 1e6:.2f} MB ({size / 100:.1f} bytes a Gaussian)" in said
        loss = re.search(r"(PSNR ([\d.]+) dB|no difference) from 3 cameras beside it", said)
        if suffix in (".ply", ".glb", ".gltf"):
            assert loss[1] == "no difference" or float(loss[2]) > 80
        elif suffix == ".splat":
            assert 18 < float(loss[2]) < 50
        else:  # what is rounded once is not rounded again by the same steps
            assert loss[1] == "no difference" or float(loss[2]) > 35
        assert load_splat(target).means.shape == (1, 100, 3)
        assert (
            len(load_cameras(target.parent / f"{target.stem.split('.')[0]}.cameras.json").frames)
            == 3
        )
        before = target


def test_the_loss_is_the_pictures_difference(program, scene, tmp_path):
    """Of a scene without half of its Gaussians: as the decoder and the definition have it."""
    out = export(program, scene, tmp_path / "half.ply", "--max_gaussians", 50)
    said = float(re.search(r"PSNR ([\d.]+) dB", out)[1])
    cameras = load_cameras(tmp_path / "half.cameras.json")
    values = []
    for frame in cameras.frames:
        near, far = torch.full((1, 1), 1.0), torch.full((1, 1), 50.0)
        pictures = [
            SplattingDecoder(sh_degree=4)(
                load_ply(path), frame.extrinsics[None, None], LENS[None, None], near, far, (32, 48)
            ).color.clamp(0, 1)
            for path in (scene, tmp_path / "half.ply")
        ]
        values.append(-10 * (pictures[0] - pictures[1]).square().mean().log10())
    assert said == pytest.approx(float(torch.stack(values).mean()), abs=0.06)


def test_what_is_left_of_a_scene(program, scene, tmp_path):
    whole = load_ply(scene)
    target = tmp_path / "part.ply"
    options = ["--min_opacity", 0.3, "--max_scale", 0.2, "--sh_degree", 0]
    export(program, scene, target, *options, "--crop", "[-1,-1,-0.5,1,1,0.5]")
    found = load_ply(target)
    means = whole.means[0]
    kept = (whole.opacities[0] >= 0.3) & (whole.scales[0].amax(-1) <= 0.2)
    box = torch.tensor([1, 1, 0.5])
    kept &= (means.abs() <= box).all(-1)
    assert 0 < kept.sum() < 100
    assert torch.equal(found.means[0], means[kept]) and found.harmonics.shape[-1] == 1
    export(program, scene, target, "--max_gaussians", 20)
    found = load_ply(target)
    volume = whole.scales[0].sort(-1).values[:, 1:].prod(-1) * whole.opacities[0]
    threshold = volume.sort(descending=True).values[19]
    assert torch.equal(found.means[0], means[volume >= threshold])


def test_several_are_merged_without_cameras_seen_from_an_orbit(program, tmp_path):
    first, second = make_gaussians(count=40, degree=0), make_gaussians(count=30, degree=2)
    save_ply(first, tmp_path / "a.ply")
    save_ply(second, tmp_path / "b.ply")
    target = tmp_path / "out" / "both.glb"
    out = export(program, tmp_path / "a.ply", tmp_path / "b.ply", target)
    assert f"{tmp_path / 'b.ply'}: 30 Gaussians of degree 2" in out
    assert "from 6 places around it" in out and [p.name for p in target.parent.iterdir()] == [
        target.name
    ]
    both = load_splat(target)
    assert torch.equal(both.means[0], torch.cat([first.means[0], second.means[0]]))
    assert torch.equal(both.harmonics[0, 40:], second.harmonics[0])
    assert (both.harmonics[0, :40, :, 1:] == 0).all()


def test_cameras_move_with_the_scene(program, scene, tmp_path):
    """The moved scene, seen by the moved cameras, looks as before; the report says so, too."""
    target = tmp_path / "out" / "moved.ply"
    out = export(program, scene, target, "--up_axis", "z", "--recenter")
    assert "moved by" in out and "turned by rows" in out
    assert float(re.search(r"PSNR ([\d.]+) dB|no difference", out)[1] or 100) > 70
    moved, cameras = load_ply(target), load_cameras(target.parent / "moved.cameras.json")
    assert float(moved.means[0].median(0).values.abs().max()) < 0.05  # of an even number
    before = load_cameras(scene.parent / "cameras.json")

    def picture(gaussians: Gaussians, frame: Frame) -> torch.Tensor:
        near, far = torch.full((1, 1), 1.0), torch.full((1, 1), 50.0)
        cameras = (frame.extrinsics[None, None], LENS[None, None], near, far, (32, 48))
        return SplattingDecoder(sh_degree=4)(gaussians, *cameras).color

    for old, new in zip(before.frames, cameras.frames, strict=True):
        torch.testing.assert_close(
            picture(moved, new), picture(load_ply(scene), old), atol=2e-4, rtol=0
        )
    put_cameras(scene.with_name("door.cameras.json"))
    err = refused(program, scene, scene.with_suffix(".spz"), "--recenter")
    assert "choose another name or folder" in err and not scene.with_suffix(".spz").exists()


def test_activated_values(program, scene, tmp_path):
    assert "said to be activated" in refused(
        program, scene, tmp_path / "out.spz", "--activated", "true"
    )
    export(program, scene, tmp_path / "out.spz", "--activated", "false")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{in}"], "name the splats to read, then the file to write"),
        (["{in}", "{out}.foo"], "suffix '.foo' are not written. Splats are written as .ply"),
        (["{in}", "{out}.ksplat"], "'.ksplat' are not written"),
        (["nothing.ply", "{out}.spz"], "no splat at nothing.ply"),
        (["{in}", "{out}.spz", "--crop", "[0,0,0,0,1,1]"], "expected the box's lowest x, y, z"),
        (["{in}", "{out}.spz", "--crop", "[0,0,0]"], "crop"),
        (["{in}", "{out}.spz", "--max_gaussians", "0"], "max_gaussians is 0; expected 1 or more"),
        (["{in}", "{out}.spz", "--sh_degree", "-1"], "sh_degree is -1; expected 0 or more"),
        (["{in}", "{out}.spz", "--min_opacity", "2"], "no Gaussians are left by these options"),
        (["{in}", "{out}.spz", "--up_axis", "w"], "up_axis"),
        (["{in}", "{out}.spz", "--size", "3"], "size"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(program, scene, tmp_path, arguments, message):
    names = {"in": str(scene), "out": str(tmp_path / "out" / "scene")}
    assert message in refused(program, *(a.format(**names) for a in arguments))
    assert not (tmp_path / "out").exists()
