"""The MONAI Deploy application on a study of phantoms, beside `tpseg run` on the same series.

The MONAI Deploy App SDK needs an environment of its own, see docs/deploy-app.md:

python -m benchmarks.deploy_app --environment /opt/deploy --out docs/results/deploy.json
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pydicom

from benchmarks.logs import run_with_environment
from monai_tpseg.testing.phantoms import make_volume, write_dicom_series
from tests.data.test_phantoms_valid import findings

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "apps" / "deploy" / "app.py"
TASKS = ("lung_infection", "brain_tumor")
MARKER = "ZZMARKER"
PACKAGES = ("monai-deploy-app-sdk", "holoscan-cu13", "monai", "torch", "pydicom", "highdicom")
_VERSIONS = (
    f"import json; from importlib.metadata import version; print(json.dumps({{n: version(n) for n in {PACKAGES}}}))"
)


def main() -> None:
    """Run the application, compare, say what it answers where it cannot."""
    run_with_environment(__doc__, "the MONAI Deploy App SDK", measure)


def measure(folder: Path, environment: Path) -> dict[str, Any]:
    """Return what the application and `tpseg run` have written, and how the application fails."""
    python, study = environment / "bin" / "python", write_study(folder)
    versions = json.loads(subprocess.run([python, "-c", _VERSIONS], capture_output=True, check=True).stdout)
    done = run_app(python, folder, study, folder / "deployed")
    for task in TASKS:
        command = [python, "-m", "monai_tpseg", "run", folder / task, "--task", task, "--out", folder / f"run_{task}"]
        subprocess.run([*map(str, command), "--quiet"], check=True, capture_output=True, cwd=ROOT)
    deployed = {task: objects(folder / "deployed", task) for task in TASKS}
    alone = {task: objects(folder / f"run_{task}", task) for task in TASKS}
    return {
        "machine": f"2 cores, {platform.machine()}, no GPU",
        "python": platform.python_version(),
        "versions": versions,
        "exit": done.returncode,
        "cases": sorted(case.name.split("_", 1)[1] for case in (folder / "deployed" / "cases").iterdir()),
        "same_as_tpseg_run": {
            task: {kind: deployed[task][kind] == alone[task][kind] for kind in deployed[task]} for task in TASKS
        },
        "lesions": {task: len(deployed[task]["lesions"]) for task in TASKS},
        "dciodvfy": problems(folder / "deployed"),
        "header_values_in_the_log": MARKER in done.stdout + done.stderr,
        "failures": failures(folder, python, study),
    }


def write_study(folder: Path) -> Path:
    """Write a chest CT, its localizer and a brain MR into one folder, and each by itself; headers name somebody."""
    for seed, task in enumerate(TASKS):
        write_dicom_series(make_volume(task, seed, (96, 96, 8)), folder / task)
    write_dicom_series(make_volume(TASKS[0], 2, (96, 96, 6)), folder / "localizer")
    study = folder / "study"
    study.mkdir()
    for name in (*TASKS, "localizer"):
        for path in sorted((folder / name).iterdir()):
            header = pydicom.dcmread(path)
            for keyword in ("PatientName", "PatientID", "InstitutionName", "StudyDescription", "SeriesDescription"):
                setattr(header, keyword, MARKER)
            if name == "localizer":
                header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            header.save_as(path)
            shutil.copy(path, study / f"{name}_{path.name}")
    return study


def run_app(python: Path, folder: Path, study: Path, out: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the application as docs/deploy-app.md says, with its own selections and the starter weights."""
    command = [python, APP, "--input", study, "--output", out]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=folder, env=environment)


def objects(out: Path, task: str) -> dict[str, Any]:
    """Digests of mask and segmentation and the table of a task's only case, without names, which are salted."""
    (case,) = (out / "cases").glob(f"*_{task}")
    mask, seg = next(case.glob("*_mask.nii.gz")), next(case.glob("*_seg.dcm"))
    with (case / "lesions.csv").open(encoding="utf-8", newline="") as table:
        rows = [{key: value for key, value in row.items() if key != "tracking_id"} for row in csv.DictReader(table)]
    return {"mask": sha256(mask.read_bytes()), "seg": sha256(pydicom.dcmread(seg).PixelData), "lesions": rows}


def sha256(content: bytes) -> str:
    """Return a digest in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def problems(out: Path) -> list[str] | None:
    """What dciodvfy has against the objects, None where it is not installed."""
    program = shutil.which("dciodvfy")
    return (
        None if program is None else sorted({line for path in out.rglob("*.dcm") for line in findings(program, path)})
    )


def failures(folder: Path, python: Path, study: Path) -> dict[str, Any]:
    """Exit status and last line for a study that nothing selects, half a file, and a task that nobody knows."""
    half = folder / "half"
    shutil.copytree(study, half)
    path = next(half.glob(f"{TASKS[0]}_*"))
    path.write_bytes(path.read_bytes()[:-1000])
    rules = {"conditions": {"Modality": "US"}}
    (folder / "us.json").write_text(json.dumps({"selections": [{"name": "breast_lesion", **rules}]}))
    (folder / "liver.json").write_text(json.dumps({"selections": [{"name": "liver", **rules}]}))
    asked: dict[str, tuple[Path, dict[str, str]]] = {
        "nothing selected": (study, {"TPSEG_SELECTION": str(folder / "us.json")}),
        "unknown task": (study, {"TPSEG_SELECTION": str(folder / "liver.json")}),
        "truncated file": (half, {}),
    }
    found = {}
    for number, (name, (source, more)) in enumerate(asked.items()):
        done = run_app(python, folder, source, folder / f"failed{number}", **more)
        said = [line for line in done.stderr.splitlines() if "Error: " in line and not line.startswith("[")]
        found[name] = {"exit": done.returncode, "message": said[-1]}
    return found


if __name__ == "__main__":
    main()
