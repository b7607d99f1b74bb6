"""Counts against formulas and against a count by hooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_tpseg.cli import main
from monai_tpseg.experiments.cost import cost_table, measure
from monai_tpseg.networks import build_network

DEMO: dict[str, Any] = {"backbone": "hiera_demo"}


def counted_by_hooks(network: nn.Module, size: int) -> int:
    """Multiply-adds of all convolutions, from the shapes of their outputs."""
    total = 0

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.ConvTranspose2d):
            total += inputs[0].numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Conv2d):
            total += output.numel() * layer.weight[0].numel()

    for layer in network.modules():
        layer.register_forward_hook(add)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, size, size), torch.zeros(1, dtype=torch.long))
    return total


def test_a_network_of_convolutions_is_counted_exactly() -> None:
    network = build_network("unet", width=4)
    expected = counted_by_hooks(network, 64)
    assert measure(network, (64, 64)).multiply_adds == expected


def test_parts_add_up_and_adapters_cost_what_their_formula_says() -> None:
    network = build_network(num_tasks=2, **DEMO)
    parameters = sum(p.numel() for p in network.parameters())
    widths = [block.dim for block in network.encoder.trunk.blocks]  # type: ignore[union-attr]
    sides = [64 // 4 * 32 // width for width in widths]  # the side halves where the width doubles
    cost = measure(network, (64, 64))
    assert cost.parameters == parameters == sum(count for count, _ in cost.parts.values())
    two_routes = sum(2 * 2 * width * 16 * side**2 for width, side in zip(widths, sides, strict=True))
    assert cost.parts["adapters and gate"][1] == two_routes
    assert sum(operations for _, operations in cost.parts.values()) == pytest.approx(cost.multiply_adds, rel=0.02)


def test_growth_is_in_parameters_alone() -> None:
    rows = {row[0]: row[1:] for row in cost_table({**DEMO, "routes": "task"}, (64, 64), (1, 3)).rows}
    one, three = (int(rows[name][0].replace(",", "")) for name in ("whole network, 1 task", "whole network, 3 tasks"))
    assert int(rows["growth per task"][0].replace(",", "")) == (three - one) // 2
    assert rows["growth per task"][1] == "0.00 G"


@pytest.mark.slow
def test_table_5_of_the_released_layout() -> None:
    rows = {row[0]: row[1:] for row in cost_table({"backbone": "hiera_large", "layout": "released"}, (512, 512)).rows}
    assert rows["whole network, 1 task"][0] == "264,841,079"
    assert rows["whole network, 8 tasks"][0] == "288,463,181"
    assert rows["adapters and gate"][1] == "4.64 G"


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["cost", "--backbone", "hiera_demo", "--image-size", "64"]
    assert main([*options, "--set", "without_pgtd=[1]", "adapter=lora"]) == 0
    assert "| growth per task |" in capsys.readouterr().out
    assert main(["cost", "--image-size", "64", "--set", "architecture=unet", "width=8"]) == 0  # as the help says
    assert "| growth per task |" in capsys.readouterr().out
    assert main([*options, "--set", "architecture=unet"]) == 2
    assert "backbone 'hiera_demo' is not an option of architecture 'unet'" in capsys.readouterr().err
    assert main([*options, "--set", "adapter"]) == 2
    assert "needs KEY=VALUE, got 'adapter'" in capsys.readouterr().err
    assert main([*options, "--num-tasks", "8", "1"]) == 2
    assert "two increasing numbers" in capsys.readouterr().err
    assert main([*options, "--set", "foo=1"]) == 2
    assert "foo 1 is not an option of architecture 'tpseg'" in capsys.readouterr().err
