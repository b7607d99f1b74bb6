"""What touches the file system while cases are looked for: this process, or one that may be ended."""

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
    """What touches the file system: here, or in a process that may be ended."""

    def place(self, path: Path) -> Place:
        """Return what a path leads to."""

    def real(self, path: Path) -> Path:
        """Return a path without links in it, which names the same place in one way only."""

    def folder(self, path: Path) -> Listing:
        """List a folder."""

    def index(self, path: Path) -> list[Path] | None:
        """Return the files that the index of a disc lists; None where a file is no such index."""

    def headers(self, files: Sequence[Path]) -> list[Header]:
        """Return what is known of each file."""

    def same_pixels(self, one: Path, other: Path) -> bool:
        """Say whether two DICOM files hold the same pixels."""

    def digest(self, path: Path) -> str:
        """Return a digest of the content of a file, "" where it cannot be read."""


class LocalFileAccess:
    """Looks in this process."""

    def place(self, path: Path) -> Place:
        """Return what a path leads to."""
        return place_of(path)

    def real(self, path: Path) -> Path:
        """Return a path without links in it, which names the same place in one way only."""
        return Path(os.path.realpath(path))

    def folder(self, path: Path, skip: frozenset[str] = frozenset()) -> Listing:
        """List a folder but for some names."""
        return list_folder(path, skip)

    def same(self, one: Path, other: Path) -> bool:
        """Say whether two paths lead to the same place."""
        return one.exists() and other.exists() and one.samefile(other)

    def links(self, path: Path) -> list[str]:
        """Return the names of the links in a folder."""
        return list_links(path)

    def index(self, path: Path) -> list[Path] | None:
        """Return the files that the index of a disc lists; None where a file is no such index."""
        return index_files(path) if read_safely(partial(is_disc_index, path), base_name(path)) else None

    def headers(self, files: Sequence[Path]) -> list[Header]:
        """Return what is known of each file."""
        return [read_header(path) for path in files]

    def same_pixels(self, one: Path, other: Path) -> bool:
        """Say whether two DICOM files hold the same pixels."""
        return same_pixels(one, other)

    def digest(self, path: Path) -> str:
        """Return a digest of the content of a file, "" where it cannot be read."""
        try:
            return file_sha256(path)
        except OSError:
            return ""  # reading says what is wrong


LOCAL = LocalFileAccess()
"""Looks in this process."""


ANSWER = f"{__name__}:answer"
"""`answer` by name, for `monai_tpseg.subprocesses`."""


def answer(what: str, *arguments: Any) -> Any:
    """Return what `LOCAL` says to a question, by the name of its method."""
    return getattr(LOCAL, what)(*arguments)
