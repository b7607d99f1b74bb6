"""Where a case lies, and what tells it from a changed one: what must be known of a source before it is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from monai_tpseg.files import file_sha256
from monai_tpseg.io.discovery import CaseSource, parts_of
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.headers import read_header
from monai_tpseg.io.slide_detection import is_slide

__all__ = [
    "ANSWER",
    "SEE",
    "UNREADABLE",
    "Seen",
    "Unfit",
    "answer",
    "files_of_source",
    "input_identity",
    "known_parts",
    "locate",
    "see",
]

SEE, ANSWER = f"{__name__}:see", f"{__name__}:answer"
"""`see` and `answer` by name, for `monai_tpseg.subprocesses`."""

UNREADABLE = "unreadable"
"""The identity of a source that is not there or may not be opened."""

Unfit = Literal["", "no image", "localizer", "screenshot"]
"""Why a source needs no task: it is no picture of a patient, only shows where others lie, or is one of a screen."""

_HASHED = 2**22  # bytes: sources up to here are known by content, larger ones by size and time


class Seen(NamedTuple):
    """What is known of a source before it is read.

    Attributes:
        source: what `LoadMedicalImage` reads.
        identity: see `input_identity`; "" where it was not asked for, `UNREADABLE` where nothing is known.
        stamp: sizes and times of its files, which change with them.
        unfit: why it needs no task.
        slide: it is a whole slide.
    """

    source: CaseSource
    identity: str
    stamp: str
    unfit: Unfit = ""
    slide: bool = False


def see(
    path: Path,
    root: Path,
    part: str,
    files: tuple[Path, ...] = (),
    unfit: bool = False,
    slide: bool = False,
    content: bool = True,
) -> Seen:
    """Look for a source below `root`.

    Args:
        path: see `locate`.
        root: see `locate`.
        part: see `locate`.
        files: see `locate`.
        unfit: find out whether it needs no task.
        slide: find out whether it is a whole slide.
        content: find out its identity, for which files are opened.

    Raises:
        ReadError: see `locate`.
    """
    source = locate(path, root, part, files)
    try:
        stamp = _stamp(source)
        identity = input_identity(source) if content else ""
    except OSError:
        stamp = identity = UNREADABLE  # reading says why
    return Seen(source, identity, stamp, _unfit(source) if unfit else "", slide and _is_slide(source))


def locate(path: Path, root: Path, part: str, files: tuple[Path, ...] = ()) -> CaseSource:
    """Return where a source lies: a path, or the files of a part.

    Args:
        path: a file or a folder.
        root: the folder that it must lie in.
        part: `i/n`, the i-th of n stacks; "" for all of it.
        files: of the part, where they are known.

    Raises:
        ReadError: `E_OUTSIDE`, the path or a link in it leads out of `root`; `E_NOT_FOUND`, there is no such part, or
            the path leads nowhere.
    """
    try:
        real = root.resolve()
        if not path.resolve().is_relative_to(real):
            raise ReadError("E_OUTSIDE", "The path leads outside the folder of the manifest; correct it or its root.")
        source = (files or _part(path, part)) if part else path
        for file in files_of_source(source):
            if file.is_symlink() and not file.resolve().is_relative_to(real):
                raise ReadError("E_OUTSIDE", "A link of the case leads outside the folder of the manifest; remove it.")
    except PermissionError:
        raise ReadError("E_NOT_FOUND", "The source cannot be opened; check its permissions.") from None
    except (OSError, RuntimeError) as error:  # a name too long, a circle of links
        raise ReadError("E_NOT_FOUND", f"The path leads nowhere ({type(error).__name__}); correct it.") from None
    except ValueError as error:
        if isinstance(error, ReadError):
            raise
        raise ReadError("E_NOT_FOUND", "The path contains a zero byte; correct it.") from None
    return source


@lru_cache(maxsize=4)
def known_parts(path: Path) -> tuple[tuple[Path, ...], ...]:
    """Return `parts_of` a folder or an index, found once in a process.

    Raises:
        ReadError: see `parts_of`.
    """
    return parts_of(path)


def _part(path: Path, part: str) -> tuple[Path, ...]:
    number, count = (int(n) for n in part.split("/"))
    parts = known_parts(path)
    if len(parts) != count:
        raise ReadError(
            "E_NOT_FOUND", f"Stack {number} of {count} is requested, but {len(parts)} found; scan the folder again."
        )
    return parts[number - 1]


def files_of_source(source: CaseSource) -> list[Path]:
    """Return the files of a case: a file, those of a folder without its sub-folders, or those that are named.

    The pixels of a MIRAX slide (`a.mrxs`) lie in the folder `a` beside it.
    """
    if isinstance(source, tuple):
        return list(source)
    if source.suffix.lower() == ".mrxs" and source.with_suffix("").is_dir():
        return [source, *files_of_source(source.with_suffix(""))]
    return [path for path in source.iterdir() if path.is_file()] if source.is_dir() else [source]


def input_identity(source: CaseSource) -> str:
    """Return what tells a source from a changed one: names, sizes, and contents (small ones) or times of its files.

    What is no regular file is known by its name alone: a pipe would be waited for, a device read without end.

    Args:
        source: a file, the folder of one DICOM series, or the files of one stack.

    Raises:
        OSError: a file is not there or may not be opened.
    """
    stats = sorted(((path.name, path.stat(), path) for path in files_of_source(source)), key=itemgetter(0, 2))
    small = sum(stat.st_size for _, stat, _ in stats) <= _HASHED
    parts = [
        (name, stat.st_size, file_sha256(path) if small and path.is_file() else stat.st_mtime_ns)
        for name, stat, path in stats
    ]
    return json.dumps(parts)


def answer(what: Literal["input_identity", "locate"], *arguments: Any) -> Any:
    """Return what a function of this module says, by its name."""
    return input_identity(*arguments) if what == "input_identity" else locate(*arguments)


def _stamp(source: CaseSource) -> str:
    stats = ((str(path), path.stat()) for path in sorted(files_of_source(source)))
    return json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def _is_slide(source: CaseSource) -> bool:
    try:
        return isinstance(source, Path) and is_slide(source)
    except (OSError, ReadError):
        return False  # whoever reads it says what is wrong


def _unfit(source: CaseSource) -> Unfit:
    """By its first image, as the files of a case are alike."""
    files: Sequence[Path] = sorted(path for path in files_of_source(source) if path.is_file())
    headers = [header for header in map(read_header, files) if header.kind == "dicom" and header.readable]
    images = [header for header in headers if header.image]
    if headers and not images:
        return "no image"
    if images and all(header.localizer for header in images):
        return "localizer"
    return "screenshot" if images and all(header.screenshot for header in images) else ""
