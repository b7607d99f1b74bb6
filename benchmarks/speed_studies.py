"""Where the time of many small studies goes: CPU seconds of each stage of `tpseg run`, and of its other processes.

    python -m benchmarks.speed_studies                                   docs/performance/studies.json
    python -m benchmarks.speed_studies --before OTHER_CHECKOUT           and how it was there, in turn

The studies and the weights are those of `benchmarks/studies.py`. The functions that make up a stage are timed where
they are called; a stage has what is left when those inside it are taken away. CPU seconds are those of one process: its
threads together, whatever else the machine does. `--before` runs the same in a checkout of another commit, in turn,
and compares all files of the cases byte by byte.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from benchmarks.studies import PARTIAL, SALT, contents, descendants, write_weights
from benchmarks.timing import ROOT, arguments, save
from monai_tpseg.testing.phantoms.studies import STUDIES_MANIFEST, write_studies

STAGES = {
    "start": ("monai_tpseg.cli.run:_run",),
    "between the stages": ("monai_tpseg.studies.run:Run.__call__",),
    "network": ("monai_tpseg.segment.segmenter:Segmenter.__call__",),
    "measuring": ("monai_tpseg.results.case_files:measure_lesions", "monai_tpseg.results.case_files:flags_of"),
    "mask": ("monai_tpseg.transforms.writers:MaskWriter.write",),
    "DICOM segmentation": ("monai_tpseg.results.dicom_objects:write_segmentation",),
    "structured report": ("monai_tpseg.results.dicom_objects:write_structured_report",),
    "overlay": ("monai_tpseg.results.case_files:draw_case",),
    "compressing pictures": ("PIL.Image:Image.save",),
    "checksums": ("monai_tpseg.results.case_files:file_sha256",),
    "record of a case": ("monai_tpseg.studies.case:write_result",),
    "asking the other processes": ("monai_tpseg.subprocesses:ChildProcess.receive",),
    "deciding what to do": ("monai_tpseg.studies.case_plan:CasePlanner.plan",),
}
TICKS = os.sysconf("SC_CLK_TCK")


class Stages:
    """CPU seconds of this process by stage: what runs inside another stage counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._of = threading.local()  # what a thread does beside the main one counts for its own stage
        self._of.open, self._of.since = ["start"], 0.0  # importing Python and this file counts

    def switch(self) -> None:
        """Give the time that has passed in this thread to the stage that is open."""
        now = time.thread_time()
        self.seconds[self._of.open[-1]] += now - self._of.since
        self._of.since = now

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call` as a stage."""

        @wraps(call)
        def inside(*args: Any, **kwargs: Any) -> Any:
            if not hasattr(self._of, "open"):
                self._of.open, self._of.since = ["between the stages"], 0.0
            self.switch()
            self._of.open.append(name)
            try:
                return call(*args, **kwargs)
            finally:
                self.switch()
                self._of.open.pop()

        return inside

    def watch(self) -> None:
        """Time all functions of `STAGES`."""
        for name, places in STAGES.items():
            for place in places:
                module, _, path = place.partition(":")
                *owners, last = path.split(".")
                owner: Any = importlib.import_module(module)
                for one in owners:
                    owner = getattr(owner, one)
                setattr(owner, last, self.timed(name, getattr(owner, last)))


def child(words: list[str]) -> int:
    """Run `tpseg` here, and print the stages as the last line."""
    stages = Stages()
    stages.watch()
    from monai_tpseg.cli import main as tpseg

    status = tpseg(words)
    stages.switch()
    stages.seconds["further threads of the network"] = max(0.0, time.process_time() - sum(stages.seconds.values()))
    print(json.dumps({"status": status, "stages": stages.seconds}))
    return 0


def cpu_seconds(pid: int) -> float | None:
    """CPU seconds of a process so far; None where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (int(fields[11]) + int(fields[12])) / TICKS


def run(checkout: Path, tree: Path, weights: Path) -> tuple[dict[str, float], dict[str, bytes]]:
    """Run the studies with the package of a checkout; return CPU seconds by stage, and all files."""
    with tempfile.TemporaryDirectory() as folder:
        out, printed = Path(folder) / "out", Path(folder) / "printed"
        out.mkdir()
        head, *lines = (tree / STUDIES_MANIFEST).read_text().splitlines()
        rows = [f"{head},root,salt", *(f"{line},{tree},{SALT}" for line in lines)]
        (out / "manifest.csv").write_text("\n".join(rows) + "\n")
        words = ["run", "--data", str(tree / STUDIES_MANIFEST), "--out", str(out), "--checkpoint", str(weights)]
        words += ["--resume", "--quiet", "--device", "cpu"]
        code = f"import sys; sys.path[:0] = [{str(checkout)!r}, {str(ROOT)!r}]\n"
        code += "from benchmarks.speed_studies import child; sys.exit(child(sys.argv[1:]))"
        script = Path(folder) / "child.py"
        script.write_text(code)
        with printed.open("w") as stream:
            environment = {**os.environ, "PYTHONPATH": str(checkout)}
            command = [sys.executable, str(script), *words]
            # elsewhere than here: Python's own processes import from the current folder first
            process = subprocess.Popen(command, env=environment, stdout=stream, cwd=folder)
            others: dict[int, float] = {}
            while process.poll() is None:
                for pid in descendants(process.pid)[1:]:
                    others[pid] = cpu_seconds(pid) or others.get(pid, 0.0)
                time.sleep(0.2)
        if process.returncode:
            raise RuntimeError(f"tpseg run in {checkout} ended with {process.returncode}.")
        found = json.loads(printed.read_text().splitlines()[-1])
        if found["status"] not in (0, PARTIAL):
            raise RuntimeError(f"tpseg run in {checkout} ended with {found['status']}.")
        return {**found["stages"], "reading, in other processes": sum(others.values())}, contents(out)


def commit(checkout: Path) -> str:
    """Return the abbreviated commit of a checkout."""
    words = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = arguments(str(__doc__), rounds=3, size=64, batch=1, backbone="hiera_demo")
    parser.add_argument("--studies", type=int, default=80, help="studies, a tenth of them broken")
    parser.add_argument("--before", type=Path, help="a checkout of another commit")
    args = parser.parse_args()
    checkouts = {"after": ROOT, **({"before": args.before.resolve()} if args.before else {})}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    files: dict[str, dict[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tree, weights = Path(folder) / "tree", write_weights(Path(folder) / "a.pt", 0)
        write_studies(tree, args.studies, 0, args.size)
        for _ in range(args.rounds):
            for name, checkout in checkouts.items():
                stages, files[name] = run(checkout, tree, weights)
                found[name].append(stages)
    medians = {
        name: {stage: statistics.median(one.get(stage, 0.0) for one in runs) for stage in runs[0]}
        for name, runs in found.items()
    }
    totals = {name: statistics.median(sum(one.values()) for one in runs) for name, runs in found.items()}
    same = None if args.before is None else files["before"] == files["after"]
    args.before = commit(args.before) if args.before else None  # not the path, which is one machine's
    save("studies", args, stages=medians, totals=totals, same_bytes=same, files=len(files["after"]))


if __name__ == "__main__":
    main()
