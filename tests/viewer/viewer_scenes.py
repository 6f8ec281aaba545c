"""Small splats with view-dependent colours, their cameras and photographs, as files to look at."""

import json
from pathlib import Path

import torch

from mvsplat.decoder import SplattingDecoder
from mvsplat.export import Cameras, Frame, save_cameras, save_ply, save_png
from mvsplat.types import Gaussians

LENS = torch.tensor([[0.75, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]])
NEAR, FAR = 0.5, 50.0
CENTER = torch.tensor([30.0, -20.0, 10.0])  # nothing is at the world's origin


def make_gaussians(seed: int, count: int = 400) -> Gaussians:
    """A ball of Gaussians, large and in colours that differ much from side to side."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(1, count, *shape, generator=generator)

    harmonics = 0.2 * normal(3, 9)
    harmonics[..., 0] = 0.5 * normal(3)  # nearly all colours stay in [0, 1]
    return Gaussians(
        means=0.8 * normal(3) + CENTER,
        scales=(0.4 * normal(3) - 2).exp(),
        rotations=torch.nn.functional.normalize(normal(4), dim=-1),
        harmonics=harmonics,
        opacities=(normal() + 1).sigmoid(),
    )


def make_poses(count: int = 3) -> torch.Tensor:
    """Cameras on an arc around the ball, a little from above, looking at it."""
    poses = torch.eye(4).repeat(count, 1, 1)
    for number, pose in enumerate(poses):
        angle = torch.tensor(0.7 * number)
        backward = torch.stack([angle.sin(), torch.tensor(-0.3), -angle.cos()])
        forward = -torch.nn.functional.normalize(backward, dim=0)
        right = torch.linalg.cross(torch.tensor([0.0, 1, 0]), forward)
        right = torch.nn.functional.normalize(right, dim=0)
        pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, torch.linalg.cross(forward, right), forward
        pose[:3, 3] = CENTER - 5 * forward
    return poses


def render(
    gaussians: Gaussians, pose: torch.Tensor, height: int, width: int, tangent: float = 0.5
) -> torch.Tensor:
    """The decoder's picture [3, h, w] with square pixels; ``tangent`` is half its height at 1."""
    focal = 0.5 / tangent
    lens = torch.tensor([[focal * height / width, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
    bounds = torch.full((1, 1), NEAR), torch.full((1, 1), FAR)
    with torch.no_grad():
        rendering = SplattingDecoder()(
            gaussians, pose[None, None], lens[None, None], *bounds, (height, width)
        )
    return rendering.color[0, 0].clamp(0, 1)


def write_scene(folder: Path, stem: str, seed: int) -> None:
    """A splat with the cameras that see it, and what they see as photographs."""
    gaussians = make_gaussians(seed)
    save_ply(gaussians, folder / f"{stem}.ply")
    frames = []
    for number, pose in enumerate(make_poses()):
        image = folder / stem / f"{number}.png"
        save_png(render(gaussians, pose, 48, 64), image)
        frames.append(Frame(f"photo {number}", pose, LENS, 64, 48, image))
    save_cameras(Cameras(frames, NEAR, FAR), folder / f"{stem}.cameras.json")


def write_run(run: Path, scenes: dict[str, int]) -> Path:
    """A run folder with predictions of scenes (name to seed), their scores and sheets."""
    for stem, seed in scenes.items():
        write_scene(run / "predictions", stem, seed)
        save_png(torch.rand(3, 20, 60), run / "test" / "sheets" / f"{stem}.png")
    scores = {
        stem: {"scores": {"model": {"mean": {"psnr": 20.0 + seed, "lpips": None}}}}
        for stem, seed in scenes.items()
    }
    (run / "test" / "scores.json").write_text(json.dumps({"scenes": scores}))
    return run
