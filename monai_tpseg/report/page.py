"""One HTML file about a run: what needs a look first, every lesion, what made it. It loads nothing from elsewhere."""

from __future__ import annotations

import base64
import csv
import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from math import inf, log, log2
from pathlib import Path
from statistics import median
from typing import Any

from markupsafe import Markup

from monai_tpseg.catalogue import TASK_NAMES, get_task
from monai_tpseg.files import write_atomically
from monai_tpseg.report.pictures import Thumbnail, make_thumbnail
from monai_tpseg.report.tables import case_row, readable, write_tables
from monai_tpseg.results.codes import RUN_ACTIONS, Status, StudyError, failed
from monai_tpseg.results.folder import RESULT, read_result
from monai_tpseg.results.measurements import FLAGS, Lesion

__all__ = ["REPORT", "Case", "collect", "write_report"]

logger = logging.getLogger(__name__)

REPORT = "report.html"
"""The name of the report in an output folder."""

_ORDER = (Status.FAILED, Status.REVIEW, Status.OK_EMPTY, Status.OK, Status.SKIPPED)
_FLAGS = (*FLAGS, "outlying_size")  # worst first; one that is not here is worse than all
_COLUMNS = {column.name for column in fields(Lesion)} - {"size_inner", "size_outer"}  # newer than the others
_EXPLAINED = {**FLAGS, "outlying_size": "much larger or smaller than the other results of its task"}
_MOST = 20  # rows of lesions of one case
_COMPARED = 5  # results of a task from which on one can be told to be unlike the others
_OUTLYING = 3.5  # robust standard deviations of the logarithm of the size
_DEVIATION = 1.4826  # median absolute deviation -> standard deviation of a normal distribution
_LEAST_DEVIATION = 0.2  # of the logarithm: sizes that are nearly equal make no outliers


@dataclass(frozen=True)
class Case:
    """One case as the report shows it.

    Attributes:
        record: of `result.json`.
        flags: those of the record, and `outlying_size`: much larger or smaller than the other results of its task.
        picture: of its overlay, or None.
        lesions: rows of `lesions.csv`, the largest ones.
        size: of all lesions; 0 where there is none.
        entropy: of the mean probability of the lesions, bits: 0 certain, 1 undecided.
        rows: all rows of `lesions.csv`.
    """

    record: dict[str, Any]
    flags: tuple[str, ...]
    picture: Thumbnail | None
    lesions: list[dict[str, str]]
    size: float = 0.0
    entropy: float = 0.0
    rows: tuple[dict[str, str], ...] = ()

    @property
    def unit(self) -> str:
        """Of the size; empty without a lesion."""
        return self.lesions[0]["size_unit"] if self.lesions else ""

    @property
    def total(self) -> str:
        """The size of all lesions as a person reads it."""
        return readable(self.size, self.unit) if self.unit else ""

    @property
    def trust(self) -> dict[str, Any]:
        """What is known about the mask; empty where nothing is."""
        return {key: value for key, value in (self.record.get("trust") or {}).items() if value}

    @property
    def expected(self) -> float:
        """The expected Dice; 1 where it is not known."""
        return float(self.trust.get("expected_dice", {}).get("value", 1.0))

    @property
    def folded(self) -> bool:
        """Whether there is no mask to look at."""
        return Status(self.record["status"]) in (Status.FAILED, Status.SKIPPED)

    @property
    def worst_first(self) -> tuple[int, int, float, float, str]:
        """Where the case stands: by status, by its gravest flag, by expected Dice, by entropy, by name."""
        ranks = (_FLAGS.index(flag) if flag in _FLAGS else -1 for flag in self.flags)
        gravest = min(ranks, default=len(_FLAGS))
        status = _ORDER.index(Status(self.record["status"]))
        return status, gravest, self.expected, -self.entropy, self.record["case"]

    @property
    def text(self) -> str:
        """What a search looks at, in lower case."""
        words = (self.record["case"], self.record["task"], self.record["status"], self.record["code"], *self.flags)
        return " ".join(words).lower()


def collect(out: str | Path) -> list[Case]:
    """Return the cases of an output folder, worst first; folders that a run is still writing are left out.

    A case whose files are damaged has failed, with `E_RESULT` and the name of the file.

    Raises:
        StudyError: there are none.
    """
    folder = Path(out) / "cases"
    visible = [path for path in sorted(folder.iterdir()) if path.name[0] != "."] if folder.is_dir() else []
    folders = [path for path in visible if path.is_dir()]
    found = [case for path in folders if (case := _case(path)) is not None]
    if not found:
        raise StudyError(f"'{out}' holds no results; name the --out of a tpseg run.")
    return sorted(_compared(found), key=lambda case: case.worst_first)


