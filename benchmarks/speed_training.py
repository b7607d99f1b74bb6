"""One training step: the network beside the naive twin, time and peak memory.

    python -m benchmarks.speed_training

Forward, loss, backward and optimiser of a frozen trunk, batch of mixed tasks, with the options that the bundle trains
with: channels-last kernels and a fused optimiser. `loss` is the same for all; the optimiser of the twin is PyTorch's
plain AdamW, one parameter after the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.naive import NaiveTPSeg
from benchmarks.timing import arguments, interleave, network, peak_memory, save, started, target, unit
from monai_tpseg.bundle.config import prepare_network
from monai_tpseg.engines.optim import TaskAdamW, parameter_groups
from monai_tpseg.losses import TPSegLoss

TASKS = 8
CANDIDATES = ("twin", "network", "network_checkpointed", "network_bf16", "network_bf16_checkpointed")


def build(name: str, args: argparse.Namespace) -> Callable[[], None]:
    """Return one training step of a candidate."""
    net: Any = network(args.backbone, TASKS, args.device)
    net.requires_grad_(True).train()
    net.encoder.trunk.requires_grad_(False)
    net.encoder.gate.set_hard(False)
    optimizer: torch.optim.Optimizer
    if name == "twin":
        net = NaiveTPSeg(net)
        optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-5, foreach=False)
    else:
        options = {"checkpoint_activations": name.endswith("checkpointed"), "compile": name.endswith("compiled")}
        net = prepare_network(net, args.device, channels_last=True, **options)
        optimizer = TaskAdamW(parameter_groups(net, 1e-5, 1e-5), lr=1e-5, fused=True)
    image = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    label = (torch.rand(args.batch, 1, args.size, args.size, device=args.device) > 0.7).float()
    task = torch.arange(args.batch, device=args.device) % TASKS
    loss = TPSegLoss()

    def step() -> None:
        with torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled="bf16" in name):
            output = net(image, task, deep_supervision=True)
        loss(output, label).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def one_candidate(name: str, args: argparse.Namespace) -> None:
    """Two steps of a candidate, for the peak memory."""
    torch.set_num_threads(args.threads)
    step = build(name, args)
    started()
    step()
    step()


def main() -> None:
    args = arguments(str(__doc__), backbone="hiera_tiny", size=256, batch=16, rounds=3).parse_args()
    torch.set_num_threads(args.threads)
    memory = {name: peak_memory(one_candidate, name, args) for name in CANDIDATES}
    steps = {name: build(name, args) for name in CANDIDATES}
    times = interleave(steps, args.rounds, args.device)
    ratios = {
        name: {
            **{key: times["twin"][key] / times[name][key] for key in ("seconds", "least_seconds", "cpu_seconds")},
            "memory": memory[name] / memory["twin"],
        }
        for name in CANDIDATES[1:]
    }
    shares = {name: operations(steps[name]) for name in ("network", "network_bf16")}
    save(
        "training", args, targets=targets(ratios, args), times=times, peak_mib=memory, ratios=ratios, operations=shares
    )


def targets(ratios: dict[str, dict[str, float]], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the lines of the targets."""
    key = unit(args.device)
    return [
        target("twin / network, bf16", ratios["network_bf16"][key], 1.8, 2.5),
        target("twin / network, float32", ratios["network"][key], 1.8, 2.5),
        *(
            target(f"memory of {name.replace('_', ' ')} / twin", ratios[name]["memory"], 0.5, most=True)
            for name in ("network_bf16_checkpointed", "network_checkpointed")
        ),
    ]


def operations(step: Callable[[], None]) -> dict[str, float]:
    """Return the share of each operation in a step."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    rows = {e.key: e.self_cpu_time_total for e in profiled.key_averages() if e.key.startswith(("aten::", "mkldnn::"))}
    total = sum(rows.values())
    return {k: v / total for k, v in sorted(rows.items(), key=lambda row: -row[1]) if v > 0.02 * total}


if __name__ == "__main__":
    main()
