"""Hiera-L at 512 on a GPU: forward passes, several tasks, a volume, training steps, beside the run's compute floor.

    python -m benchmarks.gpu_speed --out OUT [--dry --device cpu]

Each measurement goes into OUT/speed.json as soon as it is there, the most wanted first. One that fails says so.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.floor import multiply_adds, product_rate
from benchmarks.naive import NaiveTPSeg
from benchmarks.speed_training import build
from benchmarks.timing import network
from monai_tpseg.inferers import TaskInferer

STEPS = ("network_bf16", "network_bf16_compiled", "network", "network_bf16_checkpointed")


class Speed:
    """What is measured."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.cuda = args, args.device.startswith("cuda")
        self.net = network(args.backbone, 8, args.device)
        self.found: dict[str, Any] = {"settings": {**vars(args), "out": ""}, "torch": torch.__version__}

    def measurements(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Names, and what gives their values."""
        args, net = self.args, self.net
        image = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
        one = image[:1]
        kinds = ("bfloat16", "float32", *(("float16",) if self.cuda else ()))
        fast = {name: net.optimize_for_inference(dtype=getattr(torch, name)) for name in kinds}
        twin, half = NaiveTPSeg(net), copy.deepcopy(net.encoder.trunk).bfloat16()
        size = 512 if args.dry else 8192
        yield "rate_bf16", lambda: product_rate(args.device, torch.bfloat16, size)
        yield "multiply_adds", lambda: multiply_adds(lambda: net(image, 0))
        if not args.dry:
            compiled = net.optimize_for_inference(dtype=torch.bfloat16, compile=True)
            yield "forward_bf16_compiled", lambda: self.timed(lambda: compiled(image, 0))
        for name, form in fast.items():
            yield f"forward_{name}", lambda form=form: self.timed(lambda: form(image, 0))
            yield f"forward_{name}_one_picture", lambda form=form: self.timed(lambda: form(one, 0))
        yield "twin_float32", lambda: self.timed(lambda: twin(image, 0))
        yield "plain_float32", lambda: self.timed(lambda: net(image, 0))
        yield "trunk_bf16", lambda: self.timed(lambda: half(image.bfloat16()))
        yield "eight_tasks", lambda: self.timed(lambda: fast["bfloat16"].segment_tasks(one, range(8)))
        yield "eight_calls", lambda: self.timed(lambda: [fast["bfloat16"](one, row) for row in range(8)])
        volume = torch.randn(1, 3, args.size, args.size, 4 if args.dry else 300)
        inferer = TaskInferer(args.size, device=args.device, slice_batch=args.batch)
        yield "volume", lambda: self.timed(lambda: inferer(volume, fast["bfloat16"], task=0), rounds=1)

    def steps(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Training steps, each with a network of its own."""
        for name in STEPS:
            if self.args.dry and "compiled" in name:
                continue
            options = argparse.Namespace(**{**vars(self.args), "batch": self.args.train_batch})
            yield f"step_{name}", lambda name=name, options=options: self.timed(build(name, options))

    def timed(self, run: Callable[[], Any], rounds: int | None = None) -> dict[str, float]:
        """Median seconds, and the peak of the device's memory."""
        run()
        self.wait()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(rounds or self.args.rounds):
            began = time.perf_counter()
            run()
            self.wait()
            seconds.append(time.perf_counter() - began)
        peak = {"peak_mib": torch.cuda.max_memory_allocated() / 2**20} if self.cuda else {}
        return {"seconds": statistics.median(seconds), "least_seconds": min(seconds), **peak}

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.cuda:
            torch.cuda.synchronize()

    def take(self, measurements: Iterator[tuple[str, Callable[[], Any]]], until: float) -> bool:
        """Measure until the clock says `until`; return whether all worked."""
        good = True
        for name, measure in measurements:
            if time.monotonic() > until:
                self.found[name] = {"error": "no time left"}
                good = False
            else:
                try:
                    self.found[name] = measure()
                except Exception as error:  # memory, mostly: the next one is smaller
                    self.found[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
                    good = False
                    if self.cuda:
                        torch.cuda.empty_cache()
            print(name, self.found[name], flush=True)
            (self.args.out / "speed.json").write_text(json.dumps(self.found, indent=1) + "\n")
        return good

    def over_the_floor(self) -> None:
        """Say how many times the compute floor the forward passes take."""
        rate, work = self.found.get("rate_bf16"), self.found.get("multiply_adds")
        if not isinstance(rate, float) or not isinstance(work, float):
            return  # one of them failed, and says so
        self.found["floor_seconds"] = floor = work / rate
        passes = {name: self.found.get(name, {}) for name in ("forward_bfloat16", "forward_bf16_compiled")}
        self.found["over_the_floor"] = {name: p["seconds"] / floor for name, p in passes.items() if "seconds" in p}
        (self.args.out / "speed.json").write_text(json.dumps(self.found, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dry", action="store_true", help="the smallest network, one picture of 64 pixels")
    parser.add_argument("--seconds", type=float, default=160, help="no measurement begins later (160)")
    parser.set_defaults(backbone="hiera_large", size=512, batch=16, train_batch=8, rounds=5)
    args = parser.parse_args()
    if args.dry:
        args.backbone, args.size, args.batch, args.train_batch, args.rounds = "hiera_demo", 64, 2, 2, 1
    until = time.monotonic() + args.seconds
    speed = Speed(args)
    with torch.inference_mode():
        good = speed.take(speed.measurements(), until)
    speed.over_the_floor()
    del speed.net
    return int(not (speed.take(speed.steps(), until) and good))


if __name__ == "__main__":
    raise SystemExit(main())
