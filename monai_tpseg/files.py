"""Writing files so that a reader, or a run killed at any moment, never leaves or sees half of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["complete", "write_atomically"]


@contextmanager
def complete(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`, and `path` its content once all of it is written; folders are made.

    Args:
        path: the file to write or replace, or a folder that is not there. The temporary name keeps its suffix, which
            some writers go by.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` through `complete`."""
    with complete(path) as part:
        part.write_bytes(data)
