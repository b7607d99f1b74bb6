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

In training, on a CPU, the network differs from the twin in this: a batch of tasks is one product, never a loop over
samples; float32 products and bf16 attention take the kernels that are fastest there (`monai_tpseg.networks.kernels`);
windows that reach beyond the map are not filled up (`monai_tpseg.networks.hiera_block`); inputs of frozen layers are
not kept. The bundle's options are `amp`, `channels_last`, `fused_optimizer`, `checkpoint_activations`, `compile`,
`cache_rate` and `cache_dir`: [bundle.md](bundle.md).
"""
WITHOUT_BF16 = """\
PyTorch and oneDNN were held to AVX2 (`ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2`), with `--fp32`: a desktop's
processor computes so. MKL, which computes the largest float32 products, obeys neither variable on all processors.
"""
OTHER_PROCESSORS = """\
Other runtimes have not been measured on a processor without bf16. ONNX Runtime and OpenVINO ask the processor itself
what it can do, and obey no variable, so that takes a machine of that kind.
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
}
STEPS = {
    "twin": "naive twin, float32",
    "network": "network, float32",
    "network_checkpointed": "network, float32, checkpointed",
    "network_bf16": "network, bf16",
    "network_bf16_checkpointed": "network, bf16, checkpointed",
}


def text(*lines: str) -> str:
    """Return lines as one text."""
    return "\n".join(lines)


def made_by(script: str, r: dict[str, Any]) -> str:
    """Return the line below a heading."""
    s = r["settings"]
    trunk = f"{s['backbone']}, {s['size']} x {s['size']}, batch {s['batch']}"
    return f"\n`python -m benchmarks.{script}`: {trunk}, {r['machine']}, PyTorch {r['torch'].split('+')[0]}.\n"


def operations(shares: dict[str, dict[str, float]], times: dict[str, Any], names: dict[str, str] = NAMES) -> list[str]:
    """Return the table of where the time goes: for each operation its milliseconds in each candidate."""
    most = next(iter(shares.values()))
    found = sorted({key for share in shares.values() for key in share}, key=lambda key: (-most.get(key, 0.0), key))
    lines = [
        "\nWhere the time goes, CPU milliseconds of each operation of some weight:\n",
        f"| operation | {' | '.join(names[candidate] for candidate in shares)} |\n|---|{'---|' * len(shares)}",
    ]
    for key in found:
        cells = [1000 * times[candidate]["cpu_seconds"] * share.get(key, 0.0) for candidate, share in shares.items()]
        lines.append(f"| {key.removeprefix('aten::')} | {' | '.join(f'{x:.0f}' if x else '' for x in cells)} |")
    return lines


def targets(r: dict[str, Any]) -> str:
    """Return the table of targets."""
    lines = ["\n| | measured | target | | stretch | |\n|---|---|---|---|---|---|"]
    for t in r["targets"]:
        stretch = f"{t['stretch']} | {verdict(t['stretch_met'])}" if "stretch" in t else "|"
        lines.append(f"| {t['name']} | {t['measured']:.4g} | {t['target']} | {verdict(t['met'])} | {stretch} |")
    return text(*lines)


def verdict(met: bool) -> str:
    """Return the word of the last column."""
    return "met" if met else "missed"


def inference(r: dict[str, Any]) -> str:
    """One task."""
    settings = r["settings"]
    kind = ", a processor without bf16" if settings.get("fp32") else ""
    times, ratios = r["times"].items(), r["ratios"].items()
    errors = ", ".join(f"{NAMES[name]} {error:.1g}" for name, error in r["relative_errors"].items())
    return text(
        f"## {'One image' if settings['batch'] == 1 else 'Two images'}, one task{kind}",
        made_by("speed_inference", r),
        *([WITHOUT_BF16] if kind else []),
        "| | seconds | CPU seconds |\n|---|---|---|",
        *(f"| {NAMES[name]} | {t['seconds']:.2f} | {t['cpu_seconds']:.2f} |" for name, t in times),
        "\n| ratio | wall | CPU |\n|---|---|---|",
        *(f"| {name} | {v['seconds']:.2f} | {v['cpu_seconds']:.2f} |" for name, v in ratios),
        targets(r),
        f"\nLargest difference from the twin in float32, of the largest logit: {errors}.",
        *operations(r["operations"], r["times"]),
    )


