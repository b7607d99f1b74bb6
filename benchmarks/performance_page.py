"""Write docs/performance.md from the JSON files that the speed benchmarks leave in docs/performance.

python -m benchmarks.performance_page
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from benchmarks.timing import RESULTS, ROOT

PAGE = ROOT / "docs" / "performance.md"
HEAD = """\
# Performance

Written by `benchmarks/performance_page.py` from the files in `docs/performance`, each of which one script under
`benchmarks/` makes. All candidates of a script run in turn in one process; ratios are of medians. "CPU" ratios are of
the CPU time of all threads, which other programs of the machine hardly change, "wall" ratios of the time that passes.
The naive twin (`benchmarks/naive.py`) computes sample by sample as the equations are written, and as the released code
does. What the network for inference does differently: [deployment.md](deployment.md).
"""
KEYS = ("seconds", "cpu_seconds")
NAMES = {
    "twin_fp32": "naive twin, float32",
    "twin_autocast": "naive twin, bf16 autocast",
    "plain_autocast": "network as trained, bf16 autocast",
    "plain_fp32": "network as trained, float32",
    "network_fp32": "network for inference, float32",
    "network_bf16": "network for inference, bf16",
    "encoder_fp32": "bare SAM 2 trunk, float32",
    "encoder_bf16": "bare SAM 2 trunk, bf16",
    "twin": "naive twin, float32",
    "network": "network, float32",
    "network_checkpointed": "network, float32, checkpointed",
    "network_bf16_checkpointed": "network, bf16, checkpointed",
}
TARGETS = {
    "twin fp32 / network bf16": "at least 2.6",
    "twin bf16 autocast / network bf16": "at least 1.6",
    "network bf16 / bare encoder bf16": "at most 1.4",
    "twin fp32 / network fp32": "at least 1.0",
    "network fp32 / bare encoder fp32": "",
}


def text(*lines: str) -> str:
    """Return lines as one text."""
    return "\n".join(lines)


def made_by(script: str, r: dict[str, Any]) -> str:
    """Return the line below a heading."""
    s = r["settings"]
    trunk = f"{s['backbone']}, {s['size']} x {s['size']}, batch {s['batch']}"
    return f"\n`python -m benchmarks.{script}`: {trunk}, {r['machine']}, PyTorch {r['torch'].split('+')[0]}.\n"


def operations(shares: dict[str, float]) -> str:
    """Return the shares of operations as text."""
    return ", ".join(f"{name.removeprefix('aten::')} {share:.0%}" for name, share in shares.items())


def inference(r: dict[str, Any]) -> str:
    """One task."""
    times, ratios = r["times"].items(), r["ratios"].items()
    errors = ", ".join(f"{NAMES[name]} {error:.1g}" for name, error in r["relative_errors"].items())
    return text(
        "## One image, one task",
        made_by("speed_inference", r),
        "| | seconds | CPU seconds |\n|---|---|---|",
        *(f"| {NAMES[name]} | {t['seconds']:.2f} | {t['cpu_seconds']:.2f} |" for name, t in times),
        "\n| ratio | wall | CPU | target |\n|---|---|---|---|",
        *(f"| {name} | {v['seconds']:.2f} | {v['cpu_seconds']:.2f} | {TARGETS[name]} |" for name, v in ratios),
        f"\nLargest difference from the twin in float32, of the largest logit: {errors}.",
        *(f"\nWhere the time goes, {NAMES[name]}: {operations(shares)}." for name, shares in r["operations"].items()),
    )


def tasks(r: dict[str, Any]) -> str:
    """Several tasks on one image."""
    count = r["settings"]["tasks"]
    rows = [(p["shared_blocks"], p["multiply_adds"], *(p["measured"][k] for k in KEYS)) for p in r["curve"]]
    return text(
        "## Several tasks on one image",
        made_by("speed_tasks", r),
        f"{count} tasks with `segment_tasks`, in calls for one task; separate calls are {count}. Target: within 15 %",
        "of the multiply-adds, which PyTorch counts while the same code runs.\n",
        "| blocks before the split | multiply-adds | wall | CPU | CPU to multiply-adds |\n|---|---|---|---|---|",
        *(f"| {n} | {macs:.1f} | {wall:.1f} | {cpu:.1f} | {cpu / macs - 1:+.0%} |" for n, macs, wall, cpu in rows),
        "\n![Cost over the split position](performance/tasks.png)",
    )


def training(r: dict[str, Any]) -> str:
    """One training step."""
    twin = r["times"]["twin"]["cpu_seconds"]
    names = NAMES | {"network_bf16": "network, bf16"}
    rows = [(names[n], *(t[k] for k in KEYS), r["peak_mib"][n]) for n, t in r["times"].items()]
    return text(
        "## A training step",
        made_by("speed_training", r),
        "Frozen trunk, mixed tasks; forward, loss, backward, optimiser. Targets: 1.8 times the twin's speed; half of",
        "its memory with checkpointing.\n",
        "| | seconds | CPU seconds | peak MiB | twin's CPU time over it |\n|---|---|---|---|---|",
        *(f"| {name} | {wall:.2f} | {cpu:.2f} | {peak:.0f} | {twin / cpu:.2f} |" for name, wall, cpu, peak in rows),
        f"\nWhere the time goes, bf16: {operations(r['operations'])}.",
    )


def volume(r: dict[str, Any]) -> str:
    """Volumes."""
    share = r["network_share"]["cpu_seconds"]
    return text(
        "## Volumes",
        made_by("speed_volume", r),
        f"{r['slices_a_second']:.1f} slices a second; {share:.0%} of the CPU time is the network's.\n",
        "| slices | slices that run together | peak MiB |\n|---|---|---|",
        *(f"| {m['slices']} | {m['slice_batch']} | {m['peak_mib']:.0f} |" for m in r["memory"]),
    )


def scaling(r: dict[str, Any]) -> str:
    """Scaling."""
    figure = "![CPU time over batch, size and tasks](performance/scaling.png)"
    return text("## Batch, size, tasks", made_by("speed_scaling", r), figure)


def start(r: dict[str, Any]) -> str:
    """Start-up."""
    rows = [f"| {name.replace('_', ' ')} | {seconds:.1f} |" for name, seconds in r["seconds"].items()]
    return text("## Start", made_by("speed_start", r), "| | seconds |\n|---|---|", *rows)


def masks(r: dict[str, Any]) -> str:
    """Masks of bf16."""
    rows = [(NAMES[name], *(d[k] for k in ("pooled", "median", "mean", "least"))) for name, d in r["dice"].items()]
    return text(
        "## Masks of bf16",
        "\n`python -m benchmarks.speed_masks --checkpoint run/model.pt --dataset_dir DATA`\n",
        "Dice between the masks of float32 and those of bf16 over the validation cases of a trained model",
        f"({r['cases']} cases; {r['model']}). Target: 0.998.\n",
        "| | pooled over all pixels | median | mean | least |\n|---|---|---|---|---|",
        *(f"| {n} | {pooled:.4f} | {median:.4f} | {mean:.4f} | {low:.2f} |" for n, pooled, median, mean, low in rows),
    )


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "inference": inference,
    "tasks": tasks,
    "training": training,
    "volume": volume,
    "scaling": scaling,
    "start": start,
    "masks": masks,
}


def main() -> None:
    parts = [HEAD]
    for name, section in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            parts.append(section(json.loads(path.read_text())) + "\n")
        else:
            parts.append(f"`benchmarks/speed_{name}.py` has not been run for this page.\n")
    parts.append("No figure here is of a GPU: the scripts take `--device cuda`, and wait to be run on one.\n")
    PAGE.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
