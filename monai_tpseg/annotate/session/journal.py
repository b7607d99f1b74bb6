"""Append-only file with one line per change, so that a killed session loses nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from monai_tpseg.annotate.session.session_error import SessionError, no_writing
from monai_tpseg.files import complete
from monai_tpseg.parsing import json_of

if sys.platform != "win32":
    import fcntl

__all__ = ["Journal", "holds_journal", "read_journal"]

_NAME = "session.jsonl"


def holds_journal(folder: Path) -> bool:
    """Return whether a folder contains a session with at least one complete line."""
    try:
        with (folder / _NAME).open("rb") as file:
            return file.readline().endswith(b"\n")
    except FileNotFoundError:
        return False


def read_journal(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of a journal and their size in bytes, without an incomplete last line.

    Args:
        folder: folder of the session.

    Raises:
        SessionError: there is no journal, or it is damaged.
    """
    try:
        data = (folder / _NAME).read_bytes()
    except OSError:
        raise SessionError(f"'{folder}' holds no saved session; give the folder of the session.") from None
    length = data.rfind(b"\n") + 1
    try:
        lines = [json_of(line) for line in data[:length].splitlines()]
    except ValueError:
        lines = []
    if not lines or not all(isinstance(line, dict) for line in lines):
        raise SessionError(f"The session in '{folder}' is damaged; start a new one in another folder.")
    return lines, length


class Journal:
    """Append lines that are flushed to disk before the next request is answered. One session at a time uses a folder.

    The lock works on Linux and macOS only.

    Args:
        folder: folder of the session, created if necessary.
        length: size in bytes of the existing lines; None starts a new journal.

    Raises:
        SessionError: the folder already contains a session, is in use, was modified after those lines were read, or is
            not writable.
    """

    def __init__(self, folder: Path, length: int | None = None) -> None:
        self.folder = folder
        self._lock: IO[bytes] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._claim()
            if length is None and holds_journal(folder):
                raise SessionError(f"'{folder}' holds a session; restore it, or choose another folder.")
            if length is not None and read_journal(folder)[1] != length:
                raise SessionError(f"'{folder}' was changed by another session in the meantime; restore it again.")
            self._file = (folder / _NAME).open("ab", buffering=0)
            self._file.truncate(length or 0)
        except (OSError, SessionError) as error:
            self.close()
            raise error if isinstance(error, SessionError) else no_writing(self.folder, error) from error

    def append(self, record: dict[str, Any]) -> None:
        """Append a line; if that fails, the journal is unchanged.

        Raises:
            SessionError: the journal is not writable, or was closed.
        """
        self._check_open()
        end = self._file.seek(0, os.SEEK_END)
        line = _line(record)
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError("the line was cut")
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(end)
            raise no_writing(self.folder, error) from error

    def rewrite(self, records: Iterable[dict[str, Any]]) -> None:
        """Replace all lines atomically.

        Raises:
            SessionError: the journal is not writable, or was closed.
        """
        self._check_open()
        path = self.folder / _NAME
        try:
            with complete(path) as part:
                with part.open("wb") as file:
                    file.writelines(map(_line, records))
                    file.flush()
                    os.fsync(file.fileno())
                self._file.close()  # Windows cannot replace an open file
        except OSError as error:
            raise no_writing(self.folder, error) from error
        finally:
            if self._file.closed:
                self._file = path.open("ab", buffering=0)

    def close(self) -> None:
        """Release the folder."""
        for file in (getattr(self, "_file", None), self._lock):
            if file is not None:
                file.close()

    def _check_open(self) -> None:
        if self._file.closed:
            raise SessionError(f"The session in '{self.folder}' was closed; restore it to continue.")

    def _claim(self) -> None:
        self._lock = (self.folder / ".lock").open("ab")
        if sys.platform != "win32":
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SessionError(f"'{self.folder}' is in use by another session; close that one first.") from None


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
