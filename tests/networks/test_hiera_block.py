"""A block of the trunk on a CPU against `sam2`'s own forward pass, with windows that fit the map and that do not."""

from __future__ import annotations

import pytest
import torch
from sam2.modeling.backbones.hieradet import MultiScaleBlock
from torch.profiler import ProfilerActivity, profile

from monai_tpseg.networks.hiera_block import run_block
from monai_tpseg.networks.kernels import attend, linear


def block(window: int, stride: int | None = None, out: int = 24) -> MultiScaleBlock:
    """A block with 24 channels and two heads whose parameters are all away from their start."""
    torch.manual_seed(0)
    made = MultiScaleBlock(24, out, 2, q_stride=(stride, stride) if stride else None, window_size=window)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return made


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (2, 4), (16, 6), (20, 30)])
@pytest.mark.parametrize(
    ("window", "stride", "out"), [(0, None, 24), (8, None, 24), (14, None, 24), (8, 2, 48), (14, 2, 48)]
)
def test_equals_sam2(window: int, stride: int | None, out: int, size: tuple[int, int]) -> None:
    theirs = block(window, stride, out)
    h = torch.randn(3, *size, 24, requires_grad=True)
    results = []
    for forward in (theirs, lambda h: run_block(theirs, h)):
        result = forward(h)
        weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
        results.append((result, *torch.autograd.grad((result * weights).sum(), [h, *theirs.parameters()])))
    for ours, expected in zip(results[1], results[0], strict=True):
        assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_autocast_is_close() -> None:
    theirs = block(14)
    h = torch.randn(2, 16, 16, 24)
    with torch.autocast("cpu", torch.bfloat16):
        ours = run_block(theirs, h)
    assert ours.dtype == torch.float32
    exact = theirs(h)
    assert (ours - exact).abs().mean() < 0.02 * exact.abs().mean()


@pytest.mark.parametrize("shape", [(64, 5), (2, 8, 25, 5), (67, 5), (3, 5)])
def test_linear_equals_pytorch(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, requires_grad=True)
    weight, bias = torch.randn(7, 5, requires_grad=True), torch.randn(7, requires_grad=True)
    results = []
    for product in (linear, torch.nn.functional.linear):
        result = product(x, weight, bias)
        results.append((result, *torch.autograd.grad(result.square().sum(), (x, weight, bias))))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_linear_keeps_no_input_of_a_frozen_weight() -> None:
    kept: list[torch.Size] = []
    x, weight = torch.randn(4, 64, 5, requires_grad=True), torch.randn(7, 5)
    for frozen in (True, False):
        weight.requires_grad_(not frozen)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
            linear(x, weight)
        assert (x.shape in kept) is not frozen


def test_attention_with_a_graph_equals_pytorch() -> None:
    q, k, v = (torch.randn(6, 2, 40, 8).bfloat16().requires_grad_() for _ in range(3))
    mask = torch.randn(1, 40).bfloat16()
    ours = torch.autograd.grad(attend(q, k, v, mask, 0.3).float().sum(), (q, k, v))
    exact = [t.detach().float().requires_grad_() for t in (q, k, v)]
    scores = (exact[0] @ exact[1].transpose(2, 3)) * 0.3 + mask.float()
    for found, expected in zip(ours, torch.autograd.grad((scores.softmax(-1) @ exact[2]).sum(), exact), strict=True):
        assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max() + 0.02


def test_hooks_are_called() -> None:
    theirs, calls = block(8), list[str]()
    theirs.attn.qkv.register_forward_hook(lambda *_: calls.append("qkv"))
    run_block(theirs, torch.randn(1, 8, 8, 24))
    theirs.register_forward_pre_hook(lambda *_: calls.append("block"))
    run_block(theirs, torch.randn(1, 8, 8, 24))
    assert calls == ["qkv", "block", "qkv"]


def test_bf16_gradient_copies_no_weight() -> None:
    x, weight = torch.randn(4, 14, 14, 24, requires_grad=True), torch.randn(48, 24)
    with torch.autocast("cpu", torch.bfloat16):
        result = linear(x.transpose(1, 2), weight)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        result.float().transpose(1, 2).square().sum().backward()
    assert "aten::bmm" not in {event.key for event in profiled.key_averages()}
