"""What `torch.compile` gains: a training step and the network for inference, with and without, and how long it takes.

    python -m benchmarks.speed_compile

Compiled code is kept by PyTorch from run to run; this starts without any.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable

import torch

from benchmarks.speed_training import TASKS, build
from benchmarks.timing import arguments, interleave, network, save


def main() -> None:
    args = arguments(str(__doc__), backbone="hiera_tiny", size=256, batch=16, rounds=3).parse_args()
    torch.set_num_threads(args.threads)
    image = torch.randn(args.batch, 3, args.size, args.size, device=args.device)

    def forward(compiled: bool) -> Callable[[], None]:
        fast = network(args.backbone, TASKS, args.device).optimize_for_inference(0, torch.bfloat16, compile=compiled)

        def run() -> None:
            with torch.inference_mode():
                fast(image, 0)

        return run

    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        candidates = {
            "step": build("network_bf16", args),
            "step_compiled": build("network_bf16_compiled", args),
            "inference": forward(compiled=False),
            "inference_compiled": forward(compiled=True),
        }
        first = {name: seconds(run) for name, run in candidates.items()}
        times = interleave(candidates, args.rounds, args.device)
    keys = ("seconds", "cpu_seconds")
    gains = {name: {k: times[name][k] / times[f"{name}_compiled"][k] for k in keys} for name in ("step", "inference")}
    save("compile", args, first_call_seconds=first, times=times, gains=gains)


def seconds(run: Callable[[], None]) -> float:
    """Return how long one call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
