"""What the package asks of an encoder: all has a default but ``forward``, and branches plug in."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn
from views import SMALL, random_views

from mvsplat import CostVolumeEncoder, Encoder, Gaussians, SplattingDecoder, evaluation
from mvsplat.model import MVSplat
from mvsplat.types import Batch


class Pixels(Encoder):
    """A Gaussian for each pixel of the first view, straight ahead."""

    def __init__(self):
        super().__init__()
        self.depth = nn.Parameter(torch.tensor(2.0))

    def forward(self, views):
        b, _, _, h, w = views.image.shape
        y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        points = torch.stack([x, y, torch.ones_like(x)], -1).reshape(1, -1, 3)
        return Gaussians(
            means=(points * self.depth).expand(b, -1, -1),
            scales=torch.full((b, h * w, 3), 0.05),
            rotations=torch.tensor([1.0, 0, 0, 0]).expand(b, h * w, 4),
            harmonics=views.image[:, 0].flatten(2).mT.unsqueeze(-1),
            opacities=torch.full((b, h * w), 0.9),
        )


class Forgetful(Pixels):
    """One that can be asked to see grey only."""

    seen = 1.0

    @contextmanager
    def _grey(self):
        self.seen = 0.0
        yield
        self.seen = 1.0

    def ablations(self):
        return {"grey": self._grey()}

    def forward(self, views):
        return super().forward(replace(views, image=views.image * self.seen))


def scores_of(encoder):
    model = MVSplat(encoder, SplattingDecoder(), losses={"lpips": None}).eval()
    batch = Batch(random_views(height=31, width=45), random_views(height=31, width=45), ["a"])
    return evaluation.evaluate(model, [batch], baselines=True)[0]["scores"]


def test_an_encoder_of_one_method_is_one():
    encoder = Pixels()
    assert (encoder.divisor, encoder.maximum_views) == (1, None)
    assert (encoder.behaviours, encoder.of_training) == ((), ())
    assert set(scores_of(encoder)) == {"model", "nearest_view", "mean_color"}


def test_a_users_ablation_is_scored():
    scores = scores_of(Forgetful())
    assert scores["grey"]["mean"]["psnr"] != pytest.approx(scores["model"]["mean"]["psnr"], abs=0.1)


def test_any_encoder_says_what_compiling_needs(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="no 'no-such-compiler'; install one"):
        Pixels().compile()


@pytest.fixture
def compiled(monkeypatch):
    """The modules that are asked to compile; the tests' shape checks stand in the way of it."""
    found = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, backend: found.append(module))
    return found


def test_any_encoder_compiles(compiled):
    encoder = Pixels()
    encoder.compile(backend="eager")
    assert compiled == [encoder]


class WithEdges(CostVolumeEncoder):
    """Horizontal and vertical differences of the image beside the matching features."""

    def __init__(self, edges: int = 4, said: int | None = None, **arguments):
        self.edges, self.said = edges, said
        super().__init__(**arguments)

    def build_branch(self):
        self.edge = nn.Conv2d(3, self.edges, 4, stride=4)
        return self.said or self.edges

    def branch_features(self, image, features, views):
        assert len(image) == len(features) == views.image[:, :, 0, 0, 0].numel()
        return self.edge(image)


@pytest.mark.parametrize("arguments", [{}, {"cost_volume": False}, {"cost_volume_unet": False}])
@pytest.mark.parametrize("initialization", ["published", "matching"])
def test_a_branch_takes_part(arguments, initialization):
    torch.manual_seed(0)
    encoder = WithEdges(**SMALL, **arguments, initialization=initialization)
    views = random_views()
    logits = encoder(views).estimate.logits
    logits.square().mean().backward()
    assert encoder.edge.weight.grad.any()
    assert encoder.config["init_args"]["edges"] == 4
    with torch.no_grad():
        encoder.edge.bias += 1
        assert not torch.equal(encoder(views).estimate.logits, logits)


def test_a_branch_of_another_width_is_named():
    encoder = WithEdges(**SMALL, said=5)
    with pytest.raises(ValueError, match=r"WithEdges.branch_features gave shape \(2, 4, 8, 12\)"):
        encoder(random_views())


def test_a_branch_is_compiled_with_the_other_networks(compiled):
    encoder = WithEdges(**SMALL)
    encoder.compile(backend="eager")
    names = {module: name for name, module in encoder.named_modules()}
    assert sorted(names[module] for module in compiled) == [
        "cnn", "coarse_depth", "cost_volume", "edge", "full_resolution", "gaussian_head",
        "refinement", "transformer.blocks.0", "transformer.blocks.1",
    ]  # fmt: skip
