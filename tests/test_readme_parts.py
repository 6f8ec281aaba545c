"""The parts that the README shows, in the files it shows, used as it says."""

import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import mvsplat
from mvsplat.export import load_splat, save_splat

README = Path(__file__).parents[1] / "README.md"
FILE = re.compile(r"<!-- file: (\S+) -->\s*```\w+\n(.*?)```", re.DOTALL)
ENTRY_POINTS = re.compile(r"```toml\n(.*?)```", re.DOTALL)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with the README's files, which is the working directory, and on Python's path."""
    text = README.read_text(encoding="utf-8")
    found = dict(FILE.findall(text))
    assert set(found) == {"my_parts.py", "mine.yaml"}
    for name, content in found.items():
        (tmp_path / name).write_text(content)
    (points,) = ENTRY_POINTS.findall(text)
    about = tmp_path / "my_parts-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-parts\nVersion: 1.0\n")
    points = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", points).replace('"', "")
    (about / "entry_points.txt").write_text(points)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)  # another test's
    yield tmp_path
    sys.modules.pop("my_parts", None)


def test_each_part_is_short():
    code = dict(FILE.findall(README.read_text(encoding="utf-8")))["my_parts.py"]
    for part in code.split("\nclass ")[1:]:
        assert part.count("\n") < 40


def test_parts_of_training_and_test(files, program, tiny_config):
    start = ["--config", tiny_config, "--config", files / "mine.yaml"]
    start += ["--run_dir", program.run_dir, "--data.source.root", program.scenes]
    assert program("fit", *start, config=False) == 0, program.err
    model = mvsplat.load_model(program.checkpoint())
    assert type(model.encoder).__name__ == "MonocularEncoder"
    content = torch.load(program.checkpoint(), weights_only=True)
    # InverseRoot after two steps.
    assert content["lr_schedulers"][0]["_last_lr"] == pytest.approx([2e-4 * 3**-0.5])
    assert program("test", *start, "--ckpt_path", "last", config=False) == 0, program.err
    assert "Sharpness" in program.out


def test_a_reader_and_a_splat_format(files, room_pictures, program):
    assert program("convert", "kitchen", "--output", "chunks", config=False) == 0, program.err
    scene = mvsplat.data.open_scenes(files / "chunks").scene("test", "kitchen")
    assert len(scene) == len(room_pictures)
    torch.testing.assert_close(scene.extrinsics, torch.stack(room_pictures), atol=1e-5, rtol=0)
    arguments = ["kitchen", "--format", "my_parts.LabReader", "--output", "again"]
    assert program("convert", *arguments, config=False) == 0, program.err

    generator = torch.Generator().manual_seed(0)
    gaussians = mvsplat.Gaussians(
        torch.randn(1, 5, 3, generator=generator),
        torch.rand(1, 5, 3, generator=generator),
        torch.nn.functional.normalize(torch.randn(1, 5, 4, generator=generator), dim=-1),
        torch.randn(1, 5, 3, 4, generator=generator),
        torch.rand(1, 5, generator=generator),
    )
    save_splat(gaussians, files / "scene.npz")
    assert torch.equal(load_splat(files / "scene.npz").means, gaussians.means)


@pytest.fixture
def room_pictures(files):
    """A capture of the README's lab: noise, and its cameras, which are returned."""
    folder = files / "kitchen"
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    poses, lines = [], []
    for number in range(3):
        pose = torch.eye(4)
        pose[0, 3] = 0.1 * number
        noise = torch.randint(0, 256, (24, 32, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(folder / f"{number}.png")
        numbers = [32, 24, 30.0, *pose.flatten().tolist()]
        lines.append(f"{number}.png," + ",".join(map(str, numbers)))
        poses.append(pose)
    (folder / "cameras.csv").write_text("\n".join(lines))
    return poses