def tasks(r: dict[str, Any]) -> str:
    """Several tasks on one image."""
    count = r["settings"]["tasks"]
    rows = [(p["shared_blocks"], p["multiply_adds"], *(p["measured"][k] for k in KEYS)) for p in r["curve"]]
    return text(
        "## Several tasks on one image",
        made_by("speed_tasks", r),
        f"{count} tasks with `segment_tasks`, in calls for one task; separate calls are {count}. PyTorch counts the",
        "multiply-adds while the same code runs.\n",
        "| blocks before the split | multiply-adds | wall | CPU | CPU to multiply-adds |\n|---|---|---|---|---|",
        *(f"| {n} | {macs:.1f} | {wall:.1f} | {cpu:.1f} | {cpu / macs - 1:+.0%} |" for n, macs, wall, cpu in rows),
        targets(r),
        "\n![Cost over the split position](performance/tasks.png)",
    )


def training(r: dict[str, Any]) -> str:
    """One training step."""
    twin = r["times"]["twin"]["cpu_seconds"]
    rows = [(STEPS[n], *(t[k] for k in KEYS), r["peak_mib"][n]) for n, t in r["times"].items()]
    return text(
        "## A training step",
        made_by("speed_training", r),
        "Frozen trunk, mixed tasks; forward, loss, backward, optimiser.\n",
        "| | seconds | CPU seconds | peak MiB | twin's CPU time over it |\n|---|---|---|---|---|",
        *(f"| {name} | {wall:.2f} | {cpu:.2f} | {peak:.0f} | {twin / cpu:.2f} |" for name, wall, cpu, peak in rows),
        targets(r),
        *(f"\n{checkpointing(r, kind)}" for kind in ("network", "network_bf16")),
        *operations(r["operations"], r["times"], STEPS),
    )


def checkpointing(r: dict[str, Any], kind: str) -> str:
    """Return what `checkpoint_activations` costs and saves."""
    more = r["times"][f"{kind}_checkpointed"]["cpu_seconds"] / r["times"][kind]["cpu_seconds"] - 1
    less = 1 - r["peak_mib"][f"{kind}_checkpointed"] / r["peak_mib"][kind]
    return f"`checkpoint_activations`, {STEPS[kind]}: {more:.0%} more time, {less:.0%} less memory."


def volume(r: dict[str, Any]) -> str:
    """Volumes."""
    share = r["network_share"]["cpu_seconds"]
    return text(
        "## Volumes",
        made_by("speed_volume", r),
        f"{r['slices_a_second']:.1f} slices per second; {share:.0%} of the CPU time is the network's. `auto` runs",
        f"{r['slices_of_auto']} slices together within {r['memory_mb']:g} MiB.\n",
        "| slices | slices that run together | peak MiB |\n|---|---|---|",
        *(f"| {m['slices']} | {m['slice_batch']} | {m['peak_mib']:.0f} |" for m in r["memory"]),
        targets(r),
    )


def empty(r: dict[str, Any]) -> str:
    """Slices without tissue."""
    rows = [
        f"| {row['side'] ** 2:.1%} | {row['noise']:.0%} | {row['slices_lost']} of {r['cases']} "
        f"| {row['share_of_lesion_pixels_lost']:.1%} | {row['share_of_air_skipped']:.0%} |"
        for row in r["rows"]
    ]
    whole = r["volumes"]
    return text(
        "## Slices that `skip_empty` leaves out",
        "\n`python -m benchmarks.speed_empty --dataset_dir DATA --volumes VOLUME ...`\n",
        "Real MR and CT slices with a labelled lesion, each between two slices of air with noise. What is left out",
        "loses its mask: that is the whole error. The picture fills the slice, or is shrunk to a part of its area.\n",
        "| area of the picture | noise of the air, of the range | slices lost | lesion pixels lost | air left out |",
        "|---|---|---|---|---|",
        *rows,
        f"\nOf {whole['volumes']} real volumes as they are, {whole['run']} of {whole['slices']} slices run.",
    )


def scaling(r: dict[str, Any]) -> str:
    """Scaling."""
    figure = "![CPU time over batch, size and tasks](performance/scaling.png)"
    return text("## Batch, size, tasks", made_by("speed_scaling", r), figure)


def compiled(r: dict[str, Any]) -> str:
    """torch.compile."""
    names = {"step": "training step, bf16", "inference": "network for inference, bf16"}
    rows = [
        f"| {title} | {r['times'][name]['cpu_seconds']:.2f} | {r['times'][f'{name}_compiled']['cpu_seconds']:.2f} "
        f"| {r['gains'][name]['cpu_seconds']:.2f} | {r['first_call_seconds'][f'{name}_compiled']:.0f} |"
        for name, title in names.items()
    ]
    return text(
        "## `torch.compile`",
        made_by("speed_compile", r),
        "| | CPU seconds | compiled, CPU seconds | times as fast | seconds of the first call |\n|---|---|---|---|---|",
        *rows,
    )


