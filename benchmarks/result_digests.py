"""Digests of what `tpseg run` and both bundles give: are two commits alike, byte for byte?

    python -m benchmarks.result_digests make CASES                 # 60 phantom studies, once
    python -m benchmarks.result_digests samples CASES              # or the DICOM files that pydicom brings
    python -m benchmarks.result_digests record CASES before.json   # in a checkout of each commit
    python -m benchmarks.result_digests demo before.json           # the files of the demo, trained for two epochs
    python -m benchmarks.result_digests compare before.json after.json

`record` runs the starter weights of TP-Seg and K-Prism. Many of pydicom's files are broken on purpose, and a bundle
refuses a list with a file that cannot be read: there it runs TP-Seg by `tpseg run` alone. Every file of a result
counts: pictures, volumes and tables as they are, a DICOM object by its segments and pixels, a record without versions,
digests and keys of its settings. Left out are times (`clock.json`, `events.jsonl`) and the path of the folder, which
stands in some tables.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom

from monai_tpseg.testing.phantoms import write_studies

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = {"tpseg": "tpseg_lesion_segmentation", "kprism": "kprism_universal_segmentation"}
SETTINGS = {"plain": (0.5, 0), "strict": (0.35, 12)}  # threshold, smallest lesion
MANIFEST, SALT = "manifest.csv", "0" * 32  # one salt: names and tracking ids are the same in both records
LOOSE = ("provenance", "key", "sha256", "case", "files")  # of a record: versions, or names that follow the salt


def make(cases: Path) -> None:
    """Write the studies, and a datalist of those that can be read."""
    studies = write_studies(cases, 60, seed=5)
    entries = [{"image": study.path, "task": study.task} for study in studies if not study.broken]
    (cases / "datalist.json").write_text(json.dumps({"testing": entries}))
    rows = [f"{study.path},{study.task},{SALT}" for study in studies]
    (cases / MANIFEST).write_text("\n".join(["path,task,salt", *rows]) + "\n")


def samples(cases: Path) -> None:
    """Copy the DICOM files of pydicom's package, and write a manifest that asks for one task in all of them."""
    source = Path(pydicom.__file__).parent / "data" / "test_files"
    cases.mkdir(parents=True)
    rows = []
    for path in sorted(source.rglob("*.dcm")):
        name = "_".join(path.relative_to(source).parts)
        shutil.copyfile(path, cases / name)
        rows.append(f"{name},lung_infection,{SALT}")
    (cases / MANIFEST).write_text("\n".join(["path,task,salt", *rows]) + "\n")


def digest(path: Path, folder: Path) -> str:
    """Return what a file of a folder says, as a digest."""
    if path.name.endswith("result.json"):
        record = {key: value for key, value in json.loads(path.read_text()).items() if key not in LOOSE}
        content = json.dumps(record, sort_keys=True).encode()
    elif path.suffix == ".dcm":
        data = pydicom.dcmread(path)
        names = [f"{one.SegmentNumber} {one.get('TrackingID')}" for one in data.get("SegmentSequence", ())]
        content = "\n".join(names).encode() + data.get("PixelData", b"")
    else:
        content = path.read_bytes().replace(os.fsencode(folder), b"")
    return hashlib.sha256(content).hexdigest()


def digests(folder: Path, under: str) -> Iterator[tuple[str, str]]:
    """Yield name and digest of the files of results."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("events") and path.name not in (MANIFEST, "clock.json"):
            yield f"{under}/{path.relative_to(folder).as_posix()}", digest(path, folder)


def run(*command: Any) -> None:
    """Run a command of Python; 3 says that a case failed, as ten broken ones do."""
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise RuntimeError(done.stderr[-2000:])


def record(cases: Path) -> dict[str, str]:
    """Segment the cases in every way."""
    found: dict[str, str] = {}
    listed = (cases / "datalist.json").is_file()
    with tempfile.TemporaryDirectory() as scratch:
        for network, bundle in BUNDLES.items() if listed else [("tpseg", "")]:
            for name, (threshold, smallest) in SETTINGS.items():
                out = Path(scratch) / f"run-{network}-{name}"
                run(
                    *("-m", "monai_tpseg", "run", "--data", cases / MANIFEST, "--root", cases, "--out", out),
                    *("--checkpoint", f"starter-{network}", "--names", "source", "--device", "cpu", "--quiet"),
                    *("--threshold", threshold, "--min-lesion-area", smallest),
                )
                found.update(digests(out / "cases", out.name))
                if not listed:
                    continue
                out = Path(scratch) / f"bundle-{network}-{name}"
                run(
                    *("-m", "monai.bundle", "run", "--config_file", ROOT / f"bundles/{bundle}/configs/inference.json"),
                    *("--dataset_dir", cases, "--datalist", cases / "datalist.json", "--output_dir", out),
                    *("--threshold", threshold, "--min_lesion_area", smallest, "--progress", "false"),
                    *("--save_probabilities", "true", "--device", "cpu"),
                )
                found.update(digests(out, out.name))
    return found


def demo() -> dict[str, str]:
    """Run the demo: masks with the shipped weights, a short training, its evaluation and its masks."""
    with tempfile.TemporaryDirectory() as scratch:
        run(ROOT / "examples" / "demo.py", "--output", scratch, "--epochs", 2, "--minimum", 0)
        return dict(digests(Path(scratch), "demo"))


def compare(before: dict[str, str], after: dict[str, str]) -> int:
    """Print what differs; 1 where something does."""
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            sys.stdout.write(f"{name}: {'differs' if name in before.keys() & after.keys() else 'only in one'}\n")
    same = sum(before.get(name) == after[name] for name in after)
    sys.stdout.write(f"{same} of {len(before.keys() | after.keys())} files are the same bytes\n")
    return int(before != after)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("make", "samples", "record", "demo", "compare"))
    parser.add_argument("paths", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    if options.step == "make":
        make(options.paths[0])
    elif options.step == "samples":
        samples(options.paths[0])
    elif options.step == "record":
        options.paths[1].write_text(json.dumps(record(options.paths[0]), indent=1))
    elif options.step == "demo":
        options.paths[0].write_text(json.dumps(demo(), indent=1))
    else:
        return compare(*(json.loads(path.read_text()) for path in options.paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
