"""A file that grows by a line for every change, so that a session that is killed has lost nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from monai_tpseg.annotate.errors import SessionError
from monai_tpseg.files import write_atomically

if sys.platform != "win32":
    import fcntl

__all__ = ["Journal", "read_journal"]

_NAME = "session.jsonl"


def read_journal(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of a journal, and the bytes that they take: a last line without its end is left out.

    Args:
        folder: of the session.

    Raises:
        SessionError: there is none, or it is damaged.
    """
    try:
        data = (folder / _NAME).read_bytes()
    except OSError:
        raise SessionError(f"'{folder}' holds no saved session; give the folder that one was begun with.") from None
    length = data.rfind(b"\n") + 1
    try:
        lines = [json.loads(line) for line in data[:length].splitlines()]
    except ValueError:
        lines = []
    if not lines or not all(isinstance(line, dict) for line in lines):
        raise SessionError(f"The session in '{folder}' is damaged; begin a new one in another folder.")
    return lines, length


class Journal:
    """Appends lines, each on the disc before the next request is answered. One session writes into a folder at a time.

    The lock is kept on Linux and macOS only.

    Args:
        folder: of the session; made.
        length: bytes of the lines to go on after; None begins a new journal.

    Raises:
        SessionError: the folder holds a session already, is in use, or cannot be written.
    """

    def __init__(self, folder: Path, length: int | None = None) -> None:
        self.folder = folder
        self._lock: IO[bytes] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._claim()
            if length is None and (folder / _NAME).exists() and (folder / _NAME).stat().st_size:
                raise SessionError(f"'{folder}' holds a session; restore it, or choose another folder.")
            self._file = (folder / _NAME).open("ab", buffering=0)
            self._file.truncate(length or 0)
        except (OSError, SessionError) as error:
            self.close()
            raise error if isinstance(error, SessionError) else self._no_writing(error) from error

    def append(self, record: dict[str, Any]) -> None:
        """Add a line; if that fails, the journal is as before.

        Raises:
            SessionError: it cannot be written.
        """
        end = self._file.seek(0, os.SEEK_END)
        line = _line(record)
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError("the line was cut")
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(end)
            raise self._no_writing(error) from error

    def rewrite(self, records: Iterable[dict[str, Any]]) -> None:
        """Replace all lines, all of them or none.

        Raises:
            SessionError: it cannot be written.
        """
        try:
            write_atomically(self.folder / _NAME, b"".join(map(_line, records)))
            self._file.close()
            self._file = (self.folder / _NAME).open("ab", buffering=0)
        except OSError as error:
            raise self._no_writing(error) from error

    def close(self) -> None:
        """Let others write into the folder."""
        for file in (getattr(self, "_file", None), self._lock):
            if file is not None:
                file.close()

    def _claim(self) -> None:
        self._lock = (self.folder / ".lock").open("ab")
        if sys.platform != "win32":
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SessionError(f"'{self.folder}' is in use by another session; close that one first.") from None

    def _no_writing(self, error: OSError) -> SessionError:
        why = error.strerror or "the disc is full"
        return SessionError(f"'{self.folder}' cannot be written ({why}); free space or correct its permissions.")


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
