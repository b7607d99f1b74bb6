"""What K-Prism costs: a click against encoding, fused against looped experts, memory against rounds. Writes JSON.

Each ratio comes from one run in which both sides take turns; the median of their times counts. Memory is the peak of a
process of its own for each number of rounds (of the device's allocator on a GPU).

    python -m benchmarks.kprism_speed --size 192 --out docs/results/kprism_speed.json
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.losses import DiceCELoss
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.kprism_naive import NaiveMixtureAttention
from benchmarks.logs import write_log
from monai_tpseg.engines import train_rounds
from monai_tpseg.losses import DeepSupervisionLoss
from monai_tpseg.networks import KPrism, Prompt, kprism_net
from monai_tpseg.networks.kprism import MixtureAttention


def interleaved(sides: dict[str, Callable[[], Any]], repeats: int, device: torch.device) -> dict[str, float]:
    """Return the median time of each side in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(repeats + 1):
        for name, run in sides.items():
            start = _now(device)
            run()
            if i:  # the first turn warms up
                times[name].append((_now(device) - start) * 1000)
    return {name: round(statistics.median(t), 2) for name, t in times.items()}


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def prompts(size: int, device: torch.device, clicks: int = 1) -> dict[str, Prompt]:
    """A class, a click with the mask before it, and one exemplar."""
    torch.manual_seed(0)
    place = torch.randint(0, size, (1, clicks, 2)).float()
    points = torch.cat([place, torch.ones(1, clicks, 1)], dim=2).to(device)
    mask = torch.randn(1, 1, size, size, device=device)
    image = torch.randn(1, 1, 3, size, size, device=device)
    shown = {"exemplar_image": image, "exemplar_label": (image[:, :, :1] > 0).float()}
    return {"class": Prompt(task=0), "click": Prompt(clicks=points, previous_logits=mask), "exemplar": Prompt(**shown)}


@torch.no_grad()
def clicks_against_encoding(net: KPrism, size: int, repeats: int, device: torch.device) -> dict[str, Any]:
    """Time of encoding an image and of each kind of prompt on the encoded image."""
    net.eval()
    image = torch.randn(1, 3, size, size, device=device)
    state, given = net.encode(image), prompts(size, device)
    memory = net.remember(given["exemplar"].exemplar_image, given["exemplar"].exemplar_label)  # type: ignore[arg-type]
    sides: dict[str, Callable[[], Any]] = {
        "encode": lambda: net.encode(image),
        "decode a class": lambda: net.decode(state, given["class"]),
        "decode a click": lambda: net.decode(state, given["click"]),
        "decode an exemplar": lambda: net.decode(state, given["exemplar"]),
        "decode a remembered exemplar": lambda: net.decode(state, Prompt(), memory),
        "click without encoding once": lambda: net(image, given["click"]),
    }
    times = interleaved(sides, repeats, device)
    ratio = times["click without encoding once"] / times["decode a click"]
    return {"ms": times, "a click is faster by encoding once": round(ratio, 2)}


@torch.no_grad()
def experts(size: int, queries: int, repeats: int, device: torch.device) -> dict[str, Any]:
    """Both directions of the mixture at stride 4, all experts in a loop against the fused form."""
    torch.manual_seed(0)
    fused = MixtureAttention(256).to(device)
    naive = NaiveMixtureAttention(fused).to(device)
    pixels, few = (size // 4) ** 2, torch.randn(1, queries, 256, device=device)
    many, place = (torch.randn(1, pixels, 256, device=device) for _ in range(2))
    both: dict[str, Callable[[], Any]] = {}
    for name, module in (("loop", naive), ("fused", fused)):
        both[name] = lambda module=module: (module(few, many, few, place), module(many, few, place, few))
    pairs = zip(both["loop"](), both["fused"](), strict=True)
    error = max(float((slow - fast).abs().max()) for slow, fast in pairs)
    times = interleaved(both, repeats, device)
    ratio = round(times["loop"] / times["fused"], 2)
    return {"queries": queries, "pixels": pixels, "ms": times, "ratio": ratio, "largest difference": error}


def multiply_adds(size: int = 512, queries: int = 2) -> dict[str, float]:
    """Billions of multiply-adds of the paper's network, counted without computing; the same on every machine."""

    def count(run: Callable[[], Any]) -> tuple[float, Any]:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            result = run()
        return counter.get_total_flops() / 2e9, result

    with torch.device("meta"):
        net = kprism_net("utnet", 33).eval()
        image, task = torch.zeros(1, 3, size, size), torch.zeros(1, dtype=torch.long)
        encode, state = count(lambda: net.encode(image))
        decode, _ = count(lambda: net.decode(state, Prompt(task=task)))
        fused = MixtureAttention(256)
        forms = {"experts, fused": fused, "experts, in a loop": NaiveMixtureAttention(fused)}
        total = dict.fromkeys(forms, 0.0)
        for stride in (16, 8, 4):
            few, many = torch.zeros(1, queries, 256), torch.zeros(1, (size // stride) ** 2, 256)
            for name, form in forms.items():
                both = [(few, many, few, many), (many, few, many, few)]
                total[name] += 2 * sum(count(lambda form=form, given=given: form(*given))[0] for given in both)
    return {k: round(v, 1) for k, v in {"encode": encode, "decode a class": decode, **total}.items()}


def peak_memory(backbone: str, size: int, rounds: int, device: torch.device) -> float:
    """Peak memory of one training iteration, in MiB."""
    torch.manual_seed(0)
    net = kprism_net(backbone, 8).to(device).train()
    image, label = torch.randn(1, 3, size, size, device=device), torch.zeros(1, 1, size, size, device=device)
    label[..., size // 4 : size // 2, size // 4 : size // 2] = 1
    loss = DeepSupervisionLoss(DiceCELoss(sigmoid=True), outputs=len(net.decoder.layers) - 1)
    train_rounds(net, image, label, Prompt(task=0), loss, rounds=rounds)
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)


def memory_against_rounds(args: argparse.Namespace) -> dict[str, Any]:
    """Run `peak_memory` in a process of its own for each number of rounds."""
    peaks = {}
    for rounds in (1, 3, 6):
        command = [sys.executable, __file__, "--peak", str(rounds), "--backbone", args.backbone]
        command += ["--size", str(args.size), "--device", args.device]
        peaks[rounds] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"MiB": peaks, "6 rounds / 1 round": round(peaks[6] / peaks[1], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backbone", default="utnet")
    parser.add_argument("--size", type=int, default=192, help="side of the image, pixels (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--machine", default="2 cores, x86_64, CPU", help="what the JSON says of the machine")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.peak:
        print(peak_memory(args.backbone, args.size, args.peak, device))
        return
    net = kprism_net(args.backbone, 8).to(device)
    result = {
        "machine": args.machine,
        "torch": torch.__version__.split("+")[0],
        "threads": torch.get_num_threads(),
        "backbone": args.backbone,
        "size": args.size,
        "billions of multiply-adds, utnet at 512": multiply_adds(),
        "encode and decode": clicks_against_encoding(net, args.size, args.repeats, device),
        "experts": [experts(args.size, queries, args.repeats, device) for queries in (2, 6, 12)],
        "training memory": memory_against_rounds(args),
    }
    write_log(result, args.out, indent=2)


if __name__ == "__main__":
    main()
