"""`torch.compile` of a network's parts: what is compiled computes the same, and no limit of PyTorch ends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from monai_tpseg.losses import TPSegLoss
from monai_tpseg.networks import TPSeg, tpseg_hiera, tpseg_hiera_demo
from monai_tpseg.networks.adapter import TaskAdapter
from monai_tpseg.networks.compiled import compile_parts


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def step(net: TPSeg, amp: bool = False) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the logits and gradients of a batch of two tasks."""
    torch.manual_seed(3)
    image, label = torch.randn(2, 3, 64, 64), (torch.rand(2, 1, 64, 64) > 0.5).float()
    net.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        output = net(image, torch.tensor([2, 0]), deep_supervision=True)
    loss: torch.Tensor = TPSegLoss()(output, label)
    loss.backward()
    return output.logits.detach(), {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def test_training_step_is_the_same() -> None:
    net = tpseg_hiera_demo(3).train()
    expected, gradients = step(net)
    one_of_each = (net.encoder.trunk.blocks[-1], net.encoder.adapters[-1], net.decoder.rfbs[3], net.decoder.pgtds[2])
    compile_parts(one_of_each, backend="aot_eager", fullgraph=True)  # all of a compilation but its C++
    found, compiled = step(net)
    assert counters["stats"]["unique_graphs"] == len(one_of_each)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert compiled.keys() == gradients.keys()
    for name, gradient in compiled.items():
        scale = float(gradients[name].abs().max())
        torch.testing.assert_close(gradient, gradients[name], atol=1e-3 * scale + 1e-6, rtol=1e-3, msg=name)


@pytest.mark.parametrize("options", [{}, {"decoder": "unet", "adapter": "plain"}])
def test_no_part_stays_uncompiled(options: dict[str, Any]) -> None:
    net = tpseg_hiera("hiera_demo", 3, freeze_encoder=False, **options).train()
    net.compile_parts(backend="eager", fullgraph=True)  # a gap, and the limit of variants, are errors
    step(net)
    if net.encoder.gate is not None:
        net.encoder.gate.set_hard(True)
        step(net.checkpoint_activations(), amp=True)
        assert counters["stats"]["unique_graphs"] > 2 * len(net.encoder.trunk.blocks)


@torch.inference_mode()
def test_network_for_inference_is_not_compiled_task_by_task() -> None:
    net = tpseg_hiera_demo(8).eval()
    for adapter in net.encoder.adapters:
        torch.nn.init.normal_(adapter.task_up, std=0.05)
    fast, image = net.optimize_for_inference(), torch.randn(1, 3, 64, 64)
    expected = [fast(image, row) for row in range(8)]
    fast.compile_parts(backend="eager", fullgraph=True)
    graphs = []
    for row in range(8):
        torch.testing.assert_close(fast(image, row), expected[row], atol=1e-4, rtol=1e-4)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[7] == graphs[2]  # the second task says that rows are not one number


def test_code_of_a_compiler() -> None:
    adapter = TaskAdapter(8, 2, bottleneck=4)
    torch.nn.init.normal_(adapter.shared_up)
    torch.nn.init.normal_(adapter.task_up)
    h = torch.randn(2, 4, 4, 8, requires_grad=True)

    def gradients() -> tuple[torch.Tensor, ...]:
        loss = adapter(h, torch.tensor([0, 1]), torch.tensor([0.2, 0.7])).square().sum()
        return torch.autograd.grad(loss, [h, adapter.shared_down, adapter.task_up])

    expected = gradients()
    compile_parts([adapter])
    found = gradients()
    assert counters["inductor"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
