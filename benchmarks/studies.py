"""Many small studies through `tpseg run`: rate, memory, what the time goes to; killed, resumed and recomputed.

    python -m benchmarks.studies                              500 studies: docs/results/studies.json and docs/studies.md
    python -m benchmarks.studies --studies 30 --out /tmp/a    elsewhere, the page stays as it is

The studies are those of `python -m monai_tpseg.testing.phantoms DIR --studies N`, a tenth of them broken, and the
weights are random ones of the smallest network. Each run is a process of its own. One is left alone; a second is
killed with SIGKILL at seeded random points and resumed, and must end with the same bytes; then other weights must
recompute all.
A check that fails is named in the results, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from benchmarks.page_tables import renew
from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.networks import tpseg_hiera
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights
from monai_tpseg.studies import read_manifest
from monai_tpseg.testing.phantoms.studies import BROKEN, STUDIES_MANIFEST, PhantomStudy, write_studies
from monai_tpseg.transforms import pipelines_hash

ROOT = Path(__file__).resolve().parents[1]
SALT = "5a" * 16  # the same for all outputs, so that they can be compared
PARTIAL = 3  # exit status of a run in which cases failed
STAGES = ("read", "network", "write")


def write_weights(path: Path, seed: int) -> Path:
    """Write random weights of the smallest network."""
    torch.manual_seed(seed)
    network = tpseg_hiera("hiera_demo", len(TASK_NAMES), freeze_encoder=False)
    info = WeightsInfo(TASK_NAMES, {"backbone": "hiera_demo"}, (64, 64), preprocessing=pipelines_hash())
    save_weights(path, network.state_dict(), info)
    return path


def start(tree: Path, out: Path, weights: Path) -> subprocess.Popen[bytes]:
    """Start a run, or the next part of one."""
    out.mkdir(exist_ok=True)
    if not (out / "manifest.csv").exists():
        head, *lines = (tree / STUDIES_MANIFEST).read_text().splitlines()
        rows = [f"{head},root,salt", *(f"{line},{tree},{SALT}" for line in lines)]
        (out / "manifest.csv").write_text("\n".join(rows) + "\n")
    command = [sys.executable, "-m", "monai_tpseg", "run", "--data", str(tree / STUDIES_MANIFEST)]
    command += ["--out", str(out), "--checkpoint", str(weights), "--resume", "--quiet", "--device", "cpu"]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)


def complete(out: Path) -> int:
    """Number of cases whose folder is complete."""
    return sum((folder / "result.json").is_file() for folder in out.glob("cases/[!.]*"))


def contents(out: Path) -> dict[str, bytes]:
    """Everything of all cases, hidden files too, and the manifest, by name."""
    paths = [out / "manifest.csv", *out.glob("cases/**/*")]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths if path.is_file()}


def last_run(out: Path) -> list[dict[str, Any]]:
    """The events of the cases since the last start."""
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    begin = max(n for n, event in enumerate(events) if event["event"] == "start")
    return [event for event in events[begin:] if event["event"] == "case"]


def descendants(pid: int) -> list[int]:
    """The process and all below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def memory(pid: int) -> float:
    """MB that the process and all below it hold; what they share counts once."""
    total = 0
    for one in descendants(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # ended meanwhile
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1.024e-3


def watch(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """Wait for a run; return its wall time, peak memory and exit status."""
    began, peak = time.monotonic(), 0.0
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(0.3)
    return {"seconds": time.monotonic() - began, "peak_mb": peak, "status": process.returncode}


def kill_at(process: subprocess.Popen[bytes], out: Path, point: int) -> dict[str, Any]:
    """Kill a run once `point` cases are complete; return how many were, and whether a process of it stays behind."""
    while process.poll() is None and complete(out) < point:
        time.sleep(0.01)
    family = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    killed = process.wait() == -signal.SIGKILL
    until = time.monotonic() + 20
    while any(map(alive, family)) and time.monotonic() < until:
        time.sleep(0.05)
    return {"point": point, "complete": complete(out), "killed": killed, "left": sum(map(alive, family))}


def alive(pid: int) -> bool:
    """Whether a process still runs; one that has ended and nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def accounted(out: Path, studies: list[PhantomStudy]) -> bool:
    """Whether each study ended once, with the code that its trouble must give."""
    sources = {entry.case: entry.path for entry in read_manifest(out / "manifest.csv")}
    ended = Counter(event["case"] for event in last_run(out))
    records = {path.parent.name: json.loads(path.read_text()) for path in out.glob("cases/*/result.json")}
    if not (set(ended) == set(sources) == set(records) and set(ended.values()) == {1}):
        return False
    expected = {study.path: BROKEN.get(study.broken, "") for study in studies}
    return all(expected[sources[name]] == record["code"] for name, record in records.items())


def segmented(out: Path) -> set[str]:
    """The cases that are complete and did not fail."""
    records = {path.parent.name: json.loads(path.read_text()) for path in out.glob("cases/[!.]*/result.json")}
    return {name for name, record in records.items() if record["status"] not in ("failed", "skipped")}


def costs(out: Path, seconds: float) -> dict[str, float]:
    """Rate, and seconds of each stage over all cases; reading runs beside the other two."""
    cases = last_run(out)
    stages = {stage: sum(case.get(stage, 0.0) for case in cases) for stage in STAGES}
    inside = sum(case["seconds"] for case in cases)
    return {"studies_per_minute": 60 * len(cases) / seconds, **stages, "start": max(0.0, seconds - inside)}


def measure(folder: Path, count: int, size: int, seed: int, kills: int) -> dict[str, Any]:
    """Run everything; return what was measured, and the checks by name."""
    tree, whole, out = folder / "tree", folder / "whole", folder / "killed"
    studies = write_studies(tree, count, seed, size)
    weights, others = write_weights(folder / "a.pt", 0), write_weights(folder / "b.pt", 1)
    first = watch(start(tree, whole, weights))
    figures = {**first, **costs(whole, first["seconds"])}
    statuses = dict(sorted(Counter(event["status"] for event in last_run(whole)).items()))
    checks = {"exit status 3": first["status"] == PARTIAL, "each study once": accounted(whole, studies)}

    points = sorted(random.Random(seed).sample(range(2, count - 2), kills))
    stops = [kill_at(start(tree, out, weights), out, point) for point in points]
    done = segmented(out)
    resumed = watch(start(tree, out, weights))
    checks["killed before the end"] = all(stop["killed"] and stop["complete"] < count for stop in stops)
    checks["no process left behind"] = not any(stop["left"] for stop in stops)
    checks["resumed: exit status 3"] = resumed["status"] == PARTIAL
    checks["resumed: each study once"] = accounted(out, studies)
    kept = {event["case"] for event in last_run(out) if event["kept"]}
    checks["resumed: what was segmented is kept"] = bool(done) and kept == done
    checks["resumed: same bytes"] = contents(out) == contents(whole)

    again = watch(start(tree, out, others))
    checks["other weights: exit status 3"] = again["status"] == PARTIAL
    checks["other weights: all recomputed"] = not any(event["kept"] for event in last_run(out))
    checks["other weights: each study once"] = accounted(out, studies)
    checks["other weights: other masks"] = masks(out) != masks(whole)
    return {"figures": figures, "statuses": statuses, "kills": stops, "checks": checks}


def masks(out: Path) -> dict[str, bytes]:
    """The masks of all cases."""
    return {name: content for name, content in contents(out).items() if "_mask." in name}


def table(result: dict[str, Any]) -> str:
    """The table of docs/studies.md."""
    of, size = result["figures"], result["settings"]["size"]
    statuses = ", ".join(f"{count} {status}" for status, count in result["statuses"].items())
    failed = [name for name, good in result["checks"].items() if not good]
    kills = ", ".join(str(stop["complete"]) for stop in result["kills"])
    rows: list[tuple[str, str]] = [
        ("studies", f"{result['settings']['studies']} of {size} pixels per side: {statuses}"),
        ("machine", result["machine"]),
        ("rate", f"{of['studies_per_minute']:.0f} studies per minute, {of['seconds']:.0f} s in all"),
        ("start and end, outside of the studies", f"{of['start']:.1f} s"),
        ("reading, in a process beside", f"{of['read']:.1f} s"),
        ("network", f"{of['network']:.1f} s"),
        ("measuring, drawing, writing", f"{of['write']:.1f} s"),
        ("peak memory of all processes", f"{of['peak_mb']:.0f} MB"),
        ("cases complete at each kill", kills),
        ("checks", f"{len(result['checks']) - len(failed)} of {len(result['checks'])} hold" + named(failed)),
    ]
    return "\n".join(["| what | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)])


def named(failed: list[str]) -> str:
    """The checks that do not hold, for the end of a line."""
    return f"; not: {', '.join(failed)}" if failed else ""


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=500, help="10 or more (500)")
    parser.add_argument("--size", type=int, default=64, help="pixels of a side (64)")
    parser.add_argument("--seed", type=int, default=0, help="of studies and kills (0)")
    parser.add_argument("--kills", type=int, default=3, help="how often the second run is killed (3)")
    parser.add_argument("--out", type=Path, help="folder of studies.json instead of docs/results; leaves the page")
    args = parser.parse_args(argv)
    settings = {name: getattr(args, name) for name in ("studies", "size", "seed", "kills")}
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), args.studies, args.size, args.seed, args.kills)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, CPU"
    result = {"settings": settings, "machine": machine, "torch": torch.__version__, **result}
    text = json.dumps(result, indent=1)
    target = args.out or ROOT / "docs" / "results"
    target.mkdir(parents=True, exist_ok=True)
    (target / "studies.json").write_text(text + "\n")
    if args.out is None:
        renew(ROOT / "docs" / "studies.md", "studies", table(result))
    print(text)
    return 0 if all(result["checks"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
