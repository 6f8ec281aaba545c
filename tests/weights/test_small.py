"""What the weights that come with the package are worth, on generated scenes of a seed that no
training saw."""

import pytest
import torch
import torch.nn.functional as F

from mvsplat import load_model
from mvsplat.data import MiddleViewSampler, SceneDataModule, VariedScenes
from mvsplat.data.loading.loaders import LoaderSettings
from mvsplat.evaluation.baselines import nearest_view
from mvsplat.evaluation.metrics import psnr

SCENES = 4


@pytest.fixture(scope="module")
def model():
    return load_model("small")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("varied"))
    source = VariedScenes(root, 0, SCENES, image_shapes=[(256, 256)], seed=4711)
    source.prepare()
    return source


def batches(source, size):
    module = SceneDataModule(
        source,
        image_shape=(size, size),
        test_views=MiddleViewSampler(target_views=1),
        test_loader=LoaderSettings(1, 0),
    )
    return list(module.test_dataloader())


@pytest.fixture(scope="module")
def rendered(model, scenes):
    """From a size to the scenes' pictures: rendered, with the cost volume zeroed, copied, true."""
    found = {}
    with torch.no_grad():
        for size in (128, 256):
            of_size = []
            for batch in batches(scenes, size):
                color = model.render(model.encoder(batch.context), batch.target).color
                with model.encoder.ablations()["zeroed_cost_volume"]:
                    blind = model.render(model.encoder(batch.context), batch.target).color
                of_size.append((color, blind, nearest_view(batch), batch.target.image))
            found[size] = [torch.cat(pictures)[:, 0] for pictures in zip(*of_size, strict=True)]
    return found


@pytest.mark.parametrize("size", [128, 256])
def test_it_renders_views_that_it_was_not_given(rendered, size):
    color, _, copied, truth = rendered[size]
    assert psnr(color, truth).mean() > psnr(copied, truth).mean() + 6


@pytest.mark.parametrize("size", [128, 256])
def test_it_matches_and_does_not_guess(rendered, size):
    color, blind, _, truth = rendered[size]
    assert psnr(color, truth).mean() > psnr(blind, truth).mean() + 2


def test_larger_pictures_are_worth_their_pixels(rendered):
    """What is rendered at 256 x 256 and reduced is as good as what is rendered at 128 x 128."""
    halved = F.avg_pool2d(rendered[256][0].clamp(0, 1), 2)
    truth = rendered[128][3]
    assert psnr(halved, truth).mean() > psnr(rendered[128][0], truth).mean() - 0.1
