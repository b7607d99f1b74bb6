"""Location and identity of a source, determined before it is read."""

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
    "SOURCE_FACTS",
    "UNREADABLE",
    "SourceFacts",
    "UnfitReason",
    "answer",
    "files_of_source",
    "input_identity",
    "known_parts",
    "locate",
    "source_facts",
]

SOURCE_FACTS, ANSWER = f"{__name__}:source_facts", f"{__name__}:answer"
"""`source_facts` and `answer` by name, for `monai_tpseg.subprocesses`."""

UNREADABLE = "unreadable"
"""Identity of a source that is missing or cannot be opened."""

UnfitReason = Literal["", "no image", "localizer", "screenshot"]
"""Reason why a source needs no task: it is not an image of a patient, or it is a localizer or a screenshot."""

_HASHED = 2**22  # bytes: sources up to this size are identified by content, larger ones by size and time


class SourceFacts(NamedTuple):
    """Facts about a source that is not read yet.

    Attributes:
        source: input of `LoadMedicalImage`.
        identity: see `input_identity`; "" if not requested, `UNREADABLE` if unknown.
        stamp: sizes and times of its files.
        unfit: reason why it needs no task.
        slide: whether it is a whole slide.
    """

    source: CaseSource
    identity: str
    stamp: str
    unfit: UnfitReason = ""
    slide: bool = False


def source_facts(
    path: Path,
    root: Path,
    part: str,
    files: tuple[Path, ...] = (),
    unfit: bool = False,
    slide: bool = False,
    content: bool = True,
) -> SourceFacts:
    """Locate a source below `root`.

    Args:
        path: see `locate`.
        root: see `locate`.
        part: see `locate`.
        files: see `locate`.
        unfit: whether to determine if it needs no task.
        slide: whether to determine if it is a whole slide.
        content: whether to determine its identity, which opens its files.

    Raises:
        ReadError: see `locate`.
    """
    source = locate(path, root, part, files)
    try:
        stamp = _stamp(source)
        identity = input_identity(source) if content else ""
    except OSError:
        stamp = identity = UNREADABLE  # reading reports the error
    return SourceFacts(source, identity, stamp, _unfit(source) if unfit else "", slide and _is_slide(source))


def locate(path: Path, root: Path, part: str, files: tuple[Path, ...] = ()) -> CaseSource:
    """Return the location of a source: a path, or the files of a part.

    Args:
        path: a file or a folder.
        root: the folder that must contain it.
        part: `i/n`, the i-th of n stacks; "" for the whole source.
        files: files of the part, if known.

    Raises:
        ReadError: `E_OUTSIDE`, the path or a link in it leads outside `root`; `E_NOT_FOUND`, there is no such part or
            path.
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
    except (OSError, RuntimeError) as error:  # a name that is too long, a loop of links
        raise ReadError("E_NOT_FOUND", f"The path leads nowhere ({type(error).__name__}); correct it.") from None
    except ValueError as error:
        if isinstance(error, ReadError):
            raise
        raise ReadError("E_NOT_FOUND", "The path contains a zero byte; correct it.") from None
    return source


@lru_cache(maxsize=4)
def known_parts(path: Path) -> tuple[tuple[Path, ...], ...]:
    """Return `parts_of` a folder or a DICOMDIR, determined once per process.

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
    """Return the files of a case: a file, those of a folder without its sub-folders, or the given list.

    The pixels of a MIRAX slide (`a.mrxs`) are in the folder `a` beside it.
    """
    if isinstance(source, tuple):
        return list(source)
    if source.suffix.lower() == ".mrxs" and source.with_suffix("").is_dir():
        return [source, *files_of_source(source.with_suffix(""))]
    return [path for path in source.iterdir() if path.is_file()] if source.is_dir() else [source]


def input_identity(source: CaseSource) -> str:
    """Return the identity of a source: names, sizes, and contents (small files) or times of its files.

    Pipes and devices are identified by name alone, since reading them may block or never end.

    Args:
        source: a file, the folder of one DICOM series, or the files of one stack.

    Raises:
        OSError: a file is missing or cannot be opened.
    """
    stats = sorted(((path.name, path.stat(), path) for path in files_of_source(source)), key=itemgetter(0, 2))
    small = sum(stat.st_size for _, stat, _ in stats) <= _HASHED
    parts = [
        (name, stat.st_size, file_sha256(path) if small and path.is_file() else stat.st_mtime_ns)
        for name, stat, path in stats
    ]
    return json.dumps(parts)


def answer(what: Literal["input_identity", "locate"], *arguments: Any) -> Any:
    """Return the result of a function of this module, by its name."""
    return input_identity(*arguments) if what == "input_identity" else locate(*arguments)


def _stamp(source: CaseSource) -> str:
    stats = ((str(path), path.stat()) for path in sorted(files_of_source(source)))
    return json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def _is_slide(source: CaseSource) -> bool:
    try:
        return isinstance(source, Path) and is_slide(source)
    except (OSError, ReadError):
        return False  # reading it reports the error


def _unfit(source: CaseSource) -> UnfitReason:
    """By its first image, since the files of a case are alike."""
    files: Sequence[Path] = sorted(path for path in files_of_source(source) if path.is_file())
    headers = [header for header in map(read_header, files) if header.kind == "dicom" and header.readable]
    images = [header for header in headers if header.image]
    if headers and not images:
        return "no image"
    if images and all(header.localizer for header in images):
        return "localizer"
    return "screenshot" if images and all(header.screenshot for header in images) else ""
