"""No network strides a 1x1 convolution: oneDNN's gradient of one destroys the heap."""

import pytest
import torch
from test_encoder import ABLATIONS, objective
from torch.utils._python_dispatch import TorchDispatchMode
from views import random_views, small_encoder

from mvsplat.encoder.cpu.convolution import conv1x1
from mvsplat.evaluation.lpips import PerceptualDistance

aten = torch.ops.aten
# Positions of the weight and of the stride among the operators' arguments.
CONVOLUTIONS = {
    aten.convolution.default: (1, 3),
    aten.convolution_overrideable.default: (1, 3),
    aten.mkldnn_convolution.default: (1, 4),
    aten.convolution_backward.default: (2, 4),
    aten.convolution_backward_overrideable.default: (2, 3),
}


class Convolutions(TorchDispatchMode):
    """Notes the kernel's size and the stride of all convolutions, forward and backward."""

    def __init__(self):
        super().__init__()
        self.forward, self.backward = set(), set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in CONVOLUTIONS:
            weight, stride = (args[position] for position in CONVOLUTIONS[function])
            seen = self.backward if "backward" in str(function) else self.forward
            seen.add((tuple(weight.shape[2:]), tuple(stride)))
        return function(*args, **kwargs or {})

    def check(self, strided: bool):
        """Forward and backward ran, one of them strided, none with a stride beyond its kernel."""
        assert self.forward and self.backward
        found = self.forward | self.backward
        assert strided == any(max(stride) > 1 for _, stride in found)
        beyond = [(k, s) for k, s in found if any(a < b for a, b in zip(k, s, strict=True))]
        assert beyond == []


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_encoders(ablation, precision):
    encoder = small_encoder(**ABLATIONS[ablation])
    with Convolutions() as seen:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            gaussians = encoder(random_views())
        objective(gaussians).backward()
    seen.check(strided=True)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips(net):
    with Convolutions() as seen:
        picture = torch.rand(1, 3, 64, 64, requires_grad=True)
        PerceptualDistance(net).features(picture).sum().backward()
    seen.check(strided=net == "alex")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 12), (7, 9)])
def test_what_indexing_strides_is_a_strided_convolution(stride, size):
    torch.manual_seed(0)
    layer, plain = conv1x1(6, 8, stride), torch.nn.Conv2d(6, 8, 1, stride).double()
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(3, 6, *size).to(memory_format=torch.channels_last).requires_grad_()
    truth = x.detach().double().requires_grad_()
    torch.testing.assert_close(layer(x).double(), plain(truth), rtol=1e-5, atol=1e-5)
    layer(x).square().sum().backward()
    plain(truth).square().sum().backward()
    for found, expected in zip((x, *layer.parameters()), (truth, *plain.parameters()), strict=True):
        torch.testing.assert_close(found.grad.double(), expected.grad, rtol=1e-4, atol=1e-4)
