"""One HTML file about a run: what needs a look first, every lesion, what made it. It loads nothing from elsewhere."""

from __future__ import annotations

import base64
import csv
import io
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from monai_tpseg.files import write_atomically
from monai_tpseg.studies.codes import Status, StudyError
from monai_tpseg.studies.lesions import FLAGS
from monai_tpseg.studies.results import read_result
from monai_tpseg.tasks import TASK_NAMES

__all__ = ["REPORT", "Case", "collect", "write_report"]

REPORT = "report.html"
"""The name of the report in an output folder."""

_LONG_SIDE = 400  # pixels of a picture in the report
_COLOURS = 96  # of its palette: 500 cases stay below 50 MB
_ORDER = (Status.FAILED, Status.REVIEW, Status.OK_EMPTY, Status.OK, Status.SKIPPED)


@dataclass(frozen=True)
class Case:
    """One case as the report shows it.

    Attributes:
        record: of `result.json`.
        picture: PNG in base64, or "".
        lesions: rows of `lesions.csv`.
    """

    record: dict[str, Any]
    picture: str
    lesions: list[dict[str, str]]

    @property
    def worst_first(self) -> tuple[int, int, str]:
        """Where the case stands: by status, by its gravest flag, by name."""
        worst_first = list(FLAGS)
        ranks = [worst_first.index(flag) for flag in self.record["flags"] if flag in FLAGS]
        return _ORDER.index(Status(self.record["status"])), min(ranks, default=len(FLAGS)), self.record["case"]


def collect(out: str | Path) -> list[Case]:
    """Return the cases of an output folder, worst first; folders that a run is still writing are left out.

    Raises:
        StudyError: there are none.
    """
    folder = Path(out) / "cases"
    folders = [path for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []
    found = [(path, record) for path in folders if (record := read_result(path)) is not None]
    if not found:
        raise StudyError(f"'{out}' holds no results; name the --out of a tpseg run.")
    cases = [Case(record, _picture(path, record), _lesions(path, record)) for path, record in found]
    return sorted(cases, key=lambda case: case.worst_first)


def write_report(out: str | Path) -> Path:
    """Write `report.html` into an output folder and return its path.

    Raises:
        StudyError: there are no results.
    """
    cases = collect(out)
    counts = Counter(case.record["status"] for case in cases)
    tasks = [name for name in TASK_NAMES if any(case.record["task"] == name for case in cases)]
    makers = {case.record["provenance"]["config_sha256"] + case.record["provenance"]["model"]["weights_sha256"]:
              case.record["provenance"] for case in cases}  # fmt: skip
    text = (files("monai_tpseg.studies") / "report.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)
    path = Path(out) / REPORT
    statuses = [(status.value, counts[status.value]) for status in _ORDER]
    page = template.render(cases=cases, statuses=statuses, tasks=tasks, makers=list(makers.values()))
    write_atomically(path, page.encode())
    return path


def _picture(folder: Path, record: dict[str, Any]) -> str:
    name = record.get("files", {}).get("overlay", "")
    if not name:
        return ""
    with Image.open(folder / Path(name).name) as picture:
        small = picture.convert("RGB")
    small.thumbnail((_LONG_SIDE, _LONG_SIDE))
    data = io.BytesIO()
    small.quantize(_COLOURS).save(data, format="PNG", optimize=True)
    return base64.b64encode(data.getvalue()).decode()


def _lesions(folder: Path, record: dict[str, Any]) -> list[dict[str, str]]:
    if "lesions" not in record.get("files", {}):
        return []
    with (folder / "lesions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
