"""A loss, an encoder, a view sampler and a scene source from one file outside the package."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

PARTS = '''
"""Parts of a user: a Gaussian on every pixel of a plane, trained on coloured noise."""

import torch
from PIL import Image
from torch import nn

from mvsplat import Encoder, Gaussians, Loss
from mvsplat.data import Scene, SceneSource, ViewSampler


class EdgeLoss(Loss):
    """Differences of neighbouring pixels should agree."""

    def forward(self, rendering, batch, gaussians):
        difference = rendering.color - batch.target.image
        return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()


class PlaneEncoder(Encoder):
    """Puts the first view's pixels on a plane.

    Args:
        depth: The plane's distance.
    """

    def __init__(self, depth: float = 2.0):
        super().__init__()
        self.depth = depth
        self.tint = nn.Parameter(torch.zeros(3))

    def forward(self, views):
        b, _, _, h, w = views.image.shape
        y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        points = torch.stack([x, y, torch.ones_like(x)], -1).reshape(1, -1, 3) * self.depth
        color = views.image[:, 0].flatten(2).mT + self.tint
        return Gaussians(
            means=points.expand(b, -1, -1),
            scales=torch.full((b, h * w, 3), self.depth / w),
            rotations=torch.tensor([1.0, 0, 0, 0]).expand(b, h * w, 4),
            harmonics=((color - 0.5) / 0.28209479).unsqueeze(-1),
            opacities=torch.full((b, h * w), 0.9),
        )


class FirstFrames(ViewSampler):
    """The first two frames are context, the third is the target."""

    def sample(self, scene, step, generator):
        return torch.tensor([0, 1]), torch.tensor([2])


class NoiseScene(Scene):
    def __init__(self, key):
        self.key = key
        self.extrinsics = torch.eye(4).repeat(3, 1, 1)
        self.intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).repeat(3, 1, 1)

    def image(self, index):
        return Image.effect_noise((32, 32), 50).convert("RGB")


class Noise(SceneSource):
    def keys(self, split):
        return ["a", "b"]

    def scene(self, split, key):
        return NoiseScene(key)
'''

CONFIG = """
model:
  encoder: {class_path: user_parts.PlaneEncoder, init_args: {depth: 3.0}}
  losses:
    mse: null
    edges: {class_path: user_parts.EdgeLoss, init_args: {weight: 0.5}}
data:
  source: user_parts.Noise
  train_views: user_parts.FirstFrames
  val_views: user_parts.FirstFrames
"""


def test_parts_of_a_user_train_a_step(program, tmp_path, monkeypatch):
    (tmp_path / "user_parts.py").write_text(PARTS)
    (tmp_path / "mine.yaml").write_text(textwrap.dedent(CONFIG))
    monkeypatch.syspath_prepend(tmp_path)
    arguments = [f"--config={program.run_dir.parent / 'mine.yaml'}"]
    base = __file__.replace("test_extending.py", "configs/tiny.yaml")
    code = program(
        "fit", "--config", base, *arguments, f"--run_dir={program.run_dir}", config=False
    )
    assert code == 0, program.err

    import mvsplat

    model = mvsplat.load_model(program.checkpoint())
    assert type(model.encoder).__name__ == "PlaneEncoder"
    assert model.encoder.depth == 3.0
    # One step has moved its only parameter.
    assert model.encoder.tint.abs().max() > 0


BRANCH = '''
"""Our encoder with a branch of a user: what one view looks like, beside what matches."""

from torch import nn

from mvsplat import CostVolumeEncoder


class MonocularEncoder(CostVolumeEncoder):
    """Adds features of each view alone.

    Args:
        width: Channels of these features.
    """

    def __init__(self, width: int = 8, **arguments):
        self.width = width
        super().__init__(**arguments)

    def build_branch(self):
        self.monocular = nn.Sequential(
            nn.Conv2d(3, self.width, 4, stride=4), nn.GELU(), nn.Conv2d(self.width, self.width, 1)
        )
        return self.width

    def branch_features(self, image, features, views):
        return self.monocular(image)
'''

BRANCH_CONFIG = """
model:
  encoder: {class_path: user_branch.MonocularEncoder, init_args: {width: 6}}
"""


def test_a_branch_of_a_user_trains_a_step(program, tmp_path, monkeypatch):
    assert len(BRANCH.splitlines()) < 40
    (tmp_path / "user_branch.py").write_text(BRANCH)
    (tmp_path / "branch.yaml").write_text(BRANCH_CONFIG)
    monkeypatch.syspath_prepend(tmp_path)
    command = ["fit", "--config", tmp_path / "branch.yaml", "--trainer.max_steps=2"]
    assert program(*command) == 0, program.err

    import mvsplat

    encoder = mvsplat.load_model(program.checkpoint()).encoder
    assert type(encoder).__name__ == "MonocularEncoder" and encoder.width == 6
    # The matching features of this model have 16 channels, its cost volume 8.
    assert encoder.coarse_depth.residual.in_channels == 8 + 16 + 6
    # Its parameters come first, and have moved.
    assert next(encoder.named_parameters())[0] == "monocular.0.weight"
    optimizer = torch.load(program.checkpoint(), weights_only=True)["optimizer_states"][0]
    assert optimizer["state"][0]["exp_avg"].any()


@pytest.mark.parametrize("program_of", ["script", "module"])
def test_parts_are_found_in_the_working_directory(tmp_path, tiny_config, program_of):
    """As README says it, by the program as it is installed; loader workers find them, too."""
    (tmp_path / "user_parts.py").write_text(PARTS)
    (tmp_path / "mine.yaml").write_text(textwrap.dedent(CONFIG))
    start = [sys.executable, "-m", "mvsplat"]
    if program_of == "script":
        # Besides, what is installed comes first: a user's file may have any name.
        start = [str(Path(sys.executable).parent / "mvsplat")]
        for name in ("einops", "plyfile", "yaml"):
            (tmp_path / f"{name}.py").write_text("raise SystemExit('not what was meant')")
    command = [*start, "fit", "--config", str(tiny_config), "--config", "mine.yaml"]
    command += ["--run_dir=run", "--trainer.max_steps=1", "--data.train_loader.num_workers=1"]
    command += ["--data.train_loader.multiprocessing_context=spawn"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_the_working_directory_is_not_searched_where_python_is_told_not_to(tmp_path):
    (tmp_path / "user_parts.py").write_text(PARTS)
    script = Path(sys.executable).parent / "mvsplat"
    command = [sys.executable, "-P", str(script), "fit", "--model.encoder=user_parts.PlaneEncoder"]
    done = subprocess.run(
        [*command, "--print_config"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and "user_parts" in done.stderr
