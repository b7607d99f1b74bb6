"""Errors and remarks about the lists of a training, without reading pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from monai_tpseg.data.datalists import Case
from monai_tpseg.keys import IMAGE, PATIENT, TASK

__all__ = ["TRAINING", "VALIDATION", "Finding", "Level", "list_findings"]

TRAINING, VALIDATION = "training", "validation"

Level = Literal["error", "warning", "note"]
_LEVELS: tuple[Level, ...] = ("error", "warning", "note")


class Finding(NamedTuple):
    """One thing about a datalist.

    Args:
        level: `error`, training would break; `warning`, it would run and be worse than it looks; `note`, to know.
        code: a `ReadCode`, or one that starts with `D_`; codes are never renamed.
        where: entry or task.
        message: one line, with what to do.
    """

    level: Level
    code: str
    where: str
    message: str

    @property
    def rank(self) -> int:
        """0 for errors, 1 for warnings, 2 for notes."""
        return _LEVELS.index(self.level)


def list_findings(lists: Mapping[str, Sequence[Case]], tasks: Sequence[str]) -> list[Finding]:
    """Return what the entries say without a file being opened.

    Args:
        lists: checked entries under `training` and `validation`.
        tasks: names that the network will have rows for.
    """
    training, validation = lists.get(TRAINING, ()), lists.get(VALIDATION, ())
    counts = {name: Counter(str(case[TASK]) for case in lists.get(name, ())) for name in (TRAINING, VALIDATION)}
    findings = [
        finding for task in tasks for finding in _of_task(task, counts[TRAINING][task], counts[VALIDATION][task])
    ]
    absent = [task for task in tasks if not counts[TRAINING][task] and not counts[VALIDATION][task]]
    if absent:
        message = "no picture in either list: their rows stay untrained; name the tasks to train with --tasks"
        findings.append(Finding("note", "D_ABSENT_TASK", ", ".join(absent), message))
    return findings + _shared_files(training, validation) + _shared_patients(training, validation)


def _of_task(task: str, training: int, validation: int) -> list[Finding]:
    findings = []
    if training == 1:
        message = "one training picture, drawn as often as all pictures of another task together; add pictures"
        findings.append(Finding("warning", "D_ONE_PICTURE", task, message))
    if training and not validation:
        message = (
            "no validation picture: the metric that chooses the weights is the mean over the tasks of the validation "
            "list, so this task does not count in it"
        )
        findings.append(Finding("warning", "D_NO_VALIDATION", task, message))
    if validation and not training:
        message = "validated and never trained: it lowers the mean that chooses the weights; add training pictures"
        findings.append(Finding("warning", "D_NO_TRAINING", task, message))
    return findings


def _shared_files(training: Sequence[Case], validation: Sequence[Case]) -> list[Finding]:
    shared = sorted({str(c[IMAGE]) for c in training} & {str(c[IMAGE]) for c in validation})
    if not shared:
        return []
    message = f"images in both lists: {len(shared)}, e.g. {Path(shared[0]).name}; validation would be too optimistic"
    return [Finding("warning", "D_LEAK_FILE", "training and validation", message)]


def _shared_patients(training: Sequence[Case], validation: Sequence[Case]) -> list[Finding]:
    named = [{(str(c[TASK]), str(c[PATIENT])) for c in part if c.get(PATIENT)} for part in (training, validation)]
    shared = Counter(task for task, _ in named[0] & named[1])
    message = "patients with pictures in both lists: {}; validation looks better than on new patients"
    return [Finding("warning", "D_LEAK_PATIENT", task, message.format(count)) for task, count in sorted(shared.items())]
