"""One image, one task: the network for inference beside the naive twin and beside the bare encoder.

    python -m benchmarks.speed_inference
    python -m benchmarks.speed_inference --batch 1 --name inference_one
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python -m benchmarks.speed_inference --fp32 --name inference_avx2
    python -m benchmarks.speed_inference --device cuda --batch 16 --compile

The two variables give what a processor without AVX-512 and without bf16 does, where bf16 is emulated: --fp32 leaves it
out there.
The bare encoder is the trunk of the `sam2` package as it is, without adapters or decoder: the least that any network on
this trunk takes. `twin` is `benchmarks/naive.py`. Same weights and images for all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.floor import compute_floor
from benchmarks.naive import NaiveTPSeg
from benchmarks.timing import arguments, interleave, network, save, target, unit

RATIOS = {
    "twin fp32 / network bf16": ("twin_fp32", "network_bf16"),
    "twin bf16 autocast / network bf16": ("twin_autocast", "network_bf16"),
    "network bf16 / bare encoder bf16": ("network_bf16", "encoder_bf16"),
    "twin fp32 / network fp32": ("twin_fp32", "network_fp32"),
    "network fp32 / bare encoder fp32": ("network_fp32", "encoder_fp32"),
    "network as trained fp32 / network fp32": ("plain_fp32", "network_fp32"),
}
CPU_LIMITS: dict[str, tuple[float, float | None, bool]] = {  # target, stretch, whether they are upper limits
    "twin fp32 / network bf16": (2.6, 3.0, False),
    "twin bf16 autocast / network bf16": (1.6, 1.8, False),
    "network bf16 / bare encoder bf16": (1.4, 1.25, True),
    "twin fp32 / network fp32": (1.0, None, False),
    "network as trained fp32 / network fp32": (1.0, None, False),
}
GPU_LIMITS: dict[str, tuple[float, float | None, bool]] = {"twin fp32 / network bf16": (6.0, None, False)}


@torch.inference_mode()
def main() -> None:
    parser = arguments(str(__doc__), rounds=4)
    parser.add_argument("--compile", action="store_true", help="compile the parts of the network for inference")
    parser.add_argument("--fp32", action="store_true", help="leave bf16 out")
    parser.add_argument("--name", default="inference", help="of the JSON file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    net = network(args.backbone, device=args.device)
    image = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    half, twin = image.bfloat16(), NaiveTPSeg(net)
    fast = {d: net.optimize_for_inference(0, getattr(torch, d), args.compile) for d in ("float32", "bfloat16")}
    trunk, trunk_half = net.encoder.trunk, copy.deepcopy(net.encoder.trunk).bfloat16()

    def autocast() -> Any:
        with torch.autocast(torch.device(args.device).type, torch.bfloat16):
            return twin(image, 0)

    candidates: dict[str, Callable[[], Any]] = {
        "twin_fp32": lambda: twin(image, 0),
        "twin_autocast": autocast,
        "plain_fp32": lambda: net(image, 0),
        "network_fp32": lambda: fast["float32"](image, 0),
        "network_bf16": lambda: fast["bfloat16"](image, 0),
        "encoder_fp32": lambda: trunk(image),
        "encoder_bf16": lambda: trunk_half(half),
    }
    if args.fp32:
        candidates = {name: run for name, run in candidates.items() if name.endswith("_fp32")}
    times = interleave(candidates, args.rounds, args.device)
    exact = candidates["twin_fp32"]()
    others = [name for name in candidates if name != "twin_fp32" and not name.startswith("encoder")]
    errors = {name: float((candidates[name]() - exact).abs().max() / exact.abs().max()) for name in others}
    ratios = {
        name: {key: times[a][key] / times[b][key] for key in ("seconds", "least_seconds", "cpu_seconds")}
        for name, (a, b) in RATIOS.items()
        if a in times and b in times
    }
    limits = CPU_LIMITS if args.device == "cpu" else GPU_LIMITS
    targets = [
        target(name, ratios[name][unit(args.device)], *limit) for name, limit in limits.items() if name in ratios
    ]
    targets.append(target("largest relative error of network fp32", errors["network_fp32"], 1e-4, most=True))
    results: dict[str, Any] = {
        "times": times,
        "ratios": ratios,
        "relative_errors": errors,
        "operations": operations(candidates),
    }
    if args.device == "cpu":
        results["product_seconds"] = compute_floor(candidates["network_fp32"], "cpu", torch.float32, 2048)
        share = results["product_seconds"] / times["network_fp32"]["least_seconds"]
        targets.append(target("network fp32, share of the rate of torch.mm", share, 0.85))
    else:
        results["floor_seconds"] = compute_floor(candidates["plain_fp32"], args.device, torch.bfloat16)
        over = times["network_bf16"]["seconds"] / results["floor_seconds"]
        targets.append(target("network bf16 over the compute floor", over, 2.5, most=True))
    save(args.name, args, targets=targets, **results)


def operations(candidates: dict[str, Callable[[], Any]]) -> dict[str, dict[str, float]]:
    """Return the share of each operation in the time of the network and of the bare encoder, of bf16 where it is."""
    shares = {}
    kind = "bf16" if "network_bf16" in candidates else "fp32"
    for name in (f"network_{kind}", f"encoder_{kind}"):
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            candidates[name]()
        rows = {
            e.key: e.self_cpu_time_total for e in profiled.key_averages() if e.key.startswith(("aten::", "mkldnn::"))
        }
        total = sum(rows.values())
        shares[name] = {k: v / total for k, v in sorted(rows.items(), key=lambda row: -row[1]) if v > 0.01 * total}
    return shares


if __name__ == "__main__":
    main()
