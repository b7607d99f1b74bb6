"""What lies below a path, and the task that its headers propose. Nothing is decoded."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from monai_tpseg.io.discovery import HERE, Case, Look, discover, told
from monai_tpseg.io.slides import SLIDE_SUFFIXES
from monai_tpseg.studies.case import CASES
from monai_tpseg.studies.manifest import Entry, new_salt
from monai_tpseg.studies.proposals import PROPOSED_TASKS, propose

__all__ = ["find_cases", "find_entries", "scan"]

logger = logging.getLogger(__name__)

_SKIPPED = {
    "no image": "no image",
    "localizer": "localizer: it shows where the slices of other images lie",
}
_UNKNOWN = "the file does not say what it shows; name the task"
_Counted = AbstractContextManager[Callable[[int], None]]
_PATIENCE = 2.0  # seconds that a run looks for its cases before it shows so
_LOST = {  # why a process that looked at a file ended
    "E_TIMEOUT": "it took too long to read its header",
    "E_MEMORY": "its header took too much memory",
    "E_CRASH": "its header ended the process that read it",
}


def scan(source: str | Path, look: Look = HERE, quiet: bool = True) -> list[Entry]:
    """Return the cases below `source`, each with the task that its header proposes, or none and a note.

    Args:
        source: a file, a DICOM series, or a folder of files, series and folders.
        look: what touches the file system: this process, or `monai_tpseg.io.probing.LookApart`.
        quiet: no progress bar.

    Raises:
        ReadError: see `discover`.
    """
    return [_proposed(entry, case) for entry, case in _found(Path(source), "", new_salt(), look, _counted(quiet))]


def find_entries(
    source: str | Path,
    task: str = "",
    salt: str = "",
    leave_out: str | Path | None = None,
    look: Look = HERE,
    quiet: bool = True,
) -> list[Entry]:
    """Return the cases below `source` for one task.

    Args:
        source: see `scan`.
        task: name of the task of all of them.
        salt: of their ids; a new one by default.
        leave_out: an output folder, which is no input, nor are the cases in it.
        look: see `scan`.
        quiet: see `scan`.

    Raises:
        ReadError: see `discover`.
    """
    found = _found(Path(source), task, salt or new_salt(), look, _counted(quiet, _PATIENCE), leave_out)
    return [entry for entry, _ in found]


def find_cases(source: Path, salt: str, look: Look = HERE) -> list[tuple[Entry, Case]]:
    """Return the cases below `source` without a task, each with what was found.

    Args:
        source: see `scan`.
        salt: of their ids.
        look: see `scan`.

    Raises:
        ReadError: see `discover`.
    """
    return _found(source, "", salt, look, _counted(quiet=True))


def _found(
    source: Path, task: str, salt: str, look: Look, counted: _Counted, out: str | Path | None = None
) -> list[tuple[Entry, Case]]:
    path = source.absolute()  # not resolved: links inside the folder keep the names that people see
    with counted as step:
        found = discover(path, look, step, () if out is None else (Path(out), Path(out) / CASES))
    left_out = told(found.left_out)
    if left_out:
        logger.info("Left out: %s.", left_out)
    root = path.parent if all(case.path == path for case in found.cases) else path
    return [
        (
            Entry(
                case.path.relative_to(root).as_posix(),
                root,
                task,
                salt,
                modality=_modality(case),
                note=_note(case),
                part=case.part,
                files=case.files if case.part else (),
            ),
            case,
        )
        for case in sorted(found.cases, key=lambda case: case.path)  # as people list them, files and folders alike
    ]


@contextmanager
def _counted(quiet: bool, delay: float = 0.0) -> Iterator[Callable[[int], None]]:
    """A bar that is there from the first file of a folder on: what is named itself needs none."""
    interval = 0.5 if sys.stderr.isatty() else 30.0  # a log file needs no animation
    with ExitStack() as stack:
        bars = list[Any]()

        def step(files: int) -> None:
            if not bars:
                bar = tqdm(unit="file", disable=quiet, mininterval=interval, delay=delay, desc="scan")
                bars.append(stack.enter_context(bar))
            bars[0].update(files)

        yield step


def _proposed(entry: Entry, case: Case) -> Entry:
    header = case.header
    if case.skip or header is None or header.code:
        return entry
    if _modality(case) == "SM" and header.kind == "slide":
        return replace(entry, task=PROPOSED_TASKS["SM"].name)
    if header.kind != "dicom":
        return _noted(entry, _UNKNOWN)
    if header.screenshot:
        return _noted(entry, "a picture of a screen (secondary capture); name the task, and allow it to tpseg run")
    task, note = propose(header)
    return _noted(replace(entry, task=task), note)


def _noted(entry: Entry, note: str) -> Entry:
    return replace(entry, note="; ".join(filter(None, (entry.note, note))))


def _modality(case: Case) -> str:
    if case.header is None:
        return ""
    return "SM" if case.path.suffix.lower() in SLIDE_SUFFIXES else case.header.modality


def _note(case: Case) -> str:
    """What is said of a case whatever its task."""
    code = "" if case.header is None else case.header.code
    copies = f"{case.copies} copies of its files left out" if case.copies > 1 else ""
    said = _SKIPPED.get(case.skip) or _LOST.get(code, code) or case.reason
    return "; ".join(filter(None, (said, copies or case.copies * "a copy of a file left out", *case.remarks)))
