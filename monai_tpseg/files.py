"""Writing files so that a reader, or a run killed at any moment, never leaves or sees half of one."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "FULL",
    "check_folder",
    "check_writable",
    "complete",
    "file_sha256",
    "shown",
    "sweep",
    "threads_in_one_line",
    "write_atomically",
]

logger = logging.getLogger(__name__)

FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
"""Numbers of the errors of a system that has no room left."""

_PROBE = 1 << 20  # bytes, more than any writer keeps in its buffer
_SYSTEM = re.compile(r"\(os error (\d+)\)")  # of programs in Rust
_KEPT = 40  # characters of a name in its temporary one, which may be no longer than a name can be


@contextmanager
def complete(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`, and `path` its content once all of it is written; folders are made.

    Args:
        path: the file to write or replace, or a folder that is not there. The temporary name keeps its suffix, which
            some writers go by.

    Raises:
        OSError: the disc is full or refuses; it names `path`, also where a compiled writer gives no cause.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unique = secrets.token_hex(8)  # numbers of processes repeat in containers
    temporary = target.with_name(f".{unique}-{target.name[-_KEPT:]}")
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        named = (error.filename, error.filename2)  # writers of pictures and arrays name none, copies name two
        if error.errno is not None and (named[0] is None or os.fspath(temporary) in map(str, named)):
            error.filename, error.filename2 = os.fspath(target), None  # nobody knows the temporary name
        raise
    except ValueError:  # the writer says itself what is wrong
        raise
    except Exception as error:
        refused = _refusal(error, temporary)
        if refused is None:
            raise
        raise OSError(refused, os.strerror(refused), os.fspath(target)) from error
    finally:
        with suppress(OSError):  # renamed; or the disc became read-only, which the error in flight says
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink()


def _refusal(error: Exception, temporary: Path) -> int | None:
    """Return the number of the system's error behind that of a compiled writer, which holds none: a full disc, mostly.

    safetensors writes it into its message and removes its file; ITK and PyTorch say no more than that writing failed.
    """
    if named := _SYSTEM.search(str(error)):
        return int(named[1])
    probe = temporary / "probe" if temporary.is_dir() else temporary
    try:
        with probe.open("ab") as stream:
            stream.write(bytes(_PROBE))
    except OSError as refused:
        return refused.errno
    return None


@contextmanager
def threads_in_one_line() -> Iterator[None]:
    """A disc that is full or read-only and ends a thread of a library is logged as one line, not as a traceback."""
    before = threading.excepthook

    def ended(args: threading.ExceptHookArgs) -> None:
        error = args.exc_value
        if not isinstance(error, OSError) or error.errno not in (*FULL, errno.EROFS):
            before(args)
            return
        where = f" '{error.filename}'" if error.filename else ""
        logger.error("Cannot write%s: %s.", where, error.strerror)

    threading.excepthook = ended
    try:
        yield
    finally:
        threading.excepthook = before


def sweep(path: str | os.PathLike[str]) -> int:
    """Remove what writers of `path` that were killed left beside it; nobody else may be writing it now.

    Returns:
        how many files were removed.
    """
    target = Path(path)
    end = f"-{target.name[-_KEPT:]}"
    left = [file for file in target.parent.glob(".*") if file.name.endswith(end) and file.is_file()]
    for file in left:
        file.unlink(missing_ok=True)
    return len(left)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` through `complete`."""
    with complete(path) as part:
        part.write_bytes(data)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Try a file where `path` is to lie, so that long work does not end without a place for its result.

    Args:
        path: the file to write.

    Raises:
        OSError: nothing can be written there; one line says so.
    """
    target = Path(path).absolute()
    check_folder(target.parent, path, "--out")
    if target.is_dir():
        raise IsADirectoryError(f"'{path}' is a folder; give a file with --out.")


def check_folder(folder: str | os.PathLike[str], given: str | os.PathLike[str], option: str) -> None:
    """Try whether a folder, or the nearest one above that exists, takes a file of 1 MiB, which is removed again.

    The folder itself is not made: whatever else stops the command leaves nothing behind.

    Args:
        folder: to write into, there or not.
        given: the path that the user gave.
        option: that it was given with.

    Raises:
        OSError: nothing can be written there; one line says so.
    """
    chosen = Path(folder).absolute()
    try:
        nearest = next(one for one in (chosen, *chosen.parents) if one.exists())
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with tempfile.TemporaryFile(dir=nearest) as probe:
            probe.write(bytes(_PROBE))
    except OSError as error:
        raise OSError(f"'{given}' cannot be written ({error.strerror}); choose another {option}.") from error


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the hexadecimal sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def shown(text: str) -> str:
    """Return a text that a terminal shows and does not obey: names of files may hold escape sequences.

    >>> print(shown("a" + chr(27) + "[2Jb"))
    a\\x1b[2Jb
    """
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)