def write_report(out: str | Path, cases: Sequence[Case] | None = None) -> Path:
    """Write `report.html`, `cases.csv` and `lesions.csv` into an output folder and return the path of the page.

    Args:
        out: output folder.
        cases: what `collect` gives, which is asked by default.

    Raises:
        StudyError: there are no results.
    """
    cases = collect(out) if cases is None else cases
    counts = Counter(case.record["status"] for case in cases)
    codes = Counter((case.record["status"], case.record["code"], case.record["next_action"]) for case in cases
                    if case.record["code"])  # fmt: skip
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    import jinja2  # late: a run writes no page

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(_asset("report.html.j2")).render(
        cases=cases,
        statuses=[(status.value, counts[status.value]) for status in _ORDER],
        codes=codes.most_common(),
        tasks=_tasks(cases),
        makers=_makers(cases),
        pictures=sum(case.picture is not None for case in cases),
        most=_MOST,
        readable=readable,
        explained=_EXPLAINED,
        **{"style": Markup(style), "style_hash": _digest(style)},
        **{"script": Markup(script), "script_hash": _digest(script)},
    )
    lesions = [{"case": case.record["case"], "task": case.record["task"], **row} for case in cases for row in case.rows]
    write_tables(out, [case_row(case.record, case.flags, case.size, case.unit) for case in cases], lesions)
    path = Path(out) / REPORT
    content = page.replace("@SIZE@", f"{len(page) / 1e6:.1f} MB", 1)
    write_atomically(path, content.encode(errors="replace"))  # a name of a file may be no UTF-8
    return path


def _case(folder: Path) -> Case | None:
    """None where a run removes or replaces the folder at this moment."""
    part = RESULT
    try:
        record = read_result(folder)
        if record is None:
            return _damaged(folder, part) if folder.is_dir() else None
        part = record.get("files", {}).get("lesions", "")
        rows = _lesions(folder, record)
        size = sum(float(row["size"]) for row in rows)
        mean = sum(float(row["mean_probability"]) * float(row["size"]) for row in rows) / size if size else 0.0
        entropy = _entropy(mean)
        part = record.get("files", {}).get("overlay", "")
        picture = _picture(folder, record)
    except Exception:  # a decoder may raise anything at what is no picture
        return _damaged(folder, part) if folder.is_dir() else None
    return Case(record, tuple(record["flags"]), picture, rows[:_MOST], size, entropy, tuple(rows))


def _damaged(folder: Path, file: str) -> Case:
    """The card of a case whose files cannot be read."""
    logger.warning("%s/%s is damaged: %s.", folder, Path(file).name, RUN_ACTIONS["E_RESULT"])
    outcome = failed("E_RESULT")
    texts = {"status": outcome.status.value, "code": outcome.code, "next_action": outcome.action}
    return Case({"case": folder.name, "task": "", "detail": Path(file).name, **texts}, (), None, [])


def _tasks(cases: Sequence[Case]) -> list[str]:
    """The tasks that occur: those of the catalogue in its order, then others."""
    found = {case.record["task"] for case in cases} - {""}
    return [*(name for name in TASK_NAMES if name in found), *sorted(found - set(TASK_NAMES))]


def _compared(cases: Sequence[Case]) -> list[Case]:
    """Flag what is much larger or smaller than the other results of its task, measured in the same unit."""
    groups: dict[tuple[str, str], list[float]] = {}
    for case in cases:
        if case.size:
            groups.setdefault(_group(case), []).append(log(case.size))
    more = {case.record["case"]: ("outlying_size",) * _is_outlier(case, groups) for case in cases}
    return [replace(case, flags=(*case.flags, *more[case.record["case"]])) for case in cases]


def _group(case: Case) -> tuple[str, str]:
    return case.record["task"], case.lesions[0]["size_unit"]


def _is_outlier(case: Case, groups: dict[tuple[str, str], list[float]]) -> bool:
    sizes = groups[_group(case)] if case.size else []
    if len(sizes) < _COMPARED:
        return False
    middle = median(sizes)
    deviation = _DEVIATION * median(abs(size - middle) for size in sizes)
    return abs(log(case.size) - middle) > _OUTLYING * max(deviation, _LEAST_DEVIATION)


def _entropy(probability: float) -> float:
    return round(-sum(p * log2(p) for p in (probability, 1 - probability) if p > 0), 6)


def _makers(cases: Sequence[Case]) -> list[tuple[dict[str, Any], int]]:
    """What made the results, with the number of cases: several after a run with other weights or settings."""
    made = {case.record["case"]: case.record["provenance"] for case in cases if "provenance" in case.record}
    keys = {name: str(by) for name, by in made.items()}
    first = {key: made[name] for name, key in keys.items()}
    return [(first[key], count) for key, count in Counter(keys.values()).most_common()]


def _picture(folder: Path, record: dict[str, Any]) -> Thumbnail | None:
    names = record.get("files", {})
    if not names.get("overlay"):
        return None
    # scanners write names and dates into ultrasound; within the region that a DICOM object declares there are none
    modalities = record["provenance"]["model"].get("modalities", {})
    has_text = record["task"] in (*TASK_NAMES, *modalities) and (
        get_task(record["task"], modalities).modality.has_screen_text
    )
    blurred = has_text and "region" not in record.get("decisions", {})
    mask = folder / Path(names["mask"]).name
    return make_thumbnail(folder / Path(names["overlay"]).name, mask if mask.suffix == ".png" else None, blurred)


def _lesions(folder: Path, record: dict[str, Any]) -> list[dict[str, str]]:
    if "lesions" not in record.get("files", {}):
        return []
    with (folder / "lesions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not all(row.keys() >= _COLUMNS and 0 < float(row["size"]) < inf for row in rows):
        raise ValueError("the table of lesions lacks a column or a size")
    return rows


def _asset(name: str) -> str:
    return (files("monai_tpseg.report") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
