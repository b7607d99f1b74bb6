"""The tables of a whole run: one row per case, and one row per lesion."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_tpseg.files import write_atomically

__all__ = ["CASES_CSV", "LESIONS_CSV", "case_row", "readable", "write_tables"]

CASES_CSV, LESIONS_CSV = "cases.csv", "lesions.csv"
"""Names of the tables in an output folder."""

_COLUMNS = ("case", "task", "status", "code", "flags", "lesions", "voxels", "size", "size_unit", "expected_dice",
            "expected_dice_low", "expected_dice_high", "not_this_task_score", "not_this_task_limit", "inner_voxels",
            "outer_voxels")  # fmt: skip
_LARGER = {"mm3": (1000.0, "ml"), "um2": (1e6, "mm2")}


def readable(size: str | float, unit: str) -> str:
    """Return a size with a readable unit.

    >>> readable(12345.6, "mm3"), readable(3.14159, "mm2"), readable("250000", "um2"), readable(840, "px")
    ('12.3 ml', '3.14 mm2', '0.25 mm2', '840 px')
    """
    value = float(size)
    divisor, larger = _LARGER.get(unit, (1.0, unit))
    if not value or value >= divisor / 10:
        value, unit = value / divisor, larger
    return f"{value:,.0f} {unit}" if value >= 100 or unit == "px" else f"{value:.3g} {unit}"


def case_row(record: Mapping[str, Any], flags: Iterable[str], size: float, unit: str) -> dict[str, Any]:
    """Return the row of a case, with empty cells for unknown values.

    Args:
        record: content of `result.json`.
        flags: flags of the case.
        size: total size of all lesions in `unit`.
        unit: unit of the size, "" without a lesion.
    """
    trust = record.get("trust") or {}
    dice, other, contours = (trust.get(key) or {} for key in ("expected_dice", "not_this_task", "contours"))
    known = {
        **{key: record.get(key, "") for key in ("case", "task", "status", "code", "lesions", "voxels")},
        **{"flags": " ".join(flags), "size": round(size, 3) if unit else "", "size_unit": unit},
        **{"expected_dice": dice.get("value"), "expected_dice_low": dice.get("low")},
        **{"expected_dice_high": dice.get("high"), "not_this_task_score": other.get("score")},
        **{"not_this_task_limit": other.get("limit"), "inner_voxels": contours.get("inner_voxels")},
        "outer_voxels": contours.get("outer_voxels"),
    }
    return {column: known[column] for column in _COLUMNS}


def write_tables(
    out: str | Path, cases: Sequence[Mapping[str, Any]], lesions: Sequence[Mapping[str, Any]]
) -> tuple[Path, Path]:
    """Write both tables into an output folder and return their paths.

    Args:
        out: output folder.
        cases: rows from `case_row`.
        lesions: rows of all `lesions.csv`, with `case` and `task`.
    """
    columns = list(dict.fromkeys(["case", "task", *(key for row in lesions for key in row)]))
    paths = Path(out) / CASES_CSV, Path(out) / LESIONS_CSV
    for path, rows, names in zip(paths, (cases, lesions), (_COLUMNS, columns), strict=True):
        text = io.StringIO()
        table = csv.DictWriter(text, names, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_atomically(path, text.getvalue().encode(errors="replace"))
    return paths
