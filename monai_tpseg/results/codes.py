"""Outcome of a case: status, stable code and next action, without names, paths or values."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from enum import Enum

import torch

from monai_tpseg.files import FULL
from monai_tpseg.io.errors import NEXT_ACTIONS, find_read_error
from monai_tpseg.subprocesses import LOST, CallLost
from monai_tpseg.transforms.transfer import ScreenshotError

__all__ = [
    "RUN_ACTIONS",
    "DeviceLostError",
    "ExitStatus",
    "Outcome",
    "SourceChanged",
    "Status",
    "StudyError",
    "device_answers",
    "failed",
    "is_disc_full",
    "is_out_of_memory",
    "outcome_of",
]


class Status(str, Enum):
    """Status of a case."""

    OK = "ok"
    OK_EMPTY = "ok_empty"  # segmented, nothing found: a result, not an error
    REVIEW = "review"  # segmented, and to be reviewed before use
    SKIPPED = "skipped"  # deliberately not segmented
    FAILED = "failed"


class ExitStatus:
    """Exit status of a command."""

    OK = 0
    FATAL = 1  # nothing could be run
    USAGE = 2  # the command line is wrong
    PARTIAL = 3  # the run is complete, and at least one case was skipped or failed


RUN_ACTIONS: dict[str, str] = {
    "S_NO_TASK": "write the name of the task into the manifest and run again with --resume",
    "S_LOCALIZER": "leave it out: it is a localizer; segment the images that it refers to",
    "S_SCREENSHOT": "give the original image, or allow screenshots with --allow-secondary-capture and --resume",
    "S_NOT_THIS_TASK": "check the task: the picture does not resemble it; without --refuse it gets a mask to review",
    "E_TASK": "write a task of the weights into the manifest and run again with --resume",
    "E_CRASH": "the source crashes its decoder: export it again or convert it with another program",
    "E_TIMEOUT": "copy the source to a faster disk or raise --read-timeout, then run again with --resume",
    "E_MEMORY": "run again with --resume on a machine with more memory, or raise --read-memory",
    "E_WRITE": "free space in the output folder or correct its permissions, then run again with --resume",
    "E_CHANGED": "run again with --resume when the source is no longer being written",
    "E_RESULT": "delete the folder of the case, whose files are damaged, then run again with --resume",
    "E_INTERNAL": "report the code and the type of the exception; the other cases are not affected",
}
"""Codes of a run beyond those of reading -> what to do about it; a code is never renamed."""

_UNWRITABLE = FULL - {errno.EFBIG} | {errno.EROFS}  # a file above the limit of the system fails its case alone
_NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUFFT_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUSPARSE_STATUS_ALLOC_FAILED",
)  # messages of PyTorch, and of NVIDIA's libraries as passed on by PyTorch
_NO_IMAGE = frozenset({"E_NOT_IMAGE", "E_NO_PIXELS"})


class StudyError(ValueError):
    """A run cannot start or continue; the message states the value and the next action in one line."""


class DeviceLostError(StudyError):
    """A device fails every later call of this process, whatever the case."""


class SourceChanged(Exception):
    """A source was modified while it was read."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a case.

    Attributes:
        status: see `Status`.
        code: error code, or "".
        action: next action, or "".
        detail: type of an unexpected exception, never its text; reason for a missing SEG or SR; or "".
        flags: points to review, see `monai_tpseg.results.measurements.flags_of`.
    """

    status: Status
    code: str = ""
    action: str = ""
    detail: str = ""
    flags: tuple[str, ...] = field(default=())


def outcome_of(error: BaseException) -> Outcome:
    """Return the outcome of a case that ended with `error`, without the text of the exception."""
    read = find_read_error(error)
    if read is not None:
        status = Status.SKIPPED if read.code in _NO_IMAGE else Status.FAILED
        return Outcome(status, read.code, NEXT_ACTIONS[read.code])
    if isinstance(error, ScreenshotError):
        return Outcome(Status.SKIPPED, "S_SCREENSHOT", RUN_ACTIONS["S_SCREENSHOT"])
    if isinstance(error, CallLost):
        return failed(LOST[error.reason])
    if isinstance(error, SourceChanged):
        return failed("E_CHANGED")
    if is_out_of_memory(error):
        return failed("E_MEMORY")
    if isinstance(error, OSError):
        return failed("E_WRITE", type(error).__name__)
    return failed("E_INTERNAL", type(error).__name__)


def failed(code: str, detail: str = "") -> Outcome:
    """Return the outcome of a failure with a code of `RUN_ACTIONS`."""
    return Outcome(Status.FAILED, code, RUN_ACTIONS[code], detail)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory of the machine or an accelerator ran out; MONAI wraps exceptions of transforms."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError | torch.OutOfMemoryError):
            return True
        # PyTorch has no exception class for CPU memory, nor for memory requested by a GPU library
        if isinstance(seen, RuntimeError) and any(words in str(seen) for words in _NO_MEMORY):
            return True
        seen = seen.__cause__
    return False


def device_answers(device: torch.device) -> bool:
    """Return whether a device still computes: after some errors, a GPU fails every later call of its process."""
    if device.type == "cpu":
        return True
    try:
        return float(torch.ones(1, device=device).add_(1).cpu()) == 2.0
    except RuntimeError:
        return False


def is_disc_full(error: BaseException) -> bool:
    """Return whether writing has become impossible: no space, no quota, or a read-only disk."""
    return isinstance(error, OSError) and error.errno in _UNWRITABLE
