"""Reconstruction by an encoder of a user, which says what views it takes, or says nothing."""

import pytest
import torch
from torch import nn

import mvsplat
from mvsplat import Encoder, Gaussians, SplattingDecoder

PREDICTED = {"refine": "off", "refine_size": 128}


class FirstView(Encoder):
    """A Gaussian for each pixel of the first view, on a plane before its camera."""

    def __init__(self):
        super().__init__()
        self.depth = nn.Parameter(torch.tensor(2.0))

    def forward(self, views):
        b, _, _, h, w = views.image.shape
        y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        points = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3) * self.depth
        pose = views.extrinsics[:, 0]
        return Gaussians(
            means=points @ pose[:, :3, :3].mT + pose[:, None, :3, 3],
            scales=torch.full((b, h * w, 3), 0.05),
            rotations=torch.tensor([1.0, 0, 0, 0]).expand(b, h * w, 4),
            harmonics=views.image[:, 0].flatten(2).mT.unsqueeze(-1),
            opacities=torch.full((b, h * w), 0.9),
        )


class Choosy(FirstView):
    """One that takes two views of certain sizes."""

    divisor = 10
    maximum_views = 2


def checkpoint_of(encoder, folder):
    parts = {"encoder": encoder.config, "decoder": SplattingDecoder().config}
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    torch.save({"mvsplat": parts, "state_dict": weights}, folder / "own.ckpt")
    return folder / "own.ckpt"


def test_an_encoder_that_says_nothing_takes_any_views(posed, tmp_path):
    path = checkpoint_of(FirstView(), tmp_path)
    scene = mvsplat.reconstruct(
        posed, path, views=3, size=(33, 41), near=1.0, far=10.0, held_out=0, **PREDICTED
    )
    assert len(scene.context) == 8 and scene.gaussians.means.shape[1] % (33 * 41) == 0


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"views": 3, "size": 40}, "views is 3, but this model takes 2 at most"),
        ({"views": 2, "size": (40, 42)}, "multiples of 10, for instance 40 x 40"),
    ],
)
def test_what_it_says_is_asked_of_the_user(posed, tmp_path, asked, message):
    path = checkpoint_of(Choosy(), tmp_path)
    with pytest.raises(ValueError, match=message):
        mvsplat.reconstruct(posed, path, near=1.0, far=10.0, **PREDICTED, **asked)
