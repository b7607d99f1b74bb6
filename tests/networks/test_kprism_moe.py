"""The fused mixtures equal a loop over experts: both directions, all three forms, masks and gradients."""

from __future__ import annotations

import pytest
import torch

from benchmarks.kprism_naive import NaiveMixtureAttention, NaiveMixtureFFN
from monai_tpseg.networks.kprism import MixtureAttention, MixtureFFN

CHANNELS, HEADS, EXPERTS = 32, 4, 3  # folding pays for fewer than 11 tokens


def moved(module: torch.nn.Module) -> torch.nn.Module:
    """Biases away from zero."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return module


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("length", "memory_length"),
    [(2, 60), (10, 60), (11, 60), (60, 2), (60, 10), (60, 11), (30, 30), (1, 60), (60, 1)],
)
def test_attention_equals_a_loop_over_experts(length: int, memory_length: int, masked: bool) -> None:
    fused = moved(MixtureAttention(CHANNELS, EXPERTS, HEADS))
    naive = NaiveMixtureAttention(fused)  # type: ignore[arg-type]
    inputs = [torch.randn(2, n, CHANNELS) for n in (length, memory_length, length, memory_length)]
    blocked = None
    if masked:
        rows = length if memory_length > length else 1  # as in the decoder: per query, or one set for every pixel
        blocked = torch.rand(2, rows, memory_length) < 0.6
        blocked[..., 0] = False
    ours, theirs = ([t.clone().requires_grad_() for t in inputs] for _ in range(2))
    y, expected = fused(*ours, blocked), naive(*theirs, blocked)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)

    weight = torch.randn_like(y)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)
    for m, expert in enumerate(naive.experts):
        torch.testing.assert_close(fused.in_weight.grad[m], expert.in_proj_weight.grad, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(fused.in_bias.grad[m], expert.in_proj_bias.grad, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(fused.out_weight.grad[m], expert.out_proj.weight.grad, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(fused.out_bias.grad[m], expert.out_proj.bias.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fused.gate.weight.grad, naive.gate.weight.grad, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_full_width_in_float32() -> None:
    fused = moved(MixtureAttention(256))
    naive = NaiveMixtureAttention(fused)  # type: ignore[arg-type]
    q, x, e, p = torch.randn(1, 2, 256), torch.randn(1, 1024, 256), torch.randn(1, 2, 256), torch.randn(1, 1024, 256)
    torch.testing.assert_close(fused(q, x, e, p), naive(q, x, e, p), atol=1e-5 * 50, rtol=1e-4)
    torch.testing.assert_close(fused(x, q, p, e), naive(x, q, p, e), atol=1e-5 * 50, rtol=1e-4)


@torch.no_grad()
def test_perceptrons_equal_a_loop_over_experts() -> None:
    fused = moved(MixtureFFN(CHANNELS, EXPERTS, hidden=24))
    x = torch.randn(2, 7, CHANNELS)
    torch.testing.assert_close(fused(x), NaiveMixtureFFN(fused)(x), atol=1e-5, rtol=1e-5)  # type: ignore[arg-type]


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="30 channels do not divide into 4 heads"):
        MixtureAttention(30, 2, 4)
