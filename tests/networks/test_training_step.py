"""The training step: what gets a gradient, what is kept for it, what never happens in it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from monai_tpseg.losses import TPSegLoss
from monai_tpseg.networks import TPSeg, tpseg_hiera, tpseg_hiera_demo


class Operations(TorchDispatchMode):
    """Counts the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split(".")[0]
        self.counts[name] = self.counts.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def step(net: TPSeg, batch: int) -> torch.Tensor:
    """Loss and backward pass of a batch of mixed tasks."""
    image, label = torch.randn(batch, 3, 64, 64), (torch.rand(batch, 1, 64, 64) > 0.5).float()
    task = torch.arange(batch) % 3
    output = net(image, task, deep_supervision=True)
    loss: torch.Tensor = TPSegLoss()(output, label)
    loss.backward()
    if net.pgtds:
        net.update_prototypes(output.features, label, task)
    return loss.detach()


@pytest.mark.parametrize("hard", [False, True])
def test_no_loop_over_samples(hard: bool) -> None:
    net = tpseg_hiera_demo(3).train()
    net.encoder.gate.set_hard(hard)
    counts = []
    for batch in (16, 32):  # of all sizes, so many rows that each product takes the same way
        net.zero_grad(set_to_none=True)
        with Operations() as seen:
            step(net, batch)
        counts.append({name: n for name, n in seen.counts.items() if "view" not in name})
    assert counts[0] == counts[1]


class GroupNormGradients(TorchDispatchMode):
    """Which gradients the backward passes of GroupNorm are asked for: of the input, the scale, the shift."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[list[bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.native_group_norm_backward.default:
            self.masks.append(list(args[-1]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("routes", ["both", "task", "shared"])
def test_a_frozen_trunk_avoids_what_crashes_in_pytorch_2_11(routes: Any) -> None:
    """On a CPU, GroupNorm's backward pass on channels-last maps, without a gradient of the input, ends the process."""
    net = tpseg_hiera("hiera_demo", 3, routes=routes, freeze_encoder=True).train()
    with GroupNormGradients() as seen:
        step(net, 2)
    assert seen.masks
    assert all(of_input for of_input, _, _ in seen.masks)
    assert net.encoder.adapters is not None
    norm = net.encoder.adapters[0].norm
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None


def test_nothing_is_read_back_from_the_device() -> None:
    net = tpseg_hiera_demo(3).train().to("meta")  # reading a number of a meta tensor is an error
    image = torch.zeros(4, 3, 64, 64, device="meta")
    task = torch.zeros(4, dtype=torch.long, device="meta")
    output = net(image, task, deep_supervision=True)
    loss = TPSegLoss()(output, torch.zeros(4, 1, 64, 64, device="meta"))
    loss.backward()
    net.update_prototypes(output.features, torch.zeros(4, 1, 64, 64, device="meta"), task)


def gradients(net: TPSeg) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    net.zero_grad(set_to_none=True)
    step(net, 3)
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("options", [{}, {"freeze_encoder": True}, {"decoder": "unet"}])
def test_checkpointing_changes_no_gradient(options: dict[str, Any]) -> None:
    net = tpseg_hiera("hiera_demo", 3, **{"freeze_encoder": False, **options}).train()
    start = copy.deepcopy(net.state_dict())  # a step moves the prototypes
    expected = gradients(net)
    net.load_state_dict(start)
    found = gradients(net.checkpoint_activations())
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)


def saved_bytes(net: TPSeg) -> int:
    """Bytes that the graph of a forward pass keeps, each storage once, parameters aside."""
    parameters = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        output = net(torch.randn(2, 3, 64, 64), torch.tensor([0, 1]), deep_supervision=True)
    assert output.logits.requires_grad
    return sum(kept.values())


def test_checkpointing_keeps_less() -> None:
    net = tpseg_hiera_demo(3, freeze_encoder=True).train()
    everything = saved_bytes(net)
    assert saved_bytes(net.checkpoint_activations()) < 0.5 * everything
    assert saved_bytes(net.checkpoint_activations(False)) == everything
