"""The steps of a first day on a GPU, each a process of its own within a share of the time; see `gpu_day.sh`.

    python -m benchmarks.gpu_day OUT [--dry] [--data DIR] [--budget SECONDS]

OUT/day.json says after each step how it ended; smoke.json, speed.json and train_*.json hold what it found, OUT/*.log
what it said. A step that fails or runs out of time costs nothing but itself; the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.timing import ROOT
from monai_tpseg.testing.phantoms import write_dataset


class Step(NamedTuple):
    """A step: module of `benchmarks`, its words, and the second of the day by which it must have ended, a share."""

    name: str
    module: str
    words: list[str]
    until: float


def steps(out: Path, data: Path, dry: bool) -> list[Step]:
    """Return what is to be done, the most important first."""
    device = ["--device", "cpu" if dry else "cuda"]
    train = [*device, "--data", str(data), "--out", str(out), *(["--dry"] if dry else [])]
    return [
        Step("smoke", "gpu_smoke", [*device, "--out", str(out), *(["--no-compile"] if dry else [])], 0.22),
        Step("speed", "gpu_speed", [*device, "--out", str(out), *(["--dry"] if dry else [])], 0.5),
        Step("train_tpseg", "gpu_training", ["tpseg", *train], 0.76),
        Step("train_unet", "gpu_training", ["unet", *train], 1.0),
    ]


def run(step: Step, seconds: float, out: Path) -> dict[str, Any]:
    """Run a step within `seconds`, which it is told; return how it ended."""
    began = time.monotonic()
    words = [sys.executable, "-m", f"benchmarks.{step.module}", *step.words, "--seconds", f"{seconds:.0f}"]
    with (out / f"{step.name}.log").open("wb") as log:
        try:
            done = subprocess.run(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=seconds, check=False)
            status: int | str = done.returncode
        except subprocess.TimeoutExpired:
            status = "out of time"
    return {"status": status, "seconds": round(time.monotonic() - began, 1), "limit": round(seconds, 1)}


def machine(dry: bool) -> dict[str, Any]:
    """What the figures hold for."""
    device = f"{os.cpu_count()} cores, {platform.machine()}, CPU" if dry else torch.cuda.get_device_name()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    return {"device": device, "dry": dry, **versions}


def main(argv: list[str] | None = None) -> int:
    """Run the day; return 1 where a step failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of what is found")
    parser.add_argument("--dry", action="store_true", help="small, and on a CPU")
    parser.add_argument("--data", type=Path, default=os.environ.get("DATA"), help="pictures of small_pictures.py")
    parser.add_argument(
        "--budget", type=float, default=float(os.environ.get("BUDGET", 570)), help="seconds in all (570)"
    )
    args = parser.parse_args(argv)
    if not args.dry and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here; --dry runs the same steps, small, on a CPU.")
    began, out = time.monotonic(), args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    data = args.data or out / "phantoms"
    if args.data is None:
        training, validation, size = (4, 2, 64) if args.dry else (200, 25, 256)
        write_dataset(data, train_per_task=training, val_per_task=validation, size=size)
    day: dict[str, Any] = {**machine(args.dry), "data": "phantoms" if args.data is None else "pictures", "steps": {}}
    for step in steps(out, data, args.dry):
        left = args.budget * step.until - (time.monotonic() - began)
        day["steps"][step.name] = run(step, left, out) if left > 0 else {"status": "no time left"}
        (out / "day.json").write_text(json.dumps(day, indent=1) + "\n")
        print(step.name, day["steps"][step.name], flush=True)
    return int(any(step["status"] != 0 for step in day["steps"].values()))


if __name__ == "__main__":
    sys.exit(main())
