"""Time of the bf16 network for inference over batch, size and number of tasks, drawn as a figure.

python -m benchmarks.speed_scaling
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.timing import arguments, interleave, network, save


@torch.inference_mode()
def main() -> None:
    parser = arguments(str(__doc__), backbone="hiera_tiny", size=256, batch=1, rounds=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 384, 512])
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 2, 4, 8])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    fast = network(args.backbone, max(args.tasks), args.device).optimize_for_inference(dtype=torch.bfloat16)

    def images(batch: int, size: int) -> torch.Tensor:
        return torch.randn(batch, 3, size, size, device=args.device)

    curves: dict[str, Any] = {}
    for name, values in (("batch", args.batches), ("size", args.sizes), ("tasks", args.tasks)):
        runs = {}
        for value in values:
            image = images(value if name == "batch" else args.batch, value if name == "size" else args.size)
            rows = list(range(value if name == "tasks" else 1))
            runs[str(value)] = lambda image=image, rows=rows: fast.segment_tasks(image, rows)
        curves[name] = interleave(runs, args.rounds, args.device)
    save("scaling", args, curves=curves)
    draw(curves, args.out / "scaling.png")


def draw(curves: dict[str, Any], path: Path) -> None:
    """Draw milliseconds of CPU time over each axis."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, (name, curve) in zip(figure.subplots(1, 3), curves.items(), strict=True):
        values = [int(value) for value in curve]
        axes.plot(values, [1000 * point["cpu_seconds"] for point in curve.values()], "o-", color="0.2")
        axes.set(xlabel=name, ylabel="ms", ylim=(0, None), xticks=values)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
