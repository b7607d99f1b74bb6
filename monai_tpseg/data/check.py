"""Checks a datalist before a training: everything that would break it, or silently spoil it."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.data.datalists import Case, DatalistError, checked_entry, read_lists
from monai_tpseg.data.facts import CaseFacts, default_workers, inspect_cases
from monai_tpseg.data.findings import TRAINING, VALIDATION, Finding, list_findings
from monai_tpseg.keys import IMAGE, LABEL, TASK

__all__ = ["CheckReport", "check_datalist"]

_SHOWN = 20  # findings of one code in the table; JSON has them all


class _Read(NamedTuple):
    section: str
    number: int
    case: Case
    facts: CaseFacts

    @property
    def where(self) -> str:
        return f"{self.section}[{self.number}]"


class CheckReport:
    """Result of a check.

    Args:
        datalist: path as given.
        tasks: rows of the table: numbers of a task by column.
        findings: errors first.
    """

    def __init__(self, datalist: str, tasks: dict[str, dict[str, Any]], findings: Sequence[Finding]) -> None:
        self.datalist, self.tasks = datalist, tasks
        self.findings = sorted(findings, key=lambda finding: finding.rank)

    @property
    def status(self) -> int:
        """The exit status of `tpseg check`: 1 with an error, 3 with a warning, else 0."""
        return {0: 1, 1: 3}.get(min((f.rank for f in self.findings), default=2), 0)

    def to_json(self) -> str:
        """Return everything as JSON."""
        findings = [finding._asdict() for finding in self.findings]
        content = {"datalist": self.datalist, "status": self.status, "tasks": self.tasks, "findings": findings}
        return json.dumps(content, indent=2)

    def markdown(self) -> str:
        """Return a table per task and one of the findings, at most 20 of a code."""
        counts = Counter(finding.level for finding in self.findings)
        lines = [f"# {Path(self.datalist).name}", "", *_task_table(self.tasks), ""]
        lines.append(", ".join(f"{level}s: {counts[level]}" for level in ("error", "warning", "note")))
        if self.findings:
            lines += ["", "| level | code | where | what |", "|---|---|---|---|", *_finding_rows(self.findings)]
        return "\n".join(lines)


def check_datalist(
    datalist: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    tasks: Sequence[str] = TASK_NAMES,
    workers: int | None = None,
    progress: bool = False,
) -> CheckReport:
    """Read every file of the lists `training` and `validation` and return what is wrong with them.

    Args:
        datalist: JSON as in `read_datalist`.
        root: folder that relative paths start from; by default that of the datalist.
        tasks: names that entries may ask for.
        workers: processes that read, default one per core.
        progress: draw a bar.

    Raises:
        DatalistError: the file is missing, no JSON, or holds no object.
    """
    content = read_lists(datalist)
    base = Path(datalist).parent if root is None else Path(root)
    findings: list[Finding] = []
    entries: list[tuple[str, int, Case]] = []
    for section in (TRAINING, VALIDATION):
        entries += _entries(content, section, base, tasks, findings)
    workers = default_workers() if workers is None else workers
    facts = inspect_cases([(case[IMAGE], case[LABEL]) for _, _, case in entries], workers, progress)
    read = [_Read(*entry, fact) for entry, fact in zip(entries, facts, strict=True)]
    lists = {name: [r.case for r in read if r.section == name] for name in (TRAINING, VALIDATION)}
    cheap = [
        finding for finding in list_findings(lists, tasks) if finding.code != "D_LEAK_FILE"
    ]  # the hashes say it too
    findings += [*_of_files(read), *cheap, *_of_masks(read, tasks), *_duplicates(read)]
    return CheckReport(str(datalist), _task_rows(read, tasks), findings)


def _entries(
    content: dict[str, Any], section: str, base: Path, tasks: Sequence[str], findings: list[Finding]
) -> list[tuple[str, int, Case]]:
    """Return the entries of a list that are complete; the others become findings."""
    listed = content.get(section)
    if not isinstance(listed, list) or not listed:
        found = ", ".join(map(str, content)) or "nothing"
        findings.append(Finding("error", "D_LIST", section, f"no entries; the file has {found}"))
        return []
    complete = []
    for index, entry in enumerate(listed):
        where = f"{section}[{index}]"
        try:
            complete.append((section, index, checked_entry(entry, (IMAGE, LABEL), where, base, tasks)))
        except DatalistError as error:
            message = " ".join(str(error).removeprefix(where).lstrip(": ").split())
            findings.append(Finding("error", "D_ENTRY", where, message))
    return complete


def _of_files(read: Sequence[_Read]) -> Iterator[Finding]:
    for one in read:
        if one.facts.code:
            yield Finding("error", one.facts.code, one.where, one.facts.message)
        elif one.section == TRAINING and len(one.facts.size) == 3:
            size = " x ".join(map(str, one.facts.size))
            message = f"a volume of {size}: training takes pictures; list its slices as pictures of their own"
            yield Finding("error", "D_VOLUME", one.where, message)


def _of_masks(read: Sequence[_Read], tasks: Sequence[str]) -> Iterator[Finding]:
    for section in (TRAINING, VALIDATION):
        for task in tasks:
            shares = [r.facts.lesion for r in read if (r.section, r.case[TASK]) == (section, task) and not r.facts.code]
            where = f"{section}, {task}"
            if shares and not any(shares):
                message = "no picture with a lesion: an empty prediction is perfect; add pictures with lesions"
                yield Finding("warning", "D_NO_LESION", where, message)
            elif 0.0 in shares:
                message = f"pictures without lesion: {shares.count(0.0)} of {len(shares)}"
                yield Finding("note", "D_EMPTY_MASK", where, message)
            if 1.0 in shares:
                message = f"masks that cover the whole picture: {shares.count(1.0)}; are they inverted?"
                yield Finding("warning", "D_FULL_MASK", where, message)


def _duplicates(read: Sequence[_Read]) -> Iterator[Finding]:
    """Same pixels across the lists, or twice for one task in a list."""
    groups: dict[str, list[_Read]] = defaultdict(list)
    for one in read:
        if one.facts.image_hash:
            groups[one.facts.image_hash].append(one)
    for group in groups.values():
        trained = next((one for one in group if one.section == TRAINING), None)
        for one in group:
            if one.section == VALIDATION and trained is not None:
                message = f"the same pixels as {trained.where}: validation would be too optimistic; remove one"
                yield Finding("warning", "D_LEAK", one.where, message)
        yield from _repeated(group)


def _repeated(group: Sequence[_Read]) -> Iterator[Finding]:
    first: dict[tuple[str, str], _Read] = {}
    for one in group:
        earlier = first.setdefault((one.section, one.case[TASK]), one)
        if earlier is one:
            continue
        if earlier.facts.label_hash != one.facts.label_hash:
            message = f"the same pixels and task as {earlier.where} with another mask; keep the right one"
            yield Finding("warning", "D_CONTRADICTION", one.where, message)
        else:
            yield Finding("warning", "D_REPEATED", one.where, f"a repetition of {earlier.where}; it counts twice")


def _task_rows(read: Sequence[_Read], tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    rows = {}
    for task in tasks:
        of_task = [r for r in read if r.case[TASK] == task]
        good = [r.facts for r in of_task if not r.facts.code]
        if not of_task:
            continue
        rows[task] = {
            **{name: sum(r.section == name for r in of_task) for name in (TRAINING, VALIDATION)},
            "unreadable": len(of_task) - len(good),
            "without_lesion": sum(facts.lesion == 0 for facts in good),
            "lesion_share_median": round(median(f.lesion for f in good), 4) if good else None,
            "smallest": list(min((f.size for f in good), key=prod)) if good else None,
            "largest": list(max((f.size for f in good), key=prod)) if good else None,
        }
    return rows


def _task_table(tasks: dict[str, dict[str, Any]]) -> list[str]:
    columns = list(next(iter(tasks.values()), {}))
    head = ["| task | " + " | ".join(column.replace("_", " ") for column in columns) + " |"]
    rows = [f"| {task} | " + " | ".join(_cell(row[column]) for column in columns) + " |" for task, row in tasks.items()]
    return [*head, "|---" * (len(columns) + 1) + "|", *rows] if tasks else ["No entry could be read."]


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return "" if value is None else str(value)


def _finding_rows(findings: Sequence[Finding]) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.code] += 1
        if seen[finding.code] <= _SHOWN:
            cells = (finding.level, finding.code, finding.where, finding.message)
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    for code, count in seen.items():
        if count > _SHOWN:
            yield f"| | {code} | | and {count - _SHOWN} more; --json lists all |"
