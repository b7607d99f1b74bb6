"""Series that were selected for tasks, on their way through what `tpseg run` does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from monai_tpseg.io.discovery import Case
from monai_tpseg.io.probing import IsolatedFileAccess
from monai_tpseg.results.codes import Status, StudyError
from monai_tpseg.results.folder import read_result
from monai_tpseg.studies import Entry, Model, Run, known_salt, prepare_output
from monai_tpseg.studies.case import CASES
from monai_tpseg.studies.manifest import new_salt
from monai_tpseg.studies.scan import find_cases

__all__ = ["CaseResult", "SelectedSeries", "segment_selected"]


class SelectedSeries(NamedTuple):
    """A series and what it is segmented for.

    Attributes:
        task: name of the task.
        files: DICOM files of the series.
    """

    task: str
    files: tuple[Path, ...]


class CaseResult(NamedTuple):
    """What became of a case.

    Attributes:
        task: name of the task.
        status: how it ended.
        code: why it failed or was skipped, "" where it did not.
        next_action: what to do then.
        files: what was written, by kind: `mask`, `overlay`, `lesions`, `seg`, `sr`.
    """

    task: str
    status: Status
    code: str
    next_action: str
    files: dict[str, Path]


def segment_selected(
    model: Model, selected: Sequence[SelectedSeries], out: str | Path, quiet: bool = True
) -> list[CaseResult]:
    """Segment series into a folder of results, as `tpseg run --out` writes it.

    A series of several stacks is several cases. Localizers and objects without an image are no cases.

    Args:
        model: loaded once.
        selected: a series may be there several times, with different tasks.
        out: a new folder, or one of an earlier run, whose complete results stay.
        quiet: no progress bar.

    Returns:
        the cases of each series in turn.

    Raises:
        ReadError: the files cannot be looked at.
        StudyError: nothing was selected, what was selected holds no image, or nothing can be written.
    """
    entries = _entries(selected, known_salt(out) or new_salt())
    if not entries:
        raise StudyError("No selected series holds an image to segment; check the conditions of the selections.")
    names = prepare_output(out, entries, "salted", True, model.info.tasks)
    Run(model, out, resume=True, quiet=quiet)(names)
    return [_result(Path(out) / CASES / name, entry.task) for name, entry in names]


def _entries(selected: Sequence[SelectedSeries], salt: str) -> list[Entry]:
    """The cases that are found where the files lie, as `tpseg run` finds them, each with the task of its series."""
    files = {file.absolute() for one in selected for file in one.files}
    if not files:
        raise StudyError("No series was selected: none fits the conditions of the selections; nothing is guessed.")
    folder = Path(os.path.commonpath([file.parent for file in files]))
    with IsolatedFileAccess() as access:
        found = find_cases(folder, salt, access)
    asked = (
        replace(entry, task=one.task)
        for one in selected
        for entry, case in found
        if not case.skip and _belongs(case, {file.absolute() for file in one.files})
    )
    return list(dict.fromkeys(asked))  # two selections may name the same


def _belongs(case: Case, files: set[Path]) -> bool:
    return any(file.absolute() in files for file in case.files)


def _result(folder: Path, task: str) -> CaseResult:
    record = read_result(folder)
    if record is None:
        raise StudyError(f"The case {folder.name} left no record; segment it once more into another folder.")
    files = {kind: folder / name for kind, name in record.get("files", {}).items()}
    return CaseResult(task, Status(record["status"]), record["code"], record["next_action"], files)
