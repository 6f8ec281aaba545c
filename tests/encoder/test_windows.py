"""Rectangles without masks against Swin's rolled windows with masks."""

import pytest
import torch
import torch.nn.functional as F

from mvsplat.encoder.networks import attention
from mvsplat.encoder.networks.neighbours import other_views
from mvsplat.encoder.networks.windows import position_encoding, rolled_windows, window_layout

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "size, splits", [((8, 8), 2), ((6, 12), 2), ((9, 6), 3), ((2, 4), 2), ((5, 4), 1)]
)
def test_shifted_windows_equal_rolled_and_masked_ones(size, splits):
    layout = (
        window_layout(*size, splits, True, CPU)
        if splits > 1
        else window_layout(*size, 1, False, CPU)
    )
    query, key, value = torch.randn(3, 1, 3, size[0] * size[1], 4)
    ordered = [x[:, :, layout.order] for x in (query, key, value)]
    ours = attention.attend_self(*ordered, layout)[:, :, layout.inverse]
    if splits == 1:
        expected = F.scaled_dot_product_attention(query, key, value)
    else:
        windows, mask = rolled_windows(*size, splits, CPU)
        expected = torch.empty_like(query)
        for order, bias in zip(windows, mask):
            parts = [x[:, :, order] for x in (query, key, value)]
            expected[:, :, order] = F.scaled_dot_product_attention(*parts, attn_mask=bias)
    torch.testing.assert_close(ours, expected)


def test_cross_attention_sees_all_other_views_of_the_window_and_nothing_else():
    layout = window_layout(4, 4, 2, False, CPU)
    query, key = torch.randn(2, 1, 3, 16, 4)
    value = torch.zeros(1, 3, 16, 1)
    value[0, 1, :4] = 1.0
    value = value.expand(-1, -1, -1, 4).contiguous()
    attended = attention.attend_others(query, key, value, layout, other_views(3, CPU))
    assert (attended[0, 1] == 0).all() and (attended[0, :, 4:] == 0).all()
    assert (attended[0, [0, 2], :4] > 0).all()


def test_the_tiled_mask_differs_only_with_more_than_two_views():
    layout = window_layout(8, 8, 2, True, CPU)
    rolled = rolled_windows(8, 8, 2, CPU)
    for views, same in ((2, True), (3, False)):
        tokens = torch.randn(3, 1, views, 64, 4)
        others = other_views(views, CPU)
        ours = attention.attend_others(*tokens, layout, others)
        tiled = attention.attend_tiled(*tokens, layout, others, rolled)
        assert torch.allclose(ours, tiled, atol=1e-5) == same


def test_position_encoding_follows_its_formula():
    encoding = position_encoding(8, 12, 2, 8, CPU).view(8, 12, 8)
    torch.testing.assert_close(encoding[:4, :6], encoding[4:, 6:])
    for row, column, channel in ((0, 0, 0), (3, 2, 1), (1, 5, 6), (2, 4, 7)):
        position = (row + 1) / 4 if channel < 4 else (column + 1) / 6
        i = channel % 4
        angle = torch.tensor(position * 2 * torch.pi * 10000 ** (-2 * (i // 2) / 4))
        expected = angle.sin() if i % 2 == 0 else angle.cos()
        torch.testing.assert_close(encoding[row, column, channel], expected, rtol=1e-4, atol=1e-5)
