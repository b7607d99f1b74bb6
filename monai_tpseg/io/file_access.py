"""Access to the file system during discovery, in this process or in one that may be terminated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from monai_tpseg.files import file_sha256
from monai_tpseg.io.dicom.index import index_files, is_disc_index
from monai_tpseg.io.dicom.split import same_pixels
from monai_tpseg.io.headers import Header, read_header
from monai_tpseg.io.listing import Listing, Place, list_folder, list_links, place_of
from monai_tpseg.io.safety import base_name, read_safely

__all__ = ["ANSWER", "LOCAL", "FileAccess", "LocalFileAccess", "answer"]


class FileAccess(Protocol):
    """Access to the file system, in this process or in one that may be terminated."""

    def place(self, path: Path) -> Place:
        """Return the kind of object at a path."""

    def real(self, path: Path) -> Path:
        """Return the canonical path, without links."""

    def folder(self, path: Path) -> Listing:
        """List a folder."""

    def index(self, path: Path) -> list[Path] | None:
        """Return the files listed by a DICOMDIR, or None if the file is not a DICOMDIR."""

    def headers(self, files: Sequence[Path]) -> list[Header]:
        """Return the header of each file."""

    def same_pixels(self, one: Path, other: Path) -> bool:
        """Return whether two DICOM files have equal pixels."""

    def digest(self, path: Path) -> str:
        """Return a digest of the content of a file, or "" if it cannot be read."""


class LocalFileAccess:
    """Access to the file system in this process."""

    def place(self, path: Path) -> Place:
        """Return the kind of object at a path."""
        return place_of(path)

    def real(self, path: Path) -> Path:
        """Return the canonical path, without links."""
        return Path(os.path.realpath(path))

    def folder(self, path: Path, skip: frozenset[str] = frozenset()) -> Listing:
        """List a folder, except for some names."""
        return list_folder(path, skip)

    def same(self, one: Path, other: Path) -> bool:
        """Return whether two paths are the same file or folder."""
        return one.exists() and other.exists() and one.samefile(other)

    def links(self, path: Path) -> list[str]:
        """Return the names of the links in a folder."""
        return list_links(path)

    def index(self, path: Path) -> list[Path] | None:
        """Return the files listed by a DICOMDIR, or None if the file is not a DICOMDIR."""
        return index_files(path) if read_safely(partial(is_disc_index, path), base_name(path)) else None

    def headers(self, files: Sequence[Path]) -> list[Header]:
        """Return the header of each file."""
        return [read_header(path) for path in files]

    def same_pixels(self, one: Path, other: Path) -> bool:
        """Return whether two DICOM files have equal pixels."""
        return same_pixels(one, other)

    def digest(self, path: Path) -> str:
        """Return a digest of the content of a file, or "" if it cannot be read."""
        try:
            return file_sha256(path)
        except OSError:
            return ""  # reading reports the error


LOCAL = LocalFileAccess()
"""Access to the file system in this process."""


ANSWER = f"{__name__}:answer"
"""`answer` by name, for `monai_tpseg.subprocesses`."""


def answer(what: str, *arguments: Any) -> Any:
    """Return the result of a method of `LOCAL`, by its name."""
    return getattr(LOCAL, what)(*arguments)
