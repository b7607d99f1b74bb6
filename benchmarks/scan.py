"""A scan of many files: rows, CPU seconds, and the memory that the command and its process apart take.

    python -m benchmarks.scan                    50,000 files: docs/results/scan.json
    python -m benchmarks.scan --files 5000 --out /tmp/scan.json

Half of the files are slices of CT series of 100, a quarter small pictures, a quarter texts that are no case. All of a
kind are links to the content of one file or differ in a few bytes of their header, so that the disc holds them. The
command is `tpseg scan`, in a process of its own; memory is the largest resident set (VmHWM) that was seen of it, and of
any process that it started.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pydicom

from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_dicom_series, write_png

ROOT = Path(__file__).resolve().parents[1]
SERIES = 100  # slices
FOLDER = 500  # pictures or texts


def write_files(folder: Path, count: int) -> int:
    """Write `count` files, and return how many cases they are."""
    series, pictures = count // 2 // SERIES, count // 4
    template = sorted(write_dicom_series(make_volume("lung_infection", 1, (32, 32, SERIES)), folder / "s").iterdir())
    slices = [pydicom.dcmread(path) for path in template]
    for number in range(series):
        target = folder / f"series{number:04d}" if number else folder / "s"
        target.mkdir(exist_ok=True)
        for place, dataset in enumerate(slices if number else ()):
            dataset.SeriesInstanceUID = f"1.2.826.0.1.3680043.8.498.{number + 1}"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = (
                f"{dataset.SeriesInstanceUID}.{place}"
            )
            dataset.save_as(target / template[place].name)
    picture = write_png(make_phantom("skin_lesion", 1, 32).image, folder / "picture.png").read_bytes()
    (folder / "picture.png").unlink()
    for number in range(pictures):
        for kind, name in (("pictures", f"{number}.png"), ("texts", f"{number}.txt")):
            target = folder / f"{kind}{number // FOLDER}" / name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(picture + str(number).encode() * 20 if kind == "pictures" else b"text")
    return series + pictures


def scan(folder: Path, manifest: Path) -> dict[str, Any]:
    """Scan in a process of its own, and return what it took."""
    peaks: dict[str, int] = {}
    used: dict[str, float] = {}
    command = [sys.executable, "-m", "monai_tpseg", "scan", str(folder), "--out", str(manifest)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        while process.poll() is None:
            for pid in (str(process.pid), *_below(process.pid)):
                kind = "command" if pid == str(process.pid) else "processes apart"
                peaks[kind] = max(peaks.get(kind, 0), _peak(pid))
                used[pid] = max(used.get(pid, 0.0), _cpu(pid))
            time.sleep(0.2)
        assert process.stderr is not None
        said = process.stderr.read()
    if process.returncode:
        raise RuntimeError(said)
    return {
        "cpu_seconds": round(sum(used.values()), 1),
        "peak_mib": {kind: round(kib / 1024) for kind, kib in peaks.items()},
    }


def _below(pid: int) -> list[str]:
    children: dict[str, list[str]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                children.setdefault((path / "stat").read_text().rpartition(")")[2].split()[1], []).append(path.name)
            except OSError:
                continue
    found, waiting = [], [str(pid)]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _cpu(pid: str) -> float:
    try:
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def _peak(pid: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def main() -> int:
    """Write the files, scan them, and record what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "scan.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "in"
        folder.mkdir()
        expected = write_files(folder, options.files)
        took = scan(folder, Path(name) / "manifest.csv")
        rows = len((Path(name) / "manifest.csv").read_text().splitlines()) - 1
        smaller = Path(name) / "few"
        smaller.mkdir()
        write_files(smaller, 400)
        few = scan(smaller, Path(name) / "few.csv")["peak_mib"]
    record = {
        "files": options.files,
        "rows": rows,
        "expected": expected,
        **took,
        "peak_mib_of_400_files": few,
        "machine": f"{platform.system()}, {platform.machine()}, 2 cores",
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n")
    sys.stdout.write(json.dumps(record, indent=2) + "\n")
    return int(rows != expected)


if __name__ == "__main__":
    sys.exit(main())
