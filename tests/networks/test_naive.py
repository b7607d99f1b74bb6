"""The network against its naive twin: forward, gradients, both layouts, soft and hard gates."""

from __future__ import annotations

import pytest
import torch

from benchmarks.naive import NaiveTPSeg
from monai_tpseg.networks import TPSeg, tpseg_hiera, tpseg_hiera_demo

TASKS = torch.tensor([2, 0, 1])


def network(layout: str = "paper", routes: str | None = None, hard: bool = False, tasks: int = 3) -> TPSeg:
    """A small network whose parameters are all away from their start."""
    torch.manual_seed(1)
    widths = {} if layout == "paper" else {"rfb_channels": (64, 128, 256, 512), "channels": (128, 128, 256)}
    net = tpseg_hiera("hiera_demo", tasks, layout=layout, routes=routes, freeze_encoder=False, **widths)  # type: ignore[arg-type]
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
        if net.encoder.gate is not None:
            torch.nn.init.normal_(net.encoder.gate.task_split, std=2.0)
            net.encoder.gate.set_hard(hard)
    return net.eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("layout", "routes", "hard"),
    [
        ("paper", None, False),
        ("paper", None, True),
        ("paper", "task", False),
        ("paper", "shared", False),
        ("released", None, False),
    ],
)
def test_forward(layout: str, routes: str | None, hard: bool) -> None:
    net = network(layout, routes, hard)
    image = torch.randn(3, 3, 64, 96)
    ours, theirs = (n(image, TASKS, deep_supervision=True) for n in (net, NaiveTPSeg(net)))
    for a, b in zip(
        [ours.logits, *ours.side_logits, *ours.features, *ours.prototypes],
        [theirs.logits, *theirs.side_logits, *theirs.features, *theirs.prototypes],
        strict=True,
    ):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()


def test_gradients() -> None:
    net = network()
    twin = NaiveTPSeg(net)
    image, label = torch.randn(3, 3, 64, 64), (torch.rand(3, 1, 64, 64) > 0.7).float()
    for n in (net, twin):
        torch.nn.functional.binary_cross_entropy_with_logits(n(image, TASKS), label).backward()
    theirs = dict(twin.named_parameters())
    for name, p in net.named_parameters():
        assert p.grad is not None
        other = theirs[name].grad
        if other is None:  # a route that no sample of the batch runs
            other = torch.zeros_like(p)
        assert (p.grad - other).abs().max() <= 1e-3 * other.abs().max() + 1e-7, name


def test_loads_the_same_state() -> None:
    net, other = network(), NaiveTPSeg(tpseg_hiera_demo(3).eval())
    other.load_state_dict(net.state_dict())
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(other(image, 1), net(image, 1), atol=1e-4, rtol=1e-4)
