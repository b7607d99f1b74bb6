"""Two programs that compute at once on the same cores, by how their threads wait for each other.

    python -m benchmarks.speed_waiting

Threads of OpenMP that have nothing to do spin before they sleep, so that the next piece of work starts sooner. Where
another program wants the core, the spinning takes it away from those that are waited for. Each way to wait runs with
one process, and with two at once, in turn; wall and CPU seconds of a process for its pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.timing import ROOT, arguments, network, save

WAYS: dict[str, dict[str, str]] = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "as PyTorch comes": {},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
}
PLACES = {"alone": 1, "beside": 2}


def child(rounds: int, size: int) -> None:
    """Compute when a line comes in, and print the wall and CPU seconds of each round; a line ends the process."""
    net = network("hiera_demo")
    image, task = torch.rand(1, 3, size, size), torch.tensor([1])
    with torch.inference_mode():
        net(image, task)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for _ in sys.stdin:
            began, worked = time.perf_counter(), time.process_time()
            for _ in range(rounds):
                net(image, task)
            seconds = time.perf_counter() - began, time.process_time() - worked
            sys.stdout.write(json.dumps(seconds) + "\n")
            sys.stdout.flush()


def main() -> None:
    parser = arguments(str(__doc__), backbone="hiera_demo", size=128, batch=1, rounds=5, threads=os.cpu_count() or 1)
    parser.add_argument("--pictures", type=int, default=20, help="of each process in a round")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.pictures, args.size)
        return
    command = [sys.executable, "-m", "benchmarks.speed_waiting", "--child"]
    command += ["--pictures", str(args.pictures), "--size", str(args.size)]
    free = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    pairs = {
        way: [subprocess.Popen(command, env={**free, "OMP_NUM_THREADS": str(args.threads), **more}, **pipes)  # type: ignore[call-overload]
              for _ in range(2)]
        for way, more in WAYS.items()
    }  # fmt: skip
    for pair in pairs.values():
        for process in pair:
            process.stdout.readline()
    found: dict[str, list[list[float]]] = {f"{way} {place}": [] for way in pairs for place in PLACES}
    for _ in range(args.rounds):
        for way, pair in pairs.items():
            for place, count in PLACES.items():
                for process in pair[:count]:
                    process.stdin.write("go\n")
                    process.stdin.flush()
                found[f"{way} {place}"] += [json.loads(process.stdout.readline()) for process in pair[:count]]
    for pair in pairs.values():
        for process in pair:
            process.communicate()
    times = {
        key: dict(zip(("seconds", "cpu_seconds"), map(statistics.median, zip(*seconds, strict=True)), strict=True))
        for key, seconds in found.items()
    }
    save("waiting", args, load=os.getloadavg()[0], times=times)


if __name__ == "__main__":
    main()
