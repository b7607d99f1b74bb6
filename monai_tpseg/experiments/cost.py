"""Parameters and multiply-adds of a network and of its parts, and how they grow with the tasks: Table 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from monai_tpseg.experiments.tables import Table
from monai_tpseg.networks import TPSeg, build_network

__all__ = ["Cost", "cost_table", "measure"]

# name of a part -> where its modules lie, as prefixes of names below the network
_PARTS: dict[str, tuple[str, ...]] = {
    "trunk": ("encoder.trunk",),
    "adapters and gate": ("encoder.adapters", "encoder.gate", "encoder.low_rank"),
    "receptive-field blocks": ("decoder.rfbs",),
    "PGTD": ("decoder.pgtds", "decoder.blocks"),
    "side head and fusion": ("decoder.side_head", "fusion"),
    "without a use": ("extras",),
}


@dataclass(frozen=True)
class Cost:
    """Cost of a network for one image and one task.

    Attributes:
        parameters: number of parameters of the whole network; `parts` has those of its parts.
        multiply_adds: half of the operations that torch's counter finds in matrix products and convolutions.
        parts: name -> (parameters, multiply-adds).
    """

    parameters: int
    multiply_adds: float
    parts: Mapping[str, tuple[int, float]]


@torch.no_grad()
def measure(network: nn.Module, image_size: Sequence[int]) -> Cost:
    """Count a network's parameters and multiply-adds.

    It runs on the meta device, where attention is made of the products that the counter knows and nothing is computed.

    Args:
        network: any network of `build_network`; it is moved to the meta device and lost.
        image_size: (H, W) of the input, pixels.
    """
    network = network.eval().to("meta")
    counter = FlopCounterMode(display=False, depth=99)
    with counter:
        network(torch.zeros(1, 3, *image_size, device="meta"), torch.zeros(1, dtype=torch.long, device="meta"))
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    parts: dict[str, tuple[int, float]] = {}
    for part, prefixes in _PARTS.items() if isinstance(network, TPSeg) else ():
        parameters = sum(p.numel() for name, p in network.named_parameters() if name.startswith(prefixes))
        if parameters:
            parts[part] = (parameters, _outermost(flops, prefixes, type(network).__name__) / 2)
    total = sum(p.numel() for p in network.parameters())
    return Cost(total, counter.get_total_flops() / 2, parts)


def _outermost(flops: Mapping[str, float], prefixes: tuple[str, ...], top: str) -> float:
    """Return the operations of modules below `prefixes`, each counted with the outermost module that was called."""
    names = [name for name in flops if name.removeprefix(f"{top}.").startswith(prefixes)]
    return sum(flops[name] for name in names if not any(name.startswith(f"{other}.") for other in names))


def cost_table(options: Mapping[str, Any], image_size: Sequence[int], tasks: Sequence[int] = (1, 8)) -> Table:
    """Return Table 5 of a network: its parts with one task, and the whole with each number of tasks.

    Args:
        options: arguments of `build_network`.
        image_size: (H, W), pixels.
        tasks: two numbers of tasks, which also give the growth per task.
    """
    first, last = (measure(build_network(num_tasks=n, image_size=image_size, **options), image_size) for n in tasks)
    named = [(part, *first.parts[part]) for part in first.parts]
    for count, cost in zip(tasks, (first, last), strict=True):
        named.append((f"whole network, {count} task{'s' * (count > 1)}", cost.parameters, cost.multiply_adds))
    more = tasks[1] - tasks[0]
    growth = ((last.parameters - first.parameters) // more, (last.multiply_adds - first.multiply_adds) / more)
    rows = [(name, f"{parameters:,}", f"{operations / 1e9:.2f} G") for name, parameters, operations in named]
    rows.append(("growth per task", f"{growth[0]:,}", f"{growth[1] / 1e9:.2f} G"))
    title = f"Cost of one image of {image_size[0]} x {image_size[1]} for one task"
    return Table(title, ("part", "parameters", "multiply-adds"), tuple(rows))
