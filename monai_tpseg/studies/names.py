"""Names of the folders of cases: a keyed hash or the name of the source, and the task."""

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
from monai_tpseg.words import choose

__all__ = ["Names", "case_names", "file_stem"]

Names = Literal["salted", "source"]

_LONGEST = 120  # maximum bytes of the source's name: file systems allow 255, including task and temporary name
_NO_TASK = "no_task"
_UNKNOWN = 8  # hexadecimal digits in place of a task that may be a private note


def case_names(
    entries: Sequence[Entry],
    names: Names = "salted",
    tasks: Collection[str] | None = TASK_NAMES,
    taken: Collection[str] = (),
) -> list[str]:
    """Return the name of the folder of each case: `<source>_<task>`, so that tasks do not overwrite each other.

    Args:
        entries: entries without a name.
        names: `salted` gives keyed hashes of sources; `source` their names without suffix, with the hash for
            duplicates.
        tasks: names that may be shown; any other task becomes a keyed hash, since it may be a private note. None names
            sources without tasks.
        taken: names already in use.

    Raises:
        StudyError: `names` is unknown.
    """
    if names not in get_args(Names):
        raise StudyError(f"Unknown names {names!r}; {choose(names, get_args(Names))}.")
    ends = ["" if tasks is None else f"_{_label(entry, tasks)}" for entry in entries]
    if names == "salted":
        return [f"{entry.source_id}{end}" for entry, end in zip(entries, ends, strict=True)]
    stems = [plain_name(stem(Path(entry.path)), _LONGEST) or "case" for entry in entries]
    met = Counter(f"{name}{end}".casefold() for name, end in zip(stems, ends, strict=True))  # as some file systems
    met.update(name.casefold() for name in taken)
    return [
        f"{name}{end}" if met[f"{name}{end}".casefold()] == 1 else f"{name}_{entry.source_id}{end}"
        for name, entry, end in zip(stems, entries, ends, strict=True)
    ]


def file_stem(name: str, task: str) -> str:
    """Return the prefix of the files of a case, before `_<task>`: the name of its folder without the task."""
    return name.removesuffix(f"_{task}")


def _label(entry: Entry, tasks: Collection[str]) -> str:
    if entry.task in tasks:
        return entry.task
    return entry.keyed(f"task {entry.task}")[:_UNKNOWN] if entry.task else _NO_TASK
