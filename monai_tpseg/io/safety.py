"""Protection against untrusted files: safe sizes, names that may be shown, exceptions without file content."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from threading import get_ident
from typing import TypeVar

from monai_tpseg.files import shown
from monai_tpseg.io.errors import ReadError
from monai_tpseg.subprocesses import free_memory

__all__ = [
    "DEFLATE_RATIO",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MAX_TEXT_HEADER",
    "base_name",
    "check_size",
    "check_voxels",
    "quiet_libraries",
    "read_safely",
]

MAX_PIXELS = 2**26
"""Maximum pixels of a picture or frame, e.g. 8192 x 8192: 0.8 GB as three float32 channels."""

MAX_BYTES = 2**30
"""Maximum unpacked size of a deflated DICOM object, in bytes."""

MAX_TEXT_HEADER = 2**16
"""Maximum size of the text header of NRRD and MetaImage, in bytes."""

DEFLATE_RATIO = 1032
"""Maximum compression ratio of deflate: a file that declares more contains less than declared."""

_BYTES_PER_VOXEL = 24  # taken while a volume is read; 19.6 were measured for int16, 12 remain as three float32 channels
_ALWAYS = 2**24  # voxels that are tried in any memory: 0.4 GB
_LIBRARIES = ("PIL", "highdicom", "nibabel", "openjpeg", "pydicom", "pylibjpeg")

_Result = TypeVar("_Result")


def base_name(path: Path) -> str:
    """Return the last part of `path`, the only part that a message may show."""
    return shown(path.name or path.absolute().name or "the path")


def check_size(frame: tuple[int, int], frames: int, name: object) -> None:
    """Reject pictures and volumes of unsafe size before decoding.

    Args:
        frame: rows and columns.
        frames: number of frames or slices.
        name: name used in error messages.

    Raises:
        ReadError: `E_TOO_LARGE`.
    """
    if prod(frame) > MAX_PIXELS:
        size = " x ".join(str(n) for n in frame)
        raise ReadError("E_TOO_LARGE", f"{name} declares {size} pixels, too many to read at once; split it.")
    check_voxels((*frame, frames), name)


def check_voxels(shape: tuple[int, ...], name: object) -> None:
    """Reject a volume that does not fit into the free memory, see `free_memory`, before memory is allocated for it.

    Args:
        shape: voxels along each axis.
        name: name used in error messages.

    Raises:
        ReadError: `E_TOO_LARGE`, with the size, what it takes and what is free.
    """
    needed = prod(shape) * _BYTES_PER_VOXEL
    if needed > _ALWAYS * _BYTES_PER_VOXEL and needed > (free := free_memory()):
        size = " x ".join(str(n) for n in shape)
        raise ReadError(
            "E_TOO_LARGE",
            f"{name} has {size} voxels, which take {needed / 1e9:.1f} GB to read; {free / 1e9:.1f} GB are free; "
            "split it, resample it or give it more memory.",
        )


def read_safely(read: Callable[[], _Result], name: object) -> _Result:
    """Return `read()`; any exception becomes a `ReadError` without file content.

    Messages, causes, tracebacks and warnings of libraries repeat header values such as a patient's name and are
    suppressed. Only the type of the exception and the line that raised it are kept.

    Args:
        read: function that reads a file.
        name: name of the file in error messages.

    Raises:
        ReadError: that of `read`; `E_TOO_LARGE`, memory ran out; `E_NOT_FOUND`, the file is gone or locked;
            `E_TRUNCATED`, it ended early; `E_READ` for any other reason.
    """
    try:
        with quiet_libraries():
            return read()
    except ReadError as error:
        failure = error.with_traceback(None)
    except MemoryError:
        failure = ReadError("E_TOO_LARGE", f"{name} does not fit into memory; split it.")
    except PermissionError:
        failure = ReadError("E_NOT_FOUND", f"{name} cannot be opened; check its permissions.")
    except FileNotFoundError:
        failure = ReadError("E_NOT_FOUND", f"{name} does not exist or is incomplete; check the path.")
    except EOFError:
        failure = ReadError("E_TRUNCATED", f"{name} ends early; copy or export it again.")
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # untrusted bytes make libraries raise anything; a Rust panic is not an Exception
        failure = ReadError("E_READ", f"{name} could not be read ({_where(error)}); try it with another program.")
    failure.__cause__ = failure.__context__ = None  # they quote the header
    raise failure


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    line = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""
    return type(error).__name__ + line


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Suppress the messages of pydicom, highdicom, nibabel and PIL in this thread: they quote values and paths."""
    thread = get_ident()

    def keep_back(record: logging.LogRecord) -> bool:
        return record.thread != thread

    known = logging.root.manager.loggerDict.items()  # a filter does not apply to the children of its logger
    loggers = [log for name, log in known if name.split(".")[0] in _LIBRARIES and isinstance(log, logging.Logger)]
    for logger in loggers:
        logger.addFilter(keep_back)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(keep_back)
