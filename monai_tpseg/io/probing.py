"""Discovery in a process that may be terminated: a source that hangs or crashes it loses only itself."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from monai_tpseg.io.file_access import ANSWER
from monai_tpseg.io.headers import Header
from monai_tpseg.io.listing import Listing, Place
from monai_tpseg.io.safety import base_name
from monai_tpseg.subprocesses import LOST, CallLost, ChildProcess, available_memory

__all__ = ["IsolatedFileAccess"]

logger = logging.getLogger(__name__)

_PATIENCE = 3  # unresponsive files of a folder after which its other files are not tried


class IsolatedFileAccess:
    """Access to the file system in another process, see `monai_tpseg.io.file_access.FileAccess`.

    Each lost source is logged in one line.

    Args:
        seconds: time limit of a call for a folder or some of its files.
        memory: memory limit of the process in bytes; half of the machine's by default.
    """

    def __init__(self, seconds: float = 60.0, memory: int | None = None) -> None:
        self._seconds = seconds
        self._process = ChildProcess(ANSWER, seconds, available_memory() // 2 if memory is None else memory)
        self._lost: Counter[Path] = Counter()

    def __enter__(self) -> IsolatedFileAccess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def place(self, path: Path) -> Place:
        """Return the kind of object at a path."""
        try:
            place: Place = self._ask("place", path)
        except CallLost:
            return "silent"  # the caller reports it
        return place

    def real(self, path: Path) -> Path:
        """Return the canonical path; without an answer the path unchanged, which the next access reports."""
        try:
            found: Path = self._ask("real", path)
        except CallLost:
            return path
        return found

    def folder(self, path: Path) -> Listing:
        """List a folder; a link whose target does not respond is left out."""
        try:
            listed: Listing = self._ask("folder", path)
        except CallLost as error:
            return self._without_links(path, error)
        return listed

    def same(self, one: Path, other: Path) -> bool:
        """Return whether two paths are the same file or folder."""
        try:
            return bool(self._ask("same", one, other))
        except CallLost:
            return False  # the next call reports it

    def index(self, path: Path) -> list[Path] | None:
        """Return the files listed by a DICOMDIR, or None if the file is not a DICOMDIR."""
        try:
            files: list[Path] | None = self._ask("index", path)
        except CallLost as error:
            self._tell(path, error)
            return None
        return files

    def headers(self, files: Sequence[Path]) -> list[Header]:
        """Return the header of each file, in one call, or one by one if that does not finish."""
        try:
            headers: list[Header] = self._ask("headers", list(files))
        except CallLost:
            return [self._header(path) for path in files]
        return headers

    def same_pixels(self, one: Path, other: Path) -> bool:
        """Return whether two DICOM files have equal pixels."""
        try:
            return bool(self._ask("same_pixels", one, other))
        except CallLost:
            return False  # both are kept, and reading reports the error

    def digest(self, path: Path) -> str:
        """Return a digest of the content of a file, or "" if it cannot be read."""
        try:
            return str(self._ask("digest", path))
        except CallLost as error:
            self._tell(path, error)
            return ""

    def _ask(self, what: str, *arguments: Any) -> Any:
        self._process.send(what, *arguments)
        return self._process.receive().value

    def _header(self, path: Path) -> Header:
        if self._lost[path.parent] >= _PATIENCE:
            return Header(path, code="E_TIMEOUT")
        try:
            (header,) = self._ask("headers", [path])
        except CallLost as error:
            self._tell(path, error)
            self._lost[path.parent] += error.reason == "timeout"
            return Header(path, code=LOST[error.reason])
        return Header(*header)

    def _without_links(self, folder: Path, lost: CallLost) -> Listing:
        try:
            links = self._ask("links", folder)
            silent = [name for name in links if self._silent(folder / name)]
            listed: Listing = self._ask("folder", folder, frozenset(silent))
        except CallLost:
            self._tell(folder, lost)
            raise OSError(f"the folder did not answer: {lost.reason}") from None
        listed.left_out["link that does not answer"] += len(silent)
        return listed

    def _silent(self, link: Path) -> bool:
        try:
            self._ask("place", link)
        except CallLost as error:
            self._tell(link, error)
            return True
        return False

    def _tell(self, path: Path, error: CallLost) -> None:
        why = {"timeout": f"did not answer within {self._seconds:g} s", "memory": "took too much memory"}
        logger.warning("%s %s and is left out.", base_name(path), why.get(error.reason, "ended its process"))
