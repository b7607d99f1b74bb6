"""A volume slice by slice: throughput, and peak memory over the number of slices and of slices that run together.

    python -m benchmarks.speed_volume

Memory is that of the inference alone, above the network and the volume itself.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.timing import arguments, interleave, network, peak_memory, save, started
from monai_tpseg.inferers import TaskInferer


@torch.inference_mode()
def whole_volume(slices: int, slice_batch: int, args: argparse.Namespace) -> None:
    """Segment a volume once, for the peak memory."""
    torch.set_num_threads(args.threads)
    fast = network(args.backbone, device=args.device).optimize_for_inference(0, torch.bfloat16)
    volume = torch.randn(1, 3, args.size, args.size, slices)
    started()
    TaskInferer(args.size, slice_batch=slice_batch, device=args.device)(volume, fast, task=0)


@torch.inference_mode()
def main() -> None:
    parser = arguments(str(__doc__), backbone="hiera_tiny", size=256, rounds=3)
    parser.add_argument("--slices", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    memory = [
        {"slices": slices, "slice_batch": batch, "peak_mib": peak_memory(whole_volume, slices, batch, args)}
        for slices, batch in ((args.slices // 4, 4), (args.slices, 4), (args.slices, 1), (args.slices, 8))
    ]
    fast = network(args.backbone, device=args.device).optimize_for_inference(0, torch.bfloat16)
    volume = torch.randn(1, 3, args.size, args.size, args.slices)
    image = torch.randn(4, 3, args.size, args.size, device=args.device)
    inferer = TaskInferer(args.size, slice_batch=4, device=args.device)
    times = interleave(
        {"volume": lambda: inferer(volume, fast, task=0), "four_slices": lambda: fast(image, 0)},
        args.rounds,
        args.device,
    )
    share = {
        key: times["four_slices"][key] * args.slices / 4 / times["volume"][key] for key in ("seconds", "cpu_seconds")
    }
    rate = args.slices / times["volume"]["seconds"]
    save("volume", args, memory=memory, times=times, network_share=share, slices_a_second=rate)


if __name__ == "__main__":
    main()
