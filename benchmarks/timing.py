"""What the speed benchmarks share: arguments, interleaved timing, peak memory, networks, JSON files.

Every script times all of its candidates in one process, in turn, round after round, and reports medians, so that
whatever else the machine does falls on all of them alike. Ratios of one run can be compared; seconds of two runs not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from monai_tpseg.cores import threads
from monai_tpseg.networks import TPSeg, tpseg_hiera

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "performance"


def arguments(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """Return the parser that every script starts from; `defaults` replace those of its options."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backbone", default="hiera_large")
    parser.add_argument("--size", type=int, default=512, help="side of the square images, pixels")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, after one that is not timed")
    parser.add_argument("--threads", type=int, default=threads())
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    parser.set_defaults(**defaults)
    return parser


def network(backbone: str, tasks: int = 2, device: str = "cpu", shared: int | None = None) -> TPSeg:
    """Return a network in evaluation mode with hard gates, and adapters that are not at their start.

    Args:
        backbone: variant of the trunk.
        tasks: T.
        device: where it lies.
        shared: blocks before the split position of every task; by default the middle, where a new network splits.
    """
    torch.manual_seed(0)
    net = tpseg_hiera(backbone, tasks).eval().requires_grad_(False)
    for adapter in net.encoder.adapters:
        torch.nn.init.normal_(adapter.shared_up, std=0.02)
        torch.nn.init.normal_(adapter.task_up, std=0.02)
    if shared is not None:
        split_after(net, shared)
    net.encoder.gate.set_hard(True)
    return net.to(device)


def split_after(net: TPSeg, shared: int) -> None:
    """Let every task leave the shared route after `shared` blocks."""
    net.encoder.gate.task_split.fill_(-20.0)
    net.encoder.gate.task_split[:, shared] = 5.0


def interleave(candidates: Mapping[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, dict[str, float]]:
    """Time `candidates` in turn; return for each the median and least wall time and CPU time, seconds.

    The CPU time counts every thread of the process. It does not see what waits for another program.
    """
    wall: dict[str, list[float]] = {name: [] for name in candidates}
    cpu: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, run in candidates.items():
            _wait(device)
            started, worked = time.perf_counter(), time.process_time()
            run()
            _wait(device)
            if turn:  # the first one fills caches
                wall[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - worked)
    return {
        name: {
            "seconds": statistics.median(wall[name]),
            "least_seconds": min(wall[name]),
            "cpu_seconds": statistics.median(cpu[name]),
        }
        for name in candidates
    }


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_memory(run: Callable[..., None], *args: Any) -> float:
    """Return the peak memory of `run(*args)` in a process of its own, above what the process had before, MiB.

    It is that of CUDA's allocator where `run` uses a GPU, else that of the process. `run` is a function of a module; it
    calls `started()` of this module when its inputs and networks are made.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(sender, run, args))
    process.start()
    sender.close()
    try:
        result: float = receiver.recv()
    except EOFError:
        raise RuntimeError(f"{run.__name__} ended with status {process.exitcode}; run it alone to see why.") from None
    process.join()
    return result


_before = 0.0


def started() -> None:
    """Say that the memory in use from now on counts."""
    global _before
    _before = _in_use()


def _measured(sender: Any, run: Callable[..., None], args: tuple[Any, ...]) -> None:
    run(*args)
    if torch.cuda.is_initialized():
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sender.send(peak - _before)
    sender.close()


def _in_use() -> float:
    """MiB of the GPU that this process has begun to use, else of the process."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("This system has no /proc/self/status; the memory benchmarks run on Linux.")


def target(
    name: str, measured: float, limit: float, stretch: float | None = None, most: bool = False
) -> dict[str, Any]:
    """Return one line of the `targets` of a result: what was measured beside what it should be, and whether it is.

    Args:
        name: of the figure.
        measured: the figure.
        limit: it should be at least this.
        stretch: and better this.
        most: both are upper limits instead.
    """

    def met(bound: float) -> bool:
        return measured <= bound if most else measured >= bound

    line = {
        "name": name,
        "measured": measured,
        "target": f"at {'most' if most else 'least'} {limit:g}",
        "met": met(limit),
    }
    return line if stretch is None else {**line, "stretch": f"{stretch:g}", "stretch_met": met(stretch)}


def unit(device: str) -> str:
    """Return the key of the time that targets look at: the work of a CPU that others may use too, else the clock."""
    return "cpu_seconds" if device == "cpu" else "seconds"


def save(name: str, args: argparse.Namespace, **results: Any) -> None:
    """Print the results and write them to `name`.json in the folder of `args`."""
    settings = {key: value for key, value in vars(args).items() if key != "out"}
    content = {"settings": settings, "machine": _machine(args), "torch": torch.__version__, **results}
    text = json.dumps(content, indent=1, default=str)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{name}.json").write_text(text + "\n")
    print(text)


def _machine(args: argparse.Namespace) -> str:
    if args.device.startswith("cuda"):
        return torch.cuda.get_device_name(args.device)
    return f"{args.threads} {'core' if args.threads == 1 else 'cores'}, {platform.machine()}, CPU"
