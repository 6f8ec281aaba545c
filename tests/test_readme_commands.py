"""Every command of the README is run, in the README's order, in a folder like a reader's."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from mvsplat.__main__ import TRAINER_COMMANDS, main
from mvsplat.data import GeneratedScenes

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "tests" / "kept_run"

# What cannot be run in a test, by the beginning of the command.
ELSEWHERE = {
    "python3 -m venv": "continuous integration runs the tests' one; the quickstart takes minutes",
    "pip install": "needs the network",
    "mvsplat view": "runs until it is interrupted; see tests/viewer",
}

# The reader's captures are shorter than the videos that a command is for.
SHORTER = {"[25, 45]": "[4, 5]", "120": "3"}

# What a command makes a minute's steps for by itself.
FEWER = {name: ["--refine_steps=2", "--refine_size=64"] for name in ("reconstruct", "refine")}

# Sizes and steps with which a command of the README takes seconds.
SMALL = {
    "trainer": {
        "accelerator": "cpu",
        "max_steps": 2,
        "val_check_interval": 2,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    },
    "data": {
        "image_shape": [32, 32],
        "frame_shape": None,
        "max_field_of_view": None,
        "val_scenes": 1,
        "train_views": {
            "class_path": "BoundedViewSampler",
            "init_args": {
                "min_gap": 4,
                "max_gap": 4,
                "initial_min_gap": None,
                "initial_max_gap": None,
                "target_views": 1,
            },
        },
        **{f"{stage}_loader": {"num_workers": 0} for stage in ("train", "val", "test", "predict")},
    },
    "model": {"losses": {"lpips": None}},
}


def commands() -> list[str]:
    """The lines of the README's shell blocks, continued ones joined."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def write_capture(scene, folder: Path) -> None:
    """A scene as ``transforms.json`` with pictures, axes of OpenGL."""
    flip = torch.diag(torch.tensor([1.0, -1, -1, 1]))
    frames = []
    for index, name in enumerate(f"images/{n:03d}.png" for n in range(len(scene))):
        image = scene.image(index)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
        focal = scene.intrinsics[index].diagonal() * torch.tensor([image.width, image.height, 1])
        frames.append(
            {
                "file_path": name,
                "transform_matrix": (scene.extrinsics[index] @ flip).tolist(),
                "fl_x": float(focal[0]),
                "fl_y": float(focal[1]),
                "w": image.width,
                "h": image.height,
            }
        )
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder with what the README's commands name."""
    folder = tmp_path_factory.mktemp("reader")
    rooms = GeneratedScenes(
        str(folder / "rooms"), train_scenes=3, test_scenes=2, frames=8, image_shape=(48, 64)
    )
    rooms.prepare()
    for number, name in enumerate(("door", "fox")):
        write_capture(rooms.scene("test", rooms.keys("test")[number]), folder / "captures" / name)
    shutil.copytree(folder / "captures" / "door", folder / "PHOTOS")
    shutil.copytree(rooms.folder, folder / "datasets" / "re10k")
    shutil.copy(KEPT / "checkpoints" / "last.ckpt", folder / "re10k.ckpt")
    encoder = yaml.safe_load((KEPT / "config.yaml").read_text())["model"]["encoder"]
    (folder / "my_encoder.yaml").write_text(yaml.safe_dump(encoder))
    model = {**SMALL["model"], "encoder": encoder}
    (folder / "small.yaml").write_text(yaml.safe_dump({**SMALL, "model": model}))
    source = {"train_scenes": 2, "test_scenes": 2, "image_shape": [32, 32]}
    (folder / "few.yaml").write_text(yaml.safe_dump({"data": {"source": {"init_args": source}}}))
    poses = rooms.scene("test", rooms.keys("test")[0]).extrinsics[[0, -1]]
    frames = [
        {"camera_to_world": pose.flatten().tolist(), "fov": 55, "aspect": 1} for pose in poses
    ]
    (folder / "camera_path.json").write_text(json.dumps({"camera_path": frames, "fps": 2}))
    return folder


def arguments_of(command: str, folder: Path) -> list[str]:
    """The command's arguments, with small sizes where it trains or evaluates."""
    words = [SHORTER.get(word, word) for word in shlex.split(command, comments=True)[1:]]
    words = [word for word in words for word in _expanded(word, folder)]
    if words[0] in TRAINER_COMMANDS and "--print_config" not in words:
        overlays = ["few", "small"] if "quickstart" in words else ["small"]
        words += [word for name in overlays for word in ("--config", f"{name}.yaml")]
    return words + FEWER.get(words[0], [])


def _expanded(word: str, folder: Path) -> list[str]:
    found = (
        sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if "*" in word else []
    )
    return found or [word]


@pytest.mark.slow
def test_every_command_does_what_it_says(reader, monkeypatch, capsys):
    monkeypatch.chdir(reader)
    done = []
    for command in commands():
        if any(command.startswith(start) for start in ELSEWHERE):
            continue
        assert command.startswith("mvsplat "), f"how is this run? {command}"
        if command.startswith("mvsplat test --config quickstart"):
            main(arguments_of("mvsplat fit --config quickstart", reader))
        if command.startswith("mvsplat compare"):
            shutil.copytree("runs/re10k", "runs/old")
            shutil.copytree("runs/re10k", "runs/new")
        capsys.readouterr()
        try:
            code = main(arguments_of(command, reader))
        except SystemExit as end:  # of --print_config, or of a mistake
            code = end.code
        assert not code, f"{command}\n{capsys.readouterr().err}"
        done.append(command)
    assert len(done) > 15
    for path in ("scene/scene.ply", "datasets/mine/train/index.json", "runs/re10k/config.yaml"):
        assert (reader / path).is_file()
