"""The network for inference against the hard-gated plain one and the naive twin."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.naive import NaiveTPSeg
from monai_tpseg.networks import TPSeg, tpseg_hiera
from monai_tpseg.networks.adapter import TaskAdapter
from monai_tpseg.networks.fast.encoder import FoldedAdapter, PackedLinear
from monai_tpseg.networks.kernels import attend

SIZES = [(64, 64), (96, 160), (224, 32)]


def network(layout: str = "paper", routes: str | None = None, tasks: int = 3) -> TPSeg:
    """A small network with hard gates whose parameters are all away from their start."""
    torch.manual_seed(1)
    widths = {"rfb_channels": (64, 128, 256, 512), "channels": (128, 128, 256)} if layout == "released" else {}
    net = tpseg_hiera("hiera_demo", tasks, layout=layout, routes=routes, freeze_encoder=False, **widths)  # type: ignore[arg-type]
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
        if net.encoder.gate is not None:
            for row, shared in enumerate((1, 3, 4)[:tasks]):
                split_after(net, row, shared)
            net.encoder.gate.set_hard(True)
    return net.eval()


def split_after(net: TPSeg, row: int, shared: int) -> None:
    """Let a task leave the shared route after its first `shared` blocks."""
    assert net.encoder.gate is not None
    with torch.no_grad():
        net.encoder.gate.task_split[row] = -20.0
        net.encoder.gate.task_split[row, shared] = 5.0
    assert net.encoder.shared_blocks(row, hard=True) == shared


def relative(result: Tensor, expected: Tensor) -> float:
    """Return the largest error relative to the largest value."""
    return float((result - expected).abs().max() / expected.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("layout", "routes"), [("paper", None), ("paper", "shared"), ("released", None)])
def test_equals_the_plain_network(layout: str, routes: str | None, size: tuple[int, int]) -> None:
    net = network(layout, routes)
    fast, image = net.optimize_for_inference(), torch.randn(3, 3, *size)
    for task in (torch.tensor([2, 0, 2]), torch.tensor([1, 1, 1]), 1):
        assert relative(fast(image, task), net(image, task)) < 1e-4
    assert relative(fast(image, 2), NaiveTPSeg(net)(image, 2)) < 1e-4


@torch.no_grad()
def test_soft_gates_are_hardened() -> None:
    net = network()
    image = torch.randn(1, 3, 64, 64)
    hard = net(image, 1)
    net.encoder.gate.set_hard(False)
    assert not torch.allclose(net(image, 1), hard, atol=1e-3)
    assert relative(net.optimize_for_inference()(image, 1), hard) < 1e-4


@torch.no_grad()
def test_bfloat16_is_close() -> None:
    net = network()
    image = torch.randn(2, 3, 96, 64)
    fast = net.optimize_for_inference(dtype=torch.bfloat16)
    result, expected = fast(image, torch.tensor([2, 0])), net(image, torch.tensor([2, 0]))
    assert result.dtype == torch.float32
    assert relative(result, expected) < 0.2
    assert (result - expected).abs().mean() < 0.01 * expected.abs().max()
    for part in (*fast.lows, *(pgtd.encode for pgtd in fast.pgtds), *(pgtd.fuse for pgtd in fast.pgtds)):
        assert {x.dtype for x in part.state_dict().values()} == {torch.float32}  # the vote would raise a rounding
    assert fast.blocks[0].qkv.weight.dtype == fast.rfbs[0].merge.conv.weight.dtype == torch.bfloat16


@torch.no_grad()
def test_attention_in_parts_equals_pytorch() -> None:
    q, k, v = torch.randn(3, 20, 2, 300, 24).unbind(0)
    exact = torch.softmax(q @ k.transpose(2, 3), -1) @ v
    torch.testing.assert_close(attend(q, k, v), exact, atol=1e-5, rtol=1e-4)
    halves = attend(q.bfloat16(), k.bfloat16(), v.bfloat16()).float()  # more scores than one product may make
    assert (halves - exact).abs().mean() < 0.03 * exact.abs().mean()


@torch.no_grad()
def test_the_network_itself_stays() -> None:
    net = network()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.optimize_for_inference(dtype=torch.bfloat16)(torch.randn(1, 3, 32, 32), 0)
    assert all(torch.equal(v, before[k]) and v.dtype == before[k].dtype for k, v in net.state_dict().items())


def test_one_task_alone_is_smaller_and_refuses_others() -> None:
    net = network()
    fast = (net.optimize_for_inference(1), net.optimize_for_inference())
    one, all_of_them = (sum(b.numel() for b in n.buffers()) for n in fast)
    assert one < all_of_them
    with pytest.raises(ValueError, match=r"rows from 1, got \[2\]"):
        net.optimize_for_inference(1)(torch.zeros(1, 3, 32, 32), 2)
    for bad in (3, [], [0, 0]):
        with pytest.raises(ValueError, match="different rows from 0, 1, 2"):
            net.optimize_for_inference(bad)
    with pytest.raises(ValueError, match=r"bfloat16 or float16, got torch\.int8"):
        net.optimize_for_inference(dtype=torch.int8)
    with pytest.raises(ValueError, match="divisible by 32"):
        net.optimize_for_inference()(torch.zeros(1, 3, 33, 32), 0)


@pytest.mark.parametrize(
    "ablation", [{"adapter": "lora"}, {"adapter": "none"}, {"decoder": "unet"}, {"without_pgtd": [1]}]
)
def test_ablations_have_no_fast_form(ablation: dict[str, Any]) -> None:
    net = tpseg_hiera("hiera_demo", 2, **ablation)
    with pytest.raises(ValueError, match="no fast form"):
        net.optimize_for_inference()


@torch.no_grad()
@pytest.mark.parametrize("gelu", [False, True])
def test_packed_weights_equal_plain_ones_and_follow_them(gelu: bool) -> None:
    layer = torch.nn.Linear(24, 40).bfloat16()
    packed, x = PackedLinear(layer), torch.randn(3, 50, 24).bfloat16()

    def plain(x: Tensor) -> Tensor:
        result = torch.nn.functional.linear(x, packed.weight, packed.bias)
        return torch.nn.functional.gelu(result) if gelu else result

    assert relative(packed(x, gelu), plain(x)) < 0.02
    copied = pickle.loads(pickle.dumps(copy.deepcopy(packed)))  # what is packed stays behind
    assert torch.equal(copied(x, gelu), packed(x, gelu))
    packed.load_state_dict(torch.nn.Linear(24, 40).state_dict())
    assert relative(packed(x, gelu), plain(x)) < 0.02
    assert relative(packed.float()(x.float(), gelu), plain(x.float())) < 1e-4
    with torch.enable_grad():
        assert packed(x.float().requires_grad_(), gelu).requires_grad


@torch.no_grad()
def test_a_folded_adapter_is_as_exact_as_float32_on_a_large_map() -> None:
    torch.manual_seed(0)
    adapter = TaskAdapter(144, 1, routes="task")
    torch.nn.init.normal_(adapter.task_up)
    adapter.norm.weight.uniform_(0.5, 1.5)
    adapter.norm.bias.normal_()
    h = 2 * torch.randn(1, 128, 128, 144) + 0.1
    task, folded = torch.tensor([0]), FoldedAdapter(adapter, [0], torch.float32)
    exact = copy.deepcopy(adapter).double()(h.double(), task) - h.double()
    assert relative(folded(h, *folded.route(0)).double() - h.double(), exact) < 3e-6


@torch.no_grad()
def test_autocast_changes_nothing() -> None:
    fast, image = network().optimize_for_inference(), torch.randn(1, 3, 64, 64)
    expected = fast(image, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(image, 1), expected)
        assert torch.equal(fast.segment_tasks(image, [1, 2])[:, :1], expected)
