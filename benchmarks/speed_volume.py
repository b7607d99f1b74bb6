"""A volume slice by slice: throughput, and peak memory over the number of slices and of slices that run together.

    python -m benchmarks.speed_volume

Memory is that of the inference alone, above the network and the volume itself; the probabilities are part of it. What
PyTorch loads at its first call is left out.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from benchmarks.timing import arguments, interleave, network, peak_memory, save, started, target, unit
from monai_tpseg.inferers import TaskInferer

TOGETHER = 4


@torch.inference_mode()
def whole_volume(slices: int, slice_batch: int, args: argparse.Namespace) -> None:
    """Segment a volume once, for the peak memory."""
    torch.set_num_threads(args.threads)
    fast = network(args.backbone, device=args.device).optimize_for_inference(0, torch.bfloat16)
    volume = torch.randn(1, 3, args.size, args.size, slices)
    inferer = TaskInferer(args.size, slice_batch=slice_batch, device=args.device)
    TaskInferer(64, slice_batch=1, device=args.device)(volume[..., :2], fast, task=0)  # libraries, threads
    started()
    inferer(volume, fast, task=0)


@torch.inference_mode()
def main() -> None:
    parser = arguments(str(__doc__), backbone="hiera_tiny", size=256, rounds=3)
    parser.add_argument("--slices", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sizes = ((args.slices // 4, TOGETHER), (args.slices, TOGETHER), (args.slices, 1), (args.slices, 2 * TOGETHER))
    memory = [
        {"slices": slices, "slice_batch": batch, "peak_mib": peak_memory(whole_volume, slices, batch, args)}
        for slices, batch in sizes
    ]
    fast = network(args.backbone, device=args.device).optimize_for_inference(0, torch.bfloat16)
    volume = torch.randn(1, 3, args.size, args.size, args.slices)
    image = torch.randn(TOGETHER, 3, args.size, args.size, device=args.device)
    inferer = TaskInferer(args.size, slice_batch=TOGETHER, device=args.device)
    auto = TaskInferer(args.size, slice_batch="auto", device=args.device)
    times = interleave(
        {"volume": lambda: inferer(volume, fast, task=0), "four_slices": lambda: fast(image, 0)},
        args.rounds,
        args.device,
    )
    share = {
        key: times["four_slices"][key] * args.slices / TOGETHER / times["volume"][key]
        for key in ("seconds", "cpu_seconds")
    }
    rate = args.slices / times["volume"]["seconds"]
    results: dict[str, Any] = {"memory": memory, "times": times, "network_share": share, "slices_a_second": rate}
    results["memory_mb"], results["slices_of_auto"] = auto.memory_mb, auto.slices_together(fast, (args.size, args.size))
    save("volume", args, targets=targets(memory, share, rate, args), **results)


def targets(
    memory: list[dict[str, Any]], share: dict[str, float], rate: float, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return the lines of the targets."""
    short, long = (m["peak_mib"] - 4 * args.size**2 * m["slices"] / 2**20 for m in memory[:2])
    lines = [
        target("peak memory of four times the slices, probabilities left out", long / short, 1.25, most=True),
        target("network's share of the time", share[unit(args.device)], 0.9),
    ]
    if args.device != "cpu":
        lines.append(target("seconds of 300 slices", 300 / rate, 2.0, most=True))
    return lines


if __name__ == "__main__":
    main()
