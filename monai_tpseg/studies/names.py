"""What the folders of cases are called: a keyed hash or the source's name, and the task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, get_args

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.io.kinds import stem
from monai_tpseg.io.output_names import plain_name
from monai_tpseg.results.codes import StudyError
from monai_tpseg.studies.manifest import Entry

__all__ = ["Names", "case_names", "file_stem"]

Names = Literal["salted", "source"]

_LONGEST = 120  # bytes of a source's name in that of its folder: file systems allow 255, with task and temporary name
_NO_TASK = "no_task"
_UNKNOWN = 8  # hexadecimal digits in place of a task that may be somebody's note


def case_names(
    entries: Sequence[Entry],
    names: Names = "salted",
    tasks: Collection[str] | None = TASK_NAMES,
    taken: Collection[str] = (),
) -> list[str]:
    """Return the name of each case's folder: `<source>_<task>`, so that no task overwrites what another one has given.

    Args:
        entries: that have no name yet.
        names: `salted` gives keyed hashes of sources; `source` their names without suffix, with the hash where two
            would be equal.
        tasks: names that may be shown; any other task becomes a keyed hash, as it may be somebody's note. None names
            sources without tasks.
        taken: names that are given already.

    Raises:
        StudyError: `names` is unknown.
    """
    if names not in get_args(Names):
        raise StudyError(f"Unknown names {names!r}; choose one of {', '.join(get_args(Names))}.")
    ends = ["" if tasks is None else f"_{_label(entry, tasks)}" for entry in entries]
    if names == "salted":
        return [f"{entry.source_id}{end}" for entry, end in zip(entries, ends, strict=True)]
    stems = [plain_name(stem(Path(entry.path)), _LONGEST) or "case" for entry in entries]
    met = Counter(f"{name}{end}".casefold() for name, end in zip(stems, ends, strict=True))  # some systems: a is A
    met.update(name.casefold() for name in taken)
    return [
        f"{name}{end}" if met[f"{name}{end}".casefold()] == 1 else f"{name}_{entry.source_id}{end}"
        for name, entry, end in zip(stems, entries, ends, strict=True)
    ]


def file_stem(name: str, task: str) -> str:
    """Return what the files of a case start with, before `_<task>`: the name of its folder without its task."""
    return name.removesuffix(f"_{task}")


def _label(entry: Entry, tasks: Collection[str]) -> str:
    if entry.task in tasks:
        return entry.task
    return entry.keyed(f"task {entry.task}")[:_UNKNOWN] if entry.task else _NO_TASK
