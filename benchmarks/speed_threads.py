"""Threads where there are fewer cores than the machine has: bound to one core, a quota of one, beside another program.

    python -m benchmarks.speed_threads

A training step of the smallest network, and `tpseg run` over small studies, each in a process of its own: on a free
machine, inside `taskset -c 0`, in a control group with the time of one core, and twice at once. Each with as many
threads as the package chooses, and with one for every core of the machine. Rounds are interleaved; ratios are of
medians. A control group needs the right to make one (root); without it the row is left out, and the result says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.studies import start, write_weights
from benchmarks.timing import ROOT, arguments, save
from monai_tpseg.testing.phantoms.studies import write_studies

_VERSION_1, _VERSION_2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
_PERIOD = 100_000  # microseconds


def child_step(steps: int) -> None:
    """Print the median seconds of a training step, with the threads that the package chooses."""
    import torch

    from benchmarks.speed_training import build
    from monai_tpseg.cores import fit_threads

    fit_threads()
    step = build("network", argparse.Namespace(backbone="hiera_demo", device="cpu", batch=4, size=128))
    step()
    seconds = []
    for _ in range(steps):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": statistics.median(seconds), "threads": torch.get_num_threads()}))


@contextmanager
def quota(cores: float) -> Iterator[list[str] | None]:
    """Give the words that start a command in a control group with the time of `cores`; None where none can be made."""
    first = _VERSION_1 if (_VERSION_1 / "cpu.cfs_period_us").exists() else _VERSION_2
    group = first / f"tpseg-benchmark-{os.getpid()}"
    try:
        group.mkdir()
        if first is _VERSION_1:
            (group / "cpu.cfs_quota_us").write_text(str(int(cores * _PERIOD)))
        else:
            (group / "cpu.max").write_text(f"{int(cores * _PERIOD)} {_PERIOD}")
    except OSError as error:
        print(f"No control group: {error}", file=sys.stderr)
        yield None
        return
    try:
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        group.rmdir()


def together(command: list[str], processes: int, environment: dict[str, str]) -> list[dict[str, Any]]:
    """Run a command several times at once; return what each printed as JSON."""
    options: dict[str, Any] = {"env": environment, "cwd": ROOT, "text": True, "stdout": subprocess.PIPE}
    running = [subprocess.Popen(command, **options) for _ in range(processes)]
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError(f"{' '.join(command)} ended with {[process.returncode for process in running]}.")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def child_studies(folder: Path) -> None:
    """Print the seconds of a run over the studies of `folder`; its exit status 3 says that broken ones failed."""
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        process = start(folder / "tree", Path(out) / "out", folder / "a.pt")
        if process.wait() not in (0, 3):
            raise SystemExit(f"tpseg run ended with {process.returncode}.")
        print(json.dumps({"seconds": time.perf_counter() - began}))


def main() -> None:
    parser = arguments(str(__doc__), rounds=3)
    parser.add_argument("--studies", type=int, default=30)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a process")
    parser.add_argument("--child", choices=("step", "studies"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child == "step":
        child_step(args.steps)
        return
    if args.child == "studies":
        child_studies(args.folder)
        return
    with tempfile.TemporaryDirectory() as folder, quota(1) as limited:
        write_studies(Path(folder) / "tree", args.studies, 0, 64)
        write_weights(Path(folder) / "a.pt", 0)
        result = measure(args, folder, limited)
    save("threads", args, **result)


def measure(args: argparse.Namespace, folder: str, limited: list[str] | None) -> dict[str, Any]:
    """Run every place, work and number of threads in turn."""
    places: dict[str, tuple[list[str], int]] = {"free": ([], 1), "beside": ([], 2)}
    if shutil.which("taskset"):
        places["bound"] = (["taskset", "-c", "0"], 1)
    if limited is not None:
        places["quota"] = (limited, 1)
    free = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    settings = {"chosen": free, "machine": {**free, "OMP_NUM_THREADS": str(os.cpu_count())}}
    settings["one"] = {**free, "OMP_NUM_THREADS": "1"}
    python = [sys.executable, "-m", "benchmarks.speed_threads", "--folder", folder, "--steps", str(args.steps)]
    seconds: dict[str, list[float]] = {}
    threads: dict[str, int] = {}
    for _ in range(args.rounds):
        for work in ("step", "studies"):
            for place, (words, processes) in places.items():
                for name, environment in settings.items():
                    found = together([*words, *python, "--child", work], processes, environment)
                    key = f"{work} {place} {name}"
                    seconds.setdefault(key, []).extend(one["seconds"] for one in found)
                    threads.update((key, one["threads"]) for one in found if "threads" in one)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    about = {"quota_measured": limited is not None, "load": os.getloadavg()[0]}
    return {**about, "seconds": medians, "threads": threads}


if __name__ == "__main__":
    main()
