"""What is arranged to run fast on the CPU, against torch's operations in float64."""

from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from mvsplat.encoder.cpu import attention as cpu_attention
from mvsplat.encoder.cpu import convolution, products
from mvsplat.encoder.cpu.normalization import InstanceNorm, group_norm
from mvsplat.encoder.networks import attention
from mvsplat.encoder.networks.neighbours import other_views
from mvsplat.encoder.networks.transformer import TransformerBlock
from mvsplat.encoder.networks.windows import window_layout

CPU = torch.device("cpu")


def gradients(function, inputs, probe):
    """The value and what it sends back for a random linear objective."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    value = function(*inputs)
    return [value.detach(), *torch.autograd.grad((value * probe.to(value)).sum(), inputs)]


def assert_agree(ours, reference, inputs, tolerance=1e-5):
    probe = torch.randn(reference(*inputs).shape)
    exact = gradients(reference, [x.double() for x in inputs], probe)
    for found, expected in zip(gradients(ours, inputs, probe), exact):
        assert found.dtype == torch.float32 and found.shape == expected.shape
        scale = expected.abs().max()
        assert ((found - expected).abs() / scale).max() < tolerance


@pytest.mark.parametrize(
    "channels, size",
    # Inputs that fill vectors and not; a last strip of fewer rows; a strip wider than its pixels.
    [((16, 24), (128, 128)), ((5, 19), (150, 128)), ((3, 8), (4, 8192))],
)
def test_a_large_convolutions_gradients(channels, size):
    layer = convolution.conv3x3(*channels)
    assert size[0] * size[1] >= convolution.LARGE_PIXELS
    x = torch.randn(2, channels[0], *size).contiguous(memory_format=torch.channels_last)

    def ours(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, x)

    inputs = [x, layer.weight, layer.bias]
    assert "Strips" in type(ours(*inputs).grad_fn).__name__
    assert_agree(ours, lambda x, w, b: F.conv2d(x, w, b, padding=1), inputs)


def test_a_large_convolution_of_prepared_tensors():
    """Gradients reach all that prepares its input, which is computed again and not kept."""
    layer = convolution.conv3x3(6, 8)
    parts = [torch.randn(1, c, 128, 128) for c in (2, 4)]
    scale = torch.randn(6, 1, 1)

    def prepare(first, second, scale):
        return F.gelu(convolution.concatenate(first, second) * scale)

    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.numel()) or x, lambda x: x
    ):
        layer.after(prepare, parts[0].requires_grad_(), *parts[1:], scale)
    assert sum(kept) < 1.01 * 6 * 128 * 128

    def ours(*tensors):
        return layer.after(prepare, *tensors)

    def reference(*tensors):
        return F.conv2d(prepare(*tensors), *(p.double() for p in layer.parameters()), padding=1)

    assert_agree(ours, lambda *x: reference(*(t.double() for t in x)), [*parts, scale])


@pytest.mark.parametrize(
    "channels, size, share",
    # Channels that fill vectors and not; a map too small for it to pay.
    [((16, 24), (16, 32), 4 / 9), ((5, 19), (31, 13), 4 / 9), ((5, 7), (3, 4), 1)],
)
def test_a_convolution_of_a_doubled_map(channels, size, share):
    layer = convolution.conv3x3(*channels)
    x = torch.randn(2, channels[0], *size).contiguous(memory_format=torch.channels_last)

    def ours(x, weight, bias):
        parameters = {"weight": weight, "bias": bias}
        call = torch.func.functional_call
        return call(OfDoubled(layer), {f"layer.{n}": p for n, p in parameters.items()}, x)

    def reference(x, weight, bias):
        return F.conv2d(F.interpolate(x, scale_factor=2), weight, bias, padding=1)

    assert_agree(ours, reference, [x, layer.weight, layer.bias])
    work = FlopCounterMode(display=False)
    with work:
        layer.of_doubled(x)
    assert work.get_total_flops() == pytest.approx(share * 2 * 9 * 2 * 4 * prod(channels + size))


class OfDoubled(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer.of_doubled(x)


def test_a_frozen_convolution_gets_no_gradient():
    layer = convolution.conv3x3(4, 4).requires_grad_(False)
    x = torch.randn(1, 4, 128, 128, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is None


@pytest.mark.parametrize("chunk", [1, 1 << 22])
@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("shifted", [False, True])
def test_attention_in_windows(views, shifted, chunk, monkeypatch):
    monkeypatch.setattr(cpu_attention, "CHUNK_ELEMENTS", chunk)
    layout = window_layout(8, 12, 2, shifted, CPU)
    inputs = [torch.randn(2, views, 96, 16) for _ in range(3)]
    others = other_views(views, CPU)

    def attend(*inputs):
        if views == 1:
            return attention.attend_self(*inputs, layout)
        return attention.attend_others(*inputs, layout, others)

    attended = attend(inputs[0].requires_grad_(), *inputs[1:])
    assert "AttendInWindows" in type(attended.grad_fn).__name__
    # In float64 it is torch's attention.
    assert_agree(attend, attend, inputs)


def assert_agree_in_bf16(ours, reference, inputs):
    """Values and gradients of rounded inputs, to the rounding of some steps in bf16."""
    inputs = [x.bfloat16() for x in inputs]
    probe = torch.randn(reference(*inputs).shape).bfloat16()
    exact = gradients(reference, [x.double() for x in inputs], probe)
    for found, expected in zip(gradients(ours, inputs, probe), exact):
        assert found.dtype == torch.bfloat16 and found.shape == expected.shape
        assert (found - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("chunk", [1, 1 << 22])
def test_attention_in_windows_in_bf16(chunk, monkeypatch):
    monkeypatch.setattr(cpu_attention, "CHUNK_ELEMENTS", chunk)
    layout = window_layout(8, 12, 2, True, CPU)
    inputs = [torch.randn(2, 8, 96, 16) for _ in range(3)]
    others = other_views(8, CPU)

    def attend(*inputs):
        return attention.attend_others(*inputs, layout, others)

    inputs[0].requires_grad_()
    attended = attend(*(x.bfloat16() for x in inputs))
    assert "AttendInWindows" in type(attended.grad_fn).__name__
    assert_agree_in_bf16(attend, attend, [x.detach() for x in inputs])


def test_group_norm_in_bf16():
    norm = group_norm(16)
    x = (3 * torch.randn(2, 16, 24, 32) + 1).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(16), torch.randn(16)
    assert_agree_in_bf16(
        norm.normalize_with, lambda x, w, b: F.group_norm(x, 8, w, b), [x, weight, bias]
    )


def attend(query, key, value):
    """Attention with one head, by its definition."""
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1) @ value


def written_out(block, tokens):
    """A block between two views in one window, projection by projection."""

    def update(update, tokens, attended):
        message = update.norm(update.merge(attended))
        if update.feed_forward is not None:
            message = update.feed_forward(torch.cat([tokens, message], dim=-1))
        return tokens + message

    query, key, value, cross_key, cross_value = block.project(tokens).chunk(5, dim=-1)
    tokens = update(block.self_message, tokens, attend(query, key, value))
    other = (x.flip(1) for x in (cross_key, cross_value))
    return update(block.cross_message, tokens, attend(block.query(tokens), *other))


def test_half_of_a_blocks_projections_are_products_of_weights():
    channels, expansion, side = 24, 2, 8
    block = TransformerBlock(channels, expansion, cross_view=True)
    tokens = torch.randn(1, 2, side**2, channels)
    layout, others = window_layout(side, side, 1, False, CPU), other_views(2, CPU)
    work = FlopCounterMode(display=False)
    with torch.no_grad():
        with work:
            found = block(tokens, layout, others)
        expected = written_out(block.double(), tokens.double())
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)
    count, square = 2 * side**2, channels**2
    attention = 2 * 4 * 2 * side**4 * channels
    feed_forward = 2 * count * expansion * (4 + 2) * square
    of_weights = 4 * 2 * channels * square
    assert work.get_total_flops() == 2 * count * 4 * square + attention + feed_forward + of_weights


@pytest.mark.parametrize("rows, columns", [((24, 5), 7), ((25, 3), 2), ((0, 3), 2)])
def test_a_transposed_product(rows, columns):
    x, y = torch.randn(rows), torch.randn(rows[0], columns)
    found = products.transposed_product(x, y)
    torch.testing.assert_close(found, (x.double().mT @ y.double()).float())


def test_attention_takes_parts_of_one_projection():
    layout = window_layout(4, 4, 2, False, CPU)
    projected = torch.randn(1, 2, 16, 24)

    def attend(projected):
        return attention.attend_self(*projected.split(8, dim=-1), layout)

    assert_agree(attend, attend, [projected])


@pytest.mark.parametrize("rectify", [False, True])
def test_instance_norm(rectify):
    x = (3 * torch.randn(2, 5, 16, 24) + 1).contiguous(memory_format=torch.channels_last)

    def reference(x):
        normalised = F.instance_norm(x)
        return F.relu(normalised) if rectify else normalised

    assert_agree(lambda x: InstanceNorm()(x, rectify), reference, [x])


def test_concatenation_keeps_the_format_and_takes_the_last_type():
    parts = [torch.randn(2, c, 4, 6, dtype=d) for c, d in ((3, torch.float32), (5, torch.bfloat16))]
    joined = convolution.concatenate(*parts)
    assert joined.dtype == torch.bfloat16
    assert joined.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(joined, torch.cat([part.bfloat16() for part in parts], dim=1))
