"""The cases of an output folder in the order of the report and the tables: worst first."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import inf, log, log2
from pathlib import Path
from statistics import median
from typing import Any

from monai_tpseg.catalogue import TASK_NAMES, get_task
from monai_tpseg.report.case_tables import case_row, readable, write_tables
from monai_tpseg.report.thumbnails import LONG_SIDE, LONG_SIDE_OF_SLICES, Thumbnail, make_thumbnail
from monai_tpseg.results.codes import RUN_ACTIONS, Status, StudyError, failed
from monai_tpseg.results.folder import RESULT, read_result
from monai_tpseg.results.measurements import FLAGS, Lesion

__all__ = ["FLAG_TEXTS", "MAX_LESION_ROWS", "ORDER", "Case", "case_picture", "collect", "write_run_tables"]

logger = logging.getLogger(__name__)

ORDER = (Status.FAILED, Status.REVIEW, Status.OK_EMPTY, Status.OK, Status.SKIPPED)
"""In which the cases are listed."""
FLAG_TEXTS = {**FLAGS, "outlying_size": "much larger or smaller than the other results of its task"}
"""What each flag means; the worst first."""
MAX_LESION_ROWS = 20
"""Rows of lesions of one case."""

_FLAGS = tuple(FLAG_TEXTS)  # unlisted flags rank as the worst
_COLUMNS = {column.name for column in fields(Lesion)} - {"size_inner", "size_outer"}  # columns added later
_COMPARED = 5  # minimum number of results of a task for detecting outliers
_OUTLYING = 3.5  # threshold in robust standard deviations of the logarithm of the size
_DEVIATION = 1.4826  # median absolute deviation -> standard deviation of a normal distribution
_LEAST_DEVIATION = 0.2  # minimum deviation of the logarithm: among nearly equal sizes there are no outliers


@dataclass(frozen=True)
class Case:
    """One case of the report.

    Attributes:
        record: content of `result.json`.
        flags: flags of the record, and `outlying_size`: much larger or smaller than the other results of its task.
        picture: thumbnail of its overlay, or None.
        lesions: rows of `lesions.csv` for the largest lesions.
        size: total size of all lesions in `unit`; 0 without a lesion.
        entropy: entropy of the mean probability of the lesions in bits: 0 certain, 1 undecided.
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
        """Unit of the size; empty without a lesion."""
        return self.lesions[0]["size_unit"] if self.lesions else ""

    @property
    def total(self) -> str:
        """The total size of all lesions with a readable unit."""
        return readable(self.size, self.unit) if self.unit else ""

    @property
    def trust(self) -> dict[str, Any]:
        """The trust estimates of the mask; empty without any."""
        return {key: value for key, value in (self.record.get("trust") or {}).items() if value}

    @property
    def expected(self) -> float:
        """The expected Dice; 1 if unknown."""
        return float(self.trust.get("expected_dice", {}).get("value", 1.0))

    @property
    def folded(self) -> bool:
        """Whether the card is collapsed, since there is no mask."""
        return Status(self.record["status"]) in (Status.FAILED, Status.SKIPPED)

    @property
    def worst_first(self) -> tuple[int, int, float, float, str]:
        """The sort key of the case: status, most severe flag, expected Dice, entropy, name."""
        ranks = (_FLAGS.index(flag) if flag in _FLAGS else -1 for flag in self.flags)
        gravest = min(ranks, default=len(_FLAGS))
        status = ORDER.index(Status(self.record["status"]))
        return status, gravest, self.expected, -self.entropy, self.record["case"]

    @property
    def text(self) -> str:
        """The searchable text, in lower case."""
        words = (self.record["case"], self.record["task"], self.record["status"], self.record["code"], *self.flags)
        return " ".join(words).lower()


