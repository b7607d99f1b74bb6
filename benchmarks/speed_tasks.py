"""Several tasks on one image: `segment_tasks` beside one call per task, over split positions.

    python -m benchmarks.speed_tasks

The ratio to expect is that of the multiply-adds, counted while the same code runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.floor import multiply_adds
from benchmarks.timing import arguments, interleave, network, save, split_after, target, unit

KEYS = ("seconds", "least_seconds", "cpu_seconds")


@torch.inference_mode()
def main() -> None:
    parser = arguments(str(__doc__), batch=1, rounds=3)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--shared", type=int, nargs="+", default=[8, 16, 24, 36, 44], help="blocks before the split")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    net = network(args.backbone, args.tasks, args.device)
    image = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    curve = [at_split(net, image, shared, args) for shared in args.shared]
    key = unit(args.device)
    targets = [
        target(
            f"time over multiply-adds, split after {point['shared_blocks']} blocks",
            point["measured"][key] / point["multiply_adds"],
            1.15,
            most=True,
        )
        for point in curve
    ]
    save("tasks", args, targets=targets, curve=curve)
    draw(curve, args.tasks, args.out / "tasks.png")


def at_split(net: Any, image: torch.Tensor, shared: int, args: Any) -> dict[str, Any]:
    """Return time and multiply-adds of all tasks on one image relative to one task, for one split position."""
    split_after(net, shared)
    fast, tasks = net.optimize_for_inference(dtype=torch.bfloat16), list(range(args.tasks))
    calls = {"together": lambda: fast.segment_tasks(image, tasks), "one": lambda: fast(image, 0)}
    times = interleave(calls, args.rounds, args.device)
    counts = [multiply_adds(call) for call in calls.values()]
    return {
        "shared_blocks": shared,
        "multiply_adds": counts[0] / counts[1],
        "measured": {key: times["together"][key] / times["one"][key] for key in KEYS},
        "times": times,
        "gmac_of_one_task": counts[1] / 1e9,
    }


def draw(curve: list[dict[str, Any]], tasks: int, path: Path) -> None:
    """Draw the cost of all tasks, in calls for one task, over the split position."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    blocks = [point["shared_blocks"] for point in curve]
    axes.axhline(tasks, color="0.6", linestyle=":", label="one call per task")
    axes.plot(blocks, [p["multiply_adds"] for p in curve], "o--", color="0.3", label="multiply-adds")
    axes.plot(blocks, [p["measured"]["cpu_seconds"] for p in curve], "s-", label="measured")
    axes.set(
        xlabel="blocks before the split position", ylabel=f"{tasks} tasks, in calls for one", ylim=(0, tasks + 0.6)
    )
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
