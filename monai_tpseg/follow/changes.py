"""Changes of lesions from study to study: the rows of the tables, and persistent names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from monai_tpseg.follow.matching import Group
from monai_tpseg.follow.visits import Visit
from monai_tpseg.io.dicom.tracking import SEGMENTS

__all__ = ["Change", "Tracker", "percent", "rows_of"]


@dataclass(frozen=True)
class Change:
    """One row of `changes.csv`.

    Attributes:
        patient: number in the order of the page, from 1; no name or identifier of the patient is written.
        task: name of the task.
        tracking_id: name of the lesion since it first appeared.
        other_ids: names of the lesions that merged with it or split from it.
        change: see `monai_tpseg.follow.matching.Change`; `all` for the sum over all lesions.
        study_a, study_b: numbers of the patient's studies in chronological order, from 1.
        days: days between them; None if a header has no date.
        case_a, case_b: names of the cases in their runs.
        lesions_a, lesions_b: numbers in their `lesions.csv`.
        size_a, size_b: total size of the lesions in `size_unit`.
        size_unit: `mm3`, or the unit of each study if they differ.
        size_percent: change in percent of the earlier size.
        diameter_a, diameter_b: diameter of the longest lesion in `diameter_unit`.
        diameter_unit: `mm`, or the unit of each study if they differ.
        diameter_percent: change in percent of the earlier diameter.
        distance_mm: distance of the centroids in mm after alignment.
    """

    patient: int
    task: str
    tracking_id: str
    other_ids: tuple[str, ...]
    change: str
    study_a: int
    study_b: int
    days: int | None
    case_a: str
    case_b: str
    lesions_a: tuple[int, ...]
    lesions_b: tuple[int, ...]
    size_a: float
    size_b: float
    size_unit: str
    size_percent: float | None
    diameter_a: float
    diameter_b: float
    diameter_unit: str
    diameter_percent: float | None
    distance_mm: float | None = None

    def cells(self) -> dict[str, Any]:
        """Return the row for a CSV: several values in a cell are separated by spaces, unknown values are empty."""
        return {
            name: " ".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else value
            for name, value in asdict(self).items()
        }


COLUMNS = tuple(one.name for one in fields(Change))


@dataclass
class Tracker:
    """Names of lesions across the studies of one patient.

    Attributes:
        names: (run, case) -> number of a lesion -> its name; cases of two runs may have the same name.
    """

    names: dict[tuple[int, str], dict[int, str]] = field(default_factory=dict)

    def of(self, visit: Visit) -> dict[int, str]:
        """Return the names of the lesions of a study, by their numbers."""
        return self.names[visit.run, visit.case]

    def begin(self, visit: Visit) -> None:
        """Give the lesions of a study new names: in the first study, or after a comparison that was not possible.

        A name already used in an earlier study, since cases of two runs may have the same name, gets the number of the
        study as a suffix: `x_2` becomes `x_2_study2`.
        """
        taken = {name for names in self.names.values() for name in names.values()}
        end = f"_study{len(self.names) + 1}"
        own = {int(row["lesion"]): own_name(row) for row in visit.rows}
        self.names[visit.run, visit.case] = {number: name + end * (name in taken) for number, name in own.items()}

    def carry(self, first: Visit, second: Visit, groups: Sequence[Group]) -> None:
        """Carry names over: merged lesions keep that of the largest, and the largest part of a split keeps its name."""
        before = self.of(first)
        self.begin(second)
        for group in groups:
            if group.first and group.second:
                self.of(second)[min(group.second)] = before[min(group.first)]  # 1 is the largest


def own_name(row: Mapping[str, str]) -> str:
    """Return the tracking id of a lesion; lesions with the same one in the DICOM segmentation are numbered."""
    shared = int(row["lesion"]) > SEGMENTS and row["tracking_id"].endswith("_others")
    return row["tracking_id"].removesuffix("others") + row["lesion"] if shared else row["tracking_id"]


def percent(before: float, after: float) -> float | None:
    """Return the change in percent of `before`; None if `before` is 0.

    >>> percent(200.0, 150.0), percent(0.0, 5.0)
    (-25.0, None)
    """
    return round(100 * (after - before) / before, 1) if before else None


def rows_of(
    patient: int, studies: tuple[int, int], first: Visit, second: Visit, groups: Sequence[Group], tracker: Tracker
) -> list[Change]:
    """Return one row per group, and one for all lesions together.

    Args:
        patient: number of the patient.
        studies: numbers of both studies.
        first: the earlier study.
        second: the later study.
        groups: groups from `match_lesions`; empty if a comparison was not possible.
        tracker: tracker with the names of both studies.
    """
    days = (second.day - first.day).days if first.day and second.day else None
    whole = Group(tuple(_numbers(first)), tuple(_numbers(second)), "matched", None)
    lines = [
        Change(
            patient=patient,
            task=first.task,
            tracking_id="" if name == "all" else _names(group, first, second, tracker)[0],
            other_ids=() if name == "all" else _names(group, first, second, tracker)[1:],
            change=name,
            study_a=studies[0],
            study_b=studies[1],
            days=days,
            case_a=first.case,
            case_b=second.case,
            lesions_a=group.first,
            lesions_b=group.second,
            **_sizes(first, second, group),
            distance_mm=group.distance,
        )
        for name, group in [("all", whole), *((group.change, group) for group in groups)]
    ]
    return lines


def _numbers(visit: Visit) -> list[int]:
    return [int(row["lesion"]) for row in visit.rows]


def _names(group: Group, first: Visit, second: Visit, tracker: Tracker) -> tuple[str, ...]:
    """Return the kept name, then the other names of both studies."""
    before = [tracker.of(first)[number] for number in sorted(group.first)]
    after = [tracker.of(second)[number] for number in sorted(group.second)]
    return tuple(dict.fromkeys([*before, *after]))


def _sizes(first: Visit, second: Visit, group: Group) -> dict[str, Any]:
    found: dict[str, Any] = {}
    units: dict[str, list[str]] = {"size": [], "diameter": []}
    for side, visit, numbers in (("a", first, group.first), ("b", second, group.second)):
        rows = [row for row in visit.rows if int(row["lesion"]) in numbers]
        found[f"size_{side}"] = round(sum(float(row["size"]) for row in rows), 3)
        found[f"diameter_{side}"] = max((float(row["diameter"]) for row in rows), default=0.0)
        for what in units:
            units[what] += [row[f"{what}_unit"] for row in rows[:1] if row[f"{what}_unit"] not in units[what]]
    for what, told in units.items():
        found[f"{what}_unit"] = " ".join(told)  # picture and volume: two units, and no percentage
        alike = len(told) < 2
        found[f"{what}_percent"] = percent(found[f"{what}_a"], found[f"{what}_b"]) if alike else None
    return found