def collect(out: str | Path, pictures: bool = True) -> list[Case]:
    """Return the cases of an output folder, worst first, excluding folders that a run is still writing.

    A case with damaged files is listed as failed, with `E_RESULT` and the name of the file.

    Args:
        out: output folder.
        pictures: whether to read the overlays.

    Raises:
        StudyError: the folder contains no cases.
    """
    found = _collected(out, pictures)
    if not found:
        raise StudyError(f"'{out}' contains no results; give the --out of tpseg run.")
    return found


def _collected(out: str | Path, pictures: bool) -> list[Case]:
    folder = Path(out) / "cases"
    visible = [path for path in sorted(folder.iterdir()) if path.name[0] != "."] if folder.is_dir() else []
    folders = [path for path in visible if path.is_dir()]
    found = [case for path in folders if (case := _case(path, pictures)) is not None]
    return sorted(_compared(found), key=lambda case: case.worst_first)


def write_run_tables(out: str | Path, cases: Sequence[Case] | None = None) -> None:
    """Write `cases.csv` and `lesions.csv` of a whole run into its output folder; without results both have no rows.

    Args:
        out: output folder.
        cases: result of `collect`, which is called by default.
    """
    cases = _collected(out, pictures=False) if cases is None else cases
    lesions = [{"case": case.record["case"], "task": case.record["task"], **row} for case in cases for row in case.rows]
    write_tables(out, [case_row(case.record, case.flags, case.size, case.unit) for case in cases], lesions)


def _case(folder: Path, pictures: bool) -> Case | None:
    """Read a case; None if a run removes or replaces its folder meanwhile."""
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
        picture = case_picture(folder, record) if pictures else None
    except Exception:  # a decoder may raise any exception on invalid data
        return _damaged(folder, part) if folder.is_dir() else None
    return Case(record, tuple(record["flags"]), picture, rows[:MAX_LESION_ROWS], size, entropy, tuple(rows))


def _damaged(folder: Path, file: str) -> Case:
    """Return the entry of a case with unreadable files."""
    logger.warning("%s/%s is damaged: %s.", folder, Path(file).name, RUN_ACTIONS["E_RESULT"])
    outcome = failed("E_RESULT")
    texts = {"status": outcome.status.value, "code": outcome.code, "next_action": outcome.action}
    return Case({"case": folder.name, "task": "", "detail": Path(file).name, **texts}, (), None, [])


def _compared(cases: Sequence[Case]) -> list[Case]:
    """Flag results much larger or smaller than the others of their task and unit."""
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


def case_picture(folder: Path, record: dict[str, Any], long_side: int = LONG_SIDE) -> Thumbnail | None:
    """Return the thumbnail of a case's overlay, or None.

    Args:
        folder: folder of the case.
        record: content of its `result.json`.
        long_side: longer side in pixels; at least `LONG_SIDE_OF_SLICES` for an overlay of several slices.
    """
    names = record.get("files", {})
    if not names.get("overlay"):
        return None
    # scanners write names and dates into ultrasound images, but not into the region declared by a DICOM object
    modalities = record["provenance"]["model"].get("modalities", {})
    has_text = record["task"] in (*TASK_NAMES, *modalities) and (
        get_task(record["task"], modalities).modality.has_screen_text
    )
    blurred = has_text and "region" not in record.get("decisions", {})
    mask = folder / Path(names["mask"]).name
    outline = mask if mask.suffix == ".png" else None
    slices = record.get("decisions", {}).get("source_kind") == "volume"
    side = max(long_side, LONG_SIDE_OF_SLICES) if slices else long_side
    return make_thumbnail(folder / Path(names["overlay"]).name, outline, blurred, side)


def _lesions(folder: Path, record: dict[str, Any]) -> list[dict[str, str]]:
    if "lesions" not in record.get("files", {}):
        return []
    with (folder / "lesions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not all(row.keys() >= _COLUMNS and 0 < float(row["size"]) < inf for row in rows):
        raise ValueError("the lesion table lacks a column or a size")
    return rows