def start(r: dict[str, Any]) -> str:
    """Start-up."""
    rows = [f"| {name.replace('_', ' ')} | {seconds:.1f} |" for name, seconds in r["seconds"].items()]
    names = {
        "nothing": "`python -c pass`",
        "help": "`tpseg --help`",
        "import": "`python -c 'import torch, monai'`",
        "run": "`tpseg run` on one picture, weights of the smallest network",
    }
    parts = ["## Start", made_by("speed_start", r), "| | seconds |\n|---|---|", *rows]
    if "times" not in r:  # measured before there were whole processes
        return text(*parts)
    commands = [f"| {names[n]} | {t['seconds']:.2f} | {t['cpu_seconds']:.2f} |" for n, t in r["times"].items()]
    return text(
        *parts,
        "\nWhole processes, in turn; CPU seconds count the processes that read, too.\n",
        "| | seconds | CPU seconds |\n|---|---|---|",
        *commands,
        targets(r),
    )


def masks(r: dict[str, Any]) -> str:
    """Masks of bf16."""
    rows = [(NAMES[name], *(d[k] for k in ("pooled", "median", "mean", "least"))) for name, d in r["dice"].items()]
    return text(
        "## Masks of bf16",
        "\n`python -m benchmarks.speed_masks --checkpoint run/model.pt --dataset_dir DATA`\n",
        "Dice between the masks of float32 and those of bf16 over the validation cases of a trained model",
        f"({r['cases']} cases; {r['model']}).\n",
        "| | pooled over all pixels | median of cases | mean of cases | least |\n|---|---|---|---|---|",
        *(f"| {n} | {pooled:.4f} | {median:.4f} | {mean:.4f} | {low:.2f} |" for n, pooled, median, mean, low in rows),
        targets(r),
    )


def runtimes(r: dict[str, Any]) -> str:
    """Other runtimes."""
    s, dice = r["settings"], r["dice"]
    names = {
        "network_fp32": NAMES["network_fp32"],
        "network_bf16": NAMES["network_bf16"],
        **{f"onnxruntime_{kind}": f"ONNX Runtime, {kind}" for kind in ("fp32", "int8")},
        **{f"openvino_{kind}": f"OpenVINO, {kind}" for kind in ("fp32", "bf16", "int8")},
    }
    rows = [
        f"| {names[n]} | {t['seconds']:.3f} | {r['ratios'][n]['cpu_seconds']:.2f} | {r['ratios'][n]['seconds']:.2f} "
        f"| {dice[n]['mean']:.4f} |"
        if n in dice
        else f"| {names[n]} | {t['seconds']:.3f} | 1 | 1 | |"
        for n, t in r["times"].items()
    ]
    versions = ", ".join(f"{name} {number}" for name, number in r["versions"].items())
    return text(
        f"## Other runtimes, {r['instructions']}",
        made_by("speed_runtimes", r),
        f"Weights {s['checkpoint']}, task {s['task']}; {versions}. int8 is calibrated on {s['calibration']} training",
        f"pictures; Dice with the masks of float32 is the mean over {r['cases']} other ones.\n",
        "| | seconds | times as fast, CPU | times as fast, wall | Dice with float32 |\n|---|---|---|---|---|",
        *rows,
        "\n`tpseg run --runtime` offers those whose masks keep 0.998 (bf16) and 0.995 (int8) of the Dice:",
        "[deployment.md](deployment.md#another-program-than-pytorch-on-a-cpu).",
    )


def threads(r: dict[str, Any]) -> str:
    """Threads where there are fewer cores than the machine has."""
    places = {
        "free": "a free machine",
        "bound": "`taskset -c 0`",
        "quota": "a control group with the time of one core",
        "beside": "two processes at once",
    }
    works = {"step": "training step", "studies": f"{r['settings']['studies']} studies"}
    seconds, chosen = r["seconds"], r["threads"]
    rows = [
        f"| {title}, {name} | {chosen.get(f'{work} {place} chosen', '')} | "
        + " | ".join(f"{seconds[f'{work} {place} {key}']:.2f}" for key in ("chosen", "machine", "one"))
        + f" | {seconds[f'{work} {place} machine'] / seconds[f'{work} {place} chosen']:.2f} |"
        for work, title in works.items()
        for place, name in places.items()
        if f"{work} {place} chosen" in seconds
    ]
    left_out = "" if r["quota_measured"] else "\nNo control group could be made here, so its row is missing."
    return text(
        "## Threads",
        f"\n`python -m benchmarks.speed_threads`: {r['machine']}, PyTorch {r['torch'].split('+')[0]}; hiera_demo,",
        "128 x 128, batch 4. Seconds with the threads that the package chooses, with one for every core of the",
        "machine, and with one.\n",
        "| | threads chosen | chosen | machine's | one | machine's / chosen |\n|---|---|---|---|---|---|",
        *rows,
        left_out,
    )


