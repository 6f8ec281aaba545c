"""LPIPS against another implementation with the same weights, and what happens without weights."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch

from mvsplat.evaluation.lpips import PerceptualDistance

# The weights of torchvision's networks: position in ``features``, kernel; and the sides of the
# compared features of a picture of 224 pixels, as the networks' papers tell them.
KERNELS = {
    "vgg": dict.fromkeys((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), 3),
    "alex": {0: 11, 3: 5, 6: 3, 8: 3, 10: 3},
}
WIDTHS = {
    "vgg": (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
    "alex": (64, 192, 384, 256, 256),
}
SIDES = {"vgg": [224, 112, 56, 28, 14], "alex": [55, 27, 13, 13, 13]}


def random_weights(net: str, folder: Path) -> str:
    """A file like torchvision's, with random weights and a classifier to be ignored."""
    torch.manual_seed(0)
    names = {f"features.{k}": v for k, v in PerceptualDistance(net).features.state_dict().items()}
    path = folder / f"{net}.pth"
    torch.save(names | {"classifier.0.weight": torch.zeros(3)}, path)
    return str(path)


@pytest.fixture
def random_vgg(tmp_path) -> str:
    return random_weights("vgg", tmp_path)


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_distances_match_torchmetrics(net, tmp_path, monkeypatch):
    from torchmetrics.functional.image import lpips as theirs

    # torchmetrics takes the feature network from torchvision; give it ours to check the rest.
    ours = PerceptualDistance.pretrained(net, random_weights(net, tmp_path))
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *args: deepcopy(ours.features))
    reference = theirs._LPIPS(net=net)
    a, b = torch.rand(2, 2, 3, 64, 48).unbind()
    expected = reference(a, b, normalize=True).flatten()
    torch.testing.assert_close(ours(a, b), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_layers_are_torchvisions(net):
    distance = PerceptualDistance(net)
    channels = (3, *WIDTHS[net])
    expected = {
        f"{position}.weight": (channels[n + 1], channels[n], kernel, kernel)
        for n, (position, kernel) in enumerate(KERNELS[net].items())
    }
    state = distance.features.state_dict()
    assert {k: tuple(v.shape) for k, v in state.items() if k.endswith("weight")} == expected
    x, sides = torch.zeros(1, 3, 224, 224), []
    for position, layer in enumerate(distance.features):
        x = layer(x)
        if position in distance.taps:
            sides.append(x.shape[-1])
    assert sides == SIDES[net]


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
    path = random_weights("alex", tmp_path)
    with pytest.raises(ValueError, match=r"alex.pth .*features.0.weight should be \(64, 3, 3, 3\)"):
        PerceptualDistance.pretrained("vgg", path)


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
