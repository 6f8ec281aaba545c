"""LPIPS against the distances its authors publish, and what happens without weights."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvsplat.evaluation.lpips import PerceptualDistance, _alexnet_features, _vgg16_features

EXAMPLES = Path(__file__).parents[3] / "shared" / "data" / "lpips_alex"
needs_examples = pytest.mark.skipif(not EXAMPLES.exists(), reason=f"{EXAMPLES} is not there")
WEIGHTS = str(EXAMPLES / "alexnet_features.pt")


def read(name: str) -> torch.Tensor:
    """One of the authors' example pictures, in [0, 1]."""
    pixels = np.array(Image.open(EXAMPLES / f"{name}.png").convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255


@pytest.fixture
def random_vgg(tmp_path) -> str:
    """A file like torchvision's VGG-16, with random weights and a classifier to be ignored."""
    torch.manual_seed(0)
    names = {f"features.{k}": v for k, v in _vgg16_features().state_dict().items()}
    path = tmp_path / "vgg16.pth"
    torch.save(names | {"classifier.0.weight": torch.zeros(3)}, path)
    return str(path)


@needs_examples
def test_published_distances():
    distance = PerceptualDistance.pretrained("alex", WEIGHTS)
    pictures = torch.stack([read("ex_p0"), read("ex_p1"), read("ex_ref")])
    values = distance(pictures, read("ex_ref").expand(3, -1, -1, -1))
    torch.testing.assert_close(values, torch.tensor([0.722, 0.138, 0.0]), atol=6e-4, rtol=0)


def test_vgg_matches_torchmetrics(random_vgg, monkeypatch):
    from torchmetrics.functional.image import lpips as theirs

    # torchmetrics takes the feature network from torchvision; give it ours to check the rest.
    ours = PerceptualDistance.pretrained("vgg", random_vgg)
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *args: deepcopy(ours.features))
    reference = theirs._LPIPS(net="vgg")
    a, b = torch.rand(2, 2, 3, 64, 48).unbind()
    expected = reference(a, b, normalize=True).flatten()
    torch.testing.assert_close(ours(a, b), expected, atol=1e-6, rtol=1e-5)


def test_vgg_has_torchvisions_names():
    weights = [name for name, value in _vgg16_features().named_parameters() if value.dim() == 4]
    positions = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    assert weights == [f"{position}.weight" for position in positions]


def test_gradient_is_finite_where_pictures_are_equal(random_vgg):
    distance = PerceptualDistance.pretrained("vgg", random_vgg)
    color = torch.zeros(1, 3, 32, 32, requires_grad=True)
    distance(color, torch.zeros(1, 3, 32, 32)).sum().backward()
    assert color.grad.isfinite().all()


def test_mixed_precision_changes_little(random_vgg):
    distance = PerceptualDistance.pretrained("vgg", random_vgg)
    a, b = torch.rand(2, 4, 3, 32, 32).unbind()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = distance(a, b)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, distance(a, b), rtol=0.03, atol=0)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.pth"):
        PerceptualDistance.pretrained("vgg", str(tmp_path / "absent.pth"))


def test_another_networks_file_is_refused(tmp_path):
    path = tmp_path / "alex.pth"
    torch.save({f"features.{k}": v for k, v in _alexnet_features().state_dict().items()}, path)
    with pytest.raises(ValueError, match=r"alex.pth .*features.0.weight should be \(64, 3, 3, 3\)"):
        PerceptualDistance.pretrained("vgg", str(path))


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<html>404</html>")
    with pytest.raises(ValueError, match="page.html is no file of PyTorch weights"):
        PerceptualDistance.pretrained("alex", str(path))


def test_a_failed_download_says_what_to_place_where(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(FileNotFoundError) as error:
        PerceptualDistance.pretrained("vgg")
    message = str(error.value)
    assert "https://download.pytorch.org/models/vgg16-397923af.pth" in message
    assert str(tmp_path / "checkpoints" / "vgg16-397923af.pth") in message
    assert "no route to host" in message and "backbone_weights" in message


def test_a_cached_file_is_used(tmp_path, monkeypatch, random_vgg):
    cache = tmp_path / "checkpoints"
    cache.mkdir()
    Path(random_vgg).rename(cache / "vgg16-397923af.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    picture = torch.rand(1, 3, 32, 32)
    assert PerceptualDistance.pretrained("vgg")(picture, picture) == 0
