"""The cases below a path, and the tasks proposed by their headers, without decoding pixels."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from monai_tpseg.io.discovery import Case, describe_left_out, discover
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.file_access import LOCAL, FileAccess
from monai_tpseg.io.kinds import MASK_ENDING, stem
from monai_tpseg.io.safety import base_name
from monai_tpseg.studies.case import CASES
from monai_tpseg.studies.manifest import Entry, new_salt
from monai_tpseg.studies.proposals import PROPOSED_TASKS, propose
from monai_tpseg.suffixes import SLIDE_SUFFIXES

__all__ = ["find_cases", "find_entries", "scan", "scan_images"]

logger = logging.getLogger(__name__)

_SKIPPED = {
    "no image": "no image",
    "localizer": "localizer: it shows where the slices of other images lie",
}
_UNKNOWN = "the file does not say what it shows; name the task"
_Counted = AbstractContextManager[Callable[[int], None]]
_PATIENCE = 2.0  # seconds of discovery before a progress bar is shown
_LOST = {  # reasons why a process that examined a file ended
    "E_TIMEOUT": "it took too long to read its header",
    "E_MEMORY": "its header took too much memory",
    "E_CRASH": "its header ended the process that read it",
}


def scan(source: str | Path, access: FileAccess = LOCAL, quiet: bool = True) -> list[Entry]:
    """Return the cases below `source`, each with the task proposed by its header, or with a note.

    Args:
        source: a file, a DICOM series, or a folder of files, series and folders.
        access: access to the file system: in this process, or `monai_tpseg.io.probing.IsolatedFileAccess`.
        quiet: show no progress bar.

    Raises:
        ReadError: see `discover`.
    """
    return [_proposed(entry, case) for entry, case in _found(Path(source), "", new_salt(), access, _counted(quiet))]


def scan_images(source: str | Path, access: FileAccess = LOCAL, quiet: bool = True) -> tuple[list[Entry], Counter[str]]:
    """Return the cases of `scan` that can be shown as pictures or slices.

    Args:
        source: see `scan`.
        access: see `scan`.
        quiet: see `scan`.

    Returns:
        the cases, and the kind of content left out -> its count: non-image objects, whole slides, masks of pictures.

    Raises:
        ReadError: see `discover`; `E_EMPTY`, there is no image.
    """
    found = _found(Path(source), "", new_salt(), access, _counted(quiet))
    pictures = {(case.path.parent, stem(case.path)) for _, case in found}
    reasons = [_no_picture(case, pictures) for _, case in found]
    left_out = Counter(reason for reason in reasons if reason)
    entries = [_proposed(*pair) for pair, reason in zip(found, reasons, strict=True) if not reason]
    if not entries:
        raise ReadError(
            "E_EMPTY", f"{base_name(Path(source))} contains no image ({describe_left_out(left_out)}); give another."
        )
    return entries, left_out


def _no_picture(case: Case, pictures: Collection[tuple[Path, str]]) -> str:
    """The reason why a case cannot be annotated, or ""; `pictures` are folders and stems of all cases found."""
    name = stem(case.path)
    if case.skip == "no image":
        return "DICOM without an image"
    if case.header is not None and case.header.kind == "slide":
        return "whole slide"
    plain = MASK_ENDING.sub("", name)
    return "mask beside its picture" if plain != name and (case.path.parent, plain) in pictures else ""


def find_entries(
    source: str | Path,
    task: str = "",
    salt: str = "",
    leave_out: str | Path | None = None,
    access: FileAccess = LOCAL,
    quiet: bool = True,
) -> list[Entry]:
    """Return the cases below `source` for one task; localizers beside other images have none, and are skipped.

    Args:
        source: see `scan`.
        task: name of the task of all other cases.
        salt: salt of their ids; a new one by default.
        leave_out: output folder, whose content is not input.
        access: see `scan`.
        quiet: see `scan`.

    Raises:
        ReadError: see `discover`.
    """
    found = _found(Path(source), task, salt or new_salt(), access, _counted(quiet, _PATIENCE), leave_out)
    beside = any(not case.skip for _, case in found)
    return [replace(entry, task="") if beside and case.skip == "localizer" else entry for entry, case in found]


def find_cases(source: Path, salt: str, access: FileAccess = LOCAL) -> list[tuple[Entry, Case]]:
    """Return the cases below `source` without a task, each with its result of discovery.

    Args:
        source: see `scan`.
        salt: salt of their ids.
        access: see `scan`.

    Raises:
        ReadError: see `discover`.
    """
    return _found(source, "", salt, access, _counted(quiet=True))


def _found(
    source: Path, task: str, salt: str, access: FileAccess, counted: _Counted, out: str | Path | None = None
) -> list[tuple[Entry, Case]]:
    path = access.real(source.absolute())  # links inside the folder keep their visible names
    with counted as step:
        found = discover(path, access, step, () if out is None else (Path(out), Path(out) / CASES))
    left_out = describe_left_out(found.left_out)
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
        for case in sorted(found.cases, key=lambda case: case.path)  # in natural order, files and folders together
    ]


@contextmanager
def _counted(quiet: bool, delay: float = 0.0) -> Iterator[Callable[[int], None]]:
    """A progress bar from the first file of a folder; a single source needs none."""
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
    """The note of a case, independent of its task."""
    code = "" if case.header is None else case.header.code
    copies = f"{case.copies} copies of its files left out" if case.copies > 1 else ""
    said = _SKIPPED.get(case.skip) or _LOST.get(code, code) or case.reason
    return "; ".join(filter(None, (said, copies or case.copies * "a copy of a file left out", *case.remarks)))
