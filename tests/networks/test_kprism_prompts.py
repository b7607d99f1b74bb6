"""The parts that read prompts, each against a plain loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from monai_tpseg.networks.kprism import UTNetEncoder
from monai_tpseg.networks.kprism.blocks import masked_pool, sine_position
from monai_tpseg.networks.kprism.click_map import click_map
from monai_tpseg.networks.kprism.decoder import attention_mask
from monai_tpseg.networks.kprism.encoder import ReducedAttention
from monai_tpseg.networks.kprism.in_context import InContextPrompt, Memory, read_memory
from monai_tpseg.networks.kprism.interactive import InteractivePrompt, pool_clicks

CPU = torch.device("cpu")


def test_click_map_draws_disks_of_radius_one() -> None:
    clicks = torch.tensor(
        [[[0, 0, 1], [3, 4, -1], [7, 9, 1], [2, 2, 0.0]], [[4.4, 4.6, 1], [4, 5, 1], [4, 5, -1], [0, 0, 0]]]
    )
    previous = torch.randn(2, 1, 8, 10)
    drawn = click_map(clicks, previous, 2, (8, 10), CPU)
    expected = torch.zeros(2, 2, 8, 10)
    for b in range(2):
        for row, column, polarity in clicks[b].tolist():
            for i in range(8):
                for j in range(10):
                    if polarity and (i - round(row)) ** 2 + (j - round(column)) ** 2 <= 1:
                        expected[b, int(polarity < 0), i, j] = 1
    assert torch.equal(drawn[:, :2], expected)
    torch.testing.assert_close(drawn[:, 2:], previous.sigmoid())
    assert not click_map(None, None, 2, (8, 10), CPU).any()


@pytest.mark.parametrize("stride", [4, 16])
def test_clicks_pool_the_pixels_around_them(stride: int) -> None:
    size = (5, 7)
    x = torch.randn(1, 3, *size)
    valid = torch.rand(1, *size) > 0.3
    places = [(0, 0), (5 * stride - 1, 7 * stride - 1), (stride, 2 * stride), (stride - 0.5, 3 * stride - 0.6)]
    clicks = torch.tensor([[[*p, 1.0] for p in places] + [[0, 0, 0.0]]])
    for mask in (None, valid):
        pooled = pool_clicks(
            x.flatten(2).transpose(1, 2), size, clicks, stride, None if mask is None else mask.flatten(1)
        )
        for n, (row, column) in enumerate(places):
            r, c = math.floor((row + 0.5) / stride), math.floor((column + 0.5) / stride)
            near = [
                x[0, :, i, j]
                for i in range(max(r - 1, 0), min(r + 2, size[0]))
                for j in range(max(c - 1, 0), min(c + 2, size[1]))
                if mask is None or mask[0, i, j]
            ]
            expected = torch.stack(near).mean(0) if near else torch.zeros(3)
            torch.testing.assert_close(pooled[0, n], expected)
        assert not pooled[0, -1].any()


def test_dense_prompt_equals_a_loop_over_pixels() -> None:
    feature = torch.randn(1, 8, 2, 3)
    keys, values = torch.randn(1, 20, 8), torch.randn(1, 20, 8)
    valid = torch.rand(1, 20) > 0.4
    for mask in (None, valid):
        read = read_memory(feature, Memory(keys, values, (), mask, torch.ones(1, 2, dtype=torch.bool)))
        for i in range(2):
            for j in range(3):
                q = feature[0, :, i, j]
                score = torch.stack([(2 * k @ q - k @ k) / math.sqrt(8) for k in keys[0]])
                if mask is not None:
                    score[~mask[0]] = -math.inf
                torch.testing.assert_close(read[0, :, i, j], score.softmax(0) @ values[0], atol=1e-5, rtol=1e-5)


def test_summaries_look_at_the_object_and_at_the_rest() -> None:
    torch.manual_seed(3)
    part = InContextPrompt((16,), channels=16, summaries=6)
    value = torch.randn(1, 16, 4, 4)
    label = torch.zeros(1, 1, 16, 16)
    label[..., :8] = 1  # the left half, whole pixels of the level
    before = part.summarise(value, label, None, 0)
    other = value.clone()
    other[..., 2:] += 1
    after = part.summarise(other, label, None, 0)
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3:], before[:, 3:])
    valid = torch.ones(1, 1, 16, 16)
    valid[:, :, 8:] = 0  # padding below: its content does not count
    other = value.clone()
    other[:, :, 2:] += 1
    torch.testing.assert_close(part.summarise(other, label, valid, 0), part.summarise(value, label, valid, 0))


def test_masked_pool_is_a_weighted_mean() -> None:
    values, weights = torch.randn(2, 5, 3), torch.rand(2, 5, 2)
    weights[1, :, 1] = 0
    pooled = masked_pool(values, weights)
    expected = sum(weights[0, n, 0] * values[0, n] for n in range(5)) / (weights[0, :, 0].sum() + 1e-4)
    torch.testing.assert_close(pooled[0, 0], expected)
    assert not pooled[1, 1].any()


def test_fourier_position_is_row_then_column_at_pixel_centres() -> None:
    part = InteractivePrompt(channels=8)
    place, size = torch.tensor([[[3.0, 10.0]]]), (16, 32)
    at = torch.tensor([2 * 3.5 / 16 - 1, 2 * 10.5 / 32 - 1])
    angle = 2 * math.pi * (at @ part.gaussian)
    torch.testing.assert_close(part.fourier(place, size)[0, 0], torch.cat([angle.sin(), angle.cos()]))


def test_a_sample_without_a_click_gets_one_token_only_where_it_has_no_other() -> None:
    part = InteractivePrompt(channels=8)
    clicks = torch.tensor([[[3, 4, 1], [5, 6, -1.0]], [[0, 0, 0], [0, 0, 0.0]]])
    alone, beside = part(clicks, (16, 16), alone=True), part(clicks, (16, 16), alone=False)
    assert alone.present.tolist() == [[True, True], [True, False]]
    assert alone.foreground.tolist() == [[True, False], [True, False]]
    torch.testing.assert_close(alone.position[0][1, 0], part.no_click)
    assert beside.present.tolist() == [[True, True], [False, False]]


def test_blocked_pixels_follow_the_mask() -> None:
    logits = torch.tensor([[[[-1.0, 2.0], [3.0, -4.0]]]])
    blocked = attention_mask(logits, torch.tensor([[True, False]]), (2, 2), None)
    assert blocked is not None
    assert blocked[0].tolist() == [[True, False, False, True], [False, True, True, False]]
    empty = attention_mask(-logits.abs(), torch.tensor([[True, False]]), (2, 2), None)
    assert empty is not None
    assert not empty.any()  # a query that would see nothing sees all
    assert attention_mask(None, torch.tensor([[True]]), (2, 2), None) is None


def test_sine_position_tells_rows_from_columns() -> None:
    position = sine_position((3, 5), 16, CPU).view(3, 5, 16)
    assert torch.equal(position[:, :1, :8].expand(-1, 5, -1), position[..., :8])
    assert torch.equal(position[:1, :, 8:].expand(3, -1, -1), position[..., 8:])
    assert len({tuple(p) for p in position.flatten(0, 1).tolist()}) == 15


def test_reduced_attention_equals_a_loop() -> None:
    part = ReducedAttention(8, num_heads=2, grid=3, dropout=0.0).eval()
    x = torch.randn(1, 8, 3, 3)  # the grid's own size: nothing is resampled
    q, k, v = (t.flatten(2).transpose(1, 2) for t in part.qkv(part.depthwise(x)).chunk(3, dim=1))
    out = torch.zeros(1, 9, 8)
    for head in range(2):
        d = slice(4 * head, 4 * head + 4)
        for i in range(9):
            score = torch.stack([q[0, i, d] @ k[0, j, d] + _bias(part, i, j, head) for j in range(9)]) * 4**-0.5
            out[0, i, d] = score.softmax(0) @ v[0, :, d]
    expected = part.out(part.out_depthwise(out.transpose(1, 2).view(1, 8, 3, 3)))
    torch.testing.assert_close(part(x), expected, atol=1e-5, rtol=1e-5)


def _bias(part: ReducedAttention, i: int, j: int, head: int) -> Tensor:
    row, column = i // 3 - j // 3 + 2, i % 3 - j % 3 + 2
    return part.bias[row * 5 + column, head]


def test_utnet_gives_strides_4_8_16() -> None:
    encoder = UTNetEncoder(width=8).eval()
    maps = encoder(torch.randn(1, 3, 32, 80))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 8, 20), (32, 4, 10), (64, 2, 5)]
    assert tuple(encoder.channels) == (16, 32, 64)
