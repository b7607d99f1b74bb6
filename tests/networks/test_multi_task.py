"""Several tasks on one image: equal to one call per task, with the shared part run once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from monai_tpseg.networks import TPSeg, tpseg_hiera

BLOCKS = 6  # of hiera_demo


def network(splits: list[int], layout: str = "paper", routes: str | None = None, hard: bool = True) -> TPSeg:
    """A small network whose tasks leave the shared route after the given numbers of blocks."""
    torch.manual_seed(1)
    widths = {"rfb_channels": (64, 128, 256, 512), "channels": (128, 128, 256)} if layout == "released" else {}
    net = tpseg_hiera("hiera_demo", len(splits), layout=layout, routes=routes, freeze_encoder=False, **widths)  # type: ignore[arg-type]
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
        if net.encoder.gate is not None:
            net.encoder.gate.task_split.fill_(-20.0)
            for row, shared in enumerate(splits):
                net.encoder.gate.task_split[row, shared] = 5.0
            net.encoder.gate.set_hard(hard)
            assert [net.encoder.shared_blocks(row, hard=True) for row in range(len(splits))] == splits
    return net.eval()


@torch.no_grad()
@pytest.mark.parametrize("splits", [[1, 1, 1], [4, 4, 4], [1, 2, 3], [4, 1, 3]])
def test_equals_one_call_per_task(splits: list[int]) -> None:
    net, image = network(splits), torch.randn(2, 3, 64, 96)
    for tasks in ([0, 1, 2], [2, 0], [1]):
        expected = torch.cat([net(image, task) for task in tasks], dim=1)
        torch.testing.assert_close(net.segment_tasks(image, tasks), expected, atol=1e-5, rtol=1e-5)
        fast = net.optimize_for_inference(tasks)
        torch.testing.assert_close(fast.segment_tasks(image, tasks), expected, atol=2e-4, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(
    ("layout", "routes", "hard", "shared"),
    [
        ("paper", None, False, 1),
        ("paper", "shared", True, BLOCKS),
        ("paper", "task", True, 0),
        ("released", None, True, 0),
    ],
)
def test_other_routes_and_soft_gates(layout: str, routes: str | None, hard: bool, shared: int) -> None:
    net, image = network([2, 3], layout, routes, hard), torch.randn(1, 3, 64, 64)
    assert net.encoder.shared_blocks(0) == shared
    expected = torch.cat([net(image, task) for task in (1, 0)], dim=1)
    torch.testing.assert_close(net.segment_tasks(image, [1, 0]), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("splits", [[1, 1], [3, 4], [4, 1]])
def test_shared_blocks_and_stages_run_once(splits: list[int]) -> None:
    net, calls = network(splits), Counter[str]()
    fast = net.optimize_for_inference()
    for name, parts in (("block", (net.encoder.trunk.blocks, fast.blocks)), ("rfb", (net.decoder.rfbs, fast.rfbs))):
        for i, part in [pair for group in parts for pair in enumerate(group)]:
            part.register_forward_hook(lambda *_, key=f"{name} {i}": calls.update([key]))
    for n in (net, fast):
        calls.clear()
        n.segment_tasks(torch.randn(1, 3, 32, 32), [0, 1])
        for i in range(BLOCKS):  # the last task to leave runs alone from where the other one left
            assert calls[f"block {i}"] == 1 + sum(i >= s for s in splits) - (i >= max(splits))
        for stage, end in enumerate(net.encoder.trunk.stage_ends):
            assert calls[f"rfb {stage}"] == 1 + sum(end >= s for s in splits) - (end >= max(splits))


@pytest.mark.parametrize("tasks", [[], [0, 0], [5], [-1]])
def test_bad_tasks_are_named(tasks: list[int]) -> None:
    net = network([2, 2])
    for n in (net, net.optimize_for_inference()):
        with pytest.raises(ValueError, match="tasks must be different rows from 0, 1, got"):
            n.segment_tasks(torch.zeros(1, 3, 32, 32), tasks)


@torch.no_grad()
@pytest.mark.parametrize(
    "ablation", [{"adapter": "lora"}, {"adapter": "plain"}, {"decoder": "unet"}, {"without_pgtd": [1]}]
)
def test_ablations(ablation: dict[str, Any]) -> None:
    net, image = tpseg_hiera("hiera_demo", 2, **ablation).eval(), torch.randn(1, 3, 64, 64)
    expected = torch.cat([net(image, task) for task in (0, 1)], dim=1)
    torch.testing.assert_close(net.segment_tasks(image, [0, 1]), expected, atol=1e-5, rtol=1e-5)
