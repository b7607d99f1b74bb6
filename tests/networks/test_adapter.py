"""The task-conditioned adapter against a loop over samples."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_tpseg.networks import kernels
from monai_tpseg.networks.adapter import TaskAdapter


def loop(adapter: TaskAdapter, h: Tensor, task: Tensor, gate: Tensor) -> Tensor:
    """Equations (1) and (2), one sample at a time, with real 1x1 convolutions and GroupNorm."""
    results = []
    for x, t, w in zip(h, task, gate, strict=True):
        x = x.permute(2, 0, 1)[None]
        n = F.group_norm(x, 1, adapter.norm.weight, adapter.norm.bias)
        shared = F.conv2d(F.gelu(F.conv2d(n, adapter.shared_down[..., None, None])), adapter.shared_up[..., None, None])
        down, up = adapter.task_down[t][..., None, None], adapter.task_up[t][..., None, None]
        own = F.conv2d(F.gelu(F.conv2d(n, down)), up)
        results.append((x + (1 - w) * shared + w * own)[0].permute(1, 2, 0))
    return torch.stack(results)


@pytest.fixture
def adapter() -> TaskAdapter:
    adapter = TaskAdapter(12, 3, bottleneck=5)
    for p in adapter.parameters():
        torch.nn.init.normal_(p)
    return adapter


@pytest.mark.parametrize("hard", [False, True])
def test_equals_the_loop(adapter: TaskAdapter, hard: bool) -> None:
    h, task = torch.randn(4, 5, 6, 12), torch.tensor([2, 0, 1, 2])
    gate = torch.tensor([0.0, 1.0, 1.0, 0.0]) if hard else torch.rand(4)
    torch.testing.assert_close(adapter(h, task, gate, hard), loop(adapter, h, task, gate), atol=1e-4, rtol=1e-4)


def test_the_norm_of_a_gpu_equals_that_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    norm = torch.nn.GroupNorm(1, 12).double()
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    x, grad = (3 + torch.randn(2, 5, 6, 12)).requires_grad_(), torch.randn(2, 5, 6, 12)
    exact = F.group_norm(x.double().permute(0, 3, 1, 2), 1, norm.weight, norm.bias, norm.eps).permute(0, 2, 3, 1)
    exact_grads = torch.autograd.grad(exact, (x, norm.weight, norm.bias), grad.double())
    norm = norm.float()
    monkeypatch.setattr(kernels, "on_plain_cpu", lambda _: False)
    found = kernels.norm_channels_last(x, norm)
    torch.testing.assert_close(found, exact.float(), atol=1e-5, rtol=1e-5)
    for g, e in zip(torch.autograd.grad(found, (x, norm.weight, norm.bias), grad), exact_grads, strict=True):
        torch.testing.assert_close(g, e.float(), atol=1e-4, rtol=1e-4)
    assert kernels.norm_channels_last(x.bfloat16(), norm).dtype == torch.float32  # as autocast has it


@pytest.mark.parametrize("routes", ["both", "task", "shared"])
def test_starts_as_the_identity(routes: str) -> None:
    adapter = TaskAdapter(12, 3, bottleneck=5, routes=routes)  # type: ignore[arg-type]
    h = torch.randn(2, 4, 4, 12)
    assert torch.equal(adapter(h, torch.tensor([0, 2]), torch.rand(2)), h)


def test_hard_gradient_reaches_only_the_route_that_ran(adapter: TaskAdapter) -> None:
    adapter(torch.randn(1, 4, 4, 12), torch.tensor([1]), torch.ones(1), True).square().sum().backward()
    assert not adapter.shared_down.grad.any()
    assert adapter.task_down.grad[1].any()
    assert not adapter.task_down.grad[0].any()


def test_both_routes_need_a_gate(adapter: TaskAdapter) -> None:
    with pytest.raises(ValueError, match="needs the gate"):
        adapter(torch.randn(1, 4, 4, 12), torch.tensor([1]))


def test_unknown_routes() -> None:
    with pytest.raises(ValueError, match="Unknown routes 'none'"):
        TaskAdapter(12, 3, routes="none")  # type: ignore[arg-type]