def studies(r: dict[str, Any]) -> str:
    """Where the time of many studies goes."""
    runs, s = r["stages"], r["settings"]
    names = sorted(runs["after"], key=lambda stage: -runs["after"][stage])
    columns = [name for name in ("before", "after") if name in runs]
    titles = {"before": "an earlier commit", "after": "now"}
    rows = [f"| {stage} | {' | '.join(f'{runs[name][stage]:.2f}' for name in columns)} |" for stage in names]
    totals = " | ".join(f"{r['totals'][name]:.2f}" for name in columns)
    parts = [
        "## Many studies",
        f"\n`python -m benchmarks.speed_studies`: {s['studies']} studies of {s['size']} pixels per side, hiera_demo,",
        f"{r['machine']}, PyTorch {r['torch'].split('+')[0]}.\n",
        "CPU seconds of `tpseg run` by stage; what runs inside another stage counts for itself alone. `start` is",
        "importing and loading the weights.\n",
        f"| | {' | '.join(titles[name] for name in columns)} |\n|---|{'---|' * len(columns)}",
        *rows,
        f"| all | {totals} |",
    ]
    if "before" not in runs:
        return text(*parts)
    fixed = ("start", "reading, in other processes")
    after, before = (sum(t for stage, t in runs[name].items() if stage not in fixed) for name in ("after", "before"))
    alike = f"are the same {r['files']} files, byte by byte" if r["same_bytes"] else "differ"
    return text(
        *parts,
        f"\nBeyond start and reading, a study takes {before / after:.2f} times as much CPU time in the earlier commit.",
        f"The results of both {alike}.",
    )


def waiting(r: dict[str, Any]) -> str:
    """Threads of two programs that wait for each other."""
    times, s = r["times"], r["settings"]
    ways = list(dict.fromkeys(key.rpartition(" ")[0] for key in times))
    one = times[f"{ways[0]} beside"]["seconds"]
    places = {way: [times[f"{way} {place}"] for place in ("alone", "beside")] for way in ways}
    rows = [
        f"| {way} | {' | '.join(f'{t[key]:.2f}' for t in found for key in KEYS)} | {found[1]['seconds'] / one:.2f} |"
        for way, found in places.items()
    ]
    return text(
        "## Two programs on the same cores",
        f"\n`python -m benchmarks.speed_waiting`: {s['pictures']} pictures of {s['size']} x {s['size']}, hiera_demo,",
        f"{r['machine']}, PyTorch {r['torch'].split('+')[0]}; load of the machine {r['load']:.0f}.\n",
        "One process, and two at once; of each the time for its pictures. Threads of OpenMP spin before they sleep,",
        "and take the core from those that they wait for. `tpseg` sets `OMP_WAIT_POLICY=passive` where the environment",
        "does not say how they wait.\n",
        "| | one process, seconds | CPU seconds | two, seconds | CPU seconds | seconds / one thread each |",
        "|---|---|---|---|---|---|",
        *rows,
    )


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "inference": inference,
    "inference_one": inference,
    "inference_avx2": inference,
    "inference_one_avx2": inference,
    "tasks": tasks,
    "training": training,
    "compile": compiled,
    "volume": volume,
    "empty": empty,
    "scaling": scaling,
    "start": start,
    "threads": threads,
    "waiting": waiting,
    "studies": studies,
    "masks": masks,
    "runtimes": runtimes,
    "runtimes_avx2": runtimes,
}


def main() -> None:
    parts = [HEAD]
    for name, section in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            parts.append(section(json.loads(path.read_text())) + "\n")
        elif name == "runtimes_avx2":
            parts.append(OTHER_PROCESSORS)
        else:
            script = name.removesuffix("_avx2").removesuffix("_one")
            parts.append(f"`benchmarks/speed_{script}.py` has not been run for this page.\n")
    parts.append("No figure here is of a GPU: `benchmarks/gpu_day.sh OUT` makes them, and waits to be run on one.\n")
    PAGE.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
