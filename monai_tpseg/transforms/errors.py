"""What a failed reading says: a stable code, what was found, and what to do next, in one line."""

from __future__ import annotations

import re
from typing import Literal, get_args

__all__ = ["READ_CODES", "ReadCode", "ReadError", "find_read_error"]

ReadCode = Literal[
    "E_NOT_FOUND",  # no such file or folder
    "E_EMPTY",  # a folder without anything readable
    "E_FORMAT",  # not a format (or variant of one) that is read
    "E_DECODE",  # the format is known, its content is damaged or needs a codec that is missing
    "E_TRUNCATED",  # the file ends before its pixels do
    "E_TOO_LARGE",  # a picture beyond the safe size for reading at once
    "E_NO_PIXELS",  # a valid file without a usable pixel
    "E_NOT_IMAGE",  # pixels that are not a picture of a patient: segmentation, dose
    "E_VIDEO",  # a video transfer syntax
    "E_4D",  # several time points or channels where one volume is needed
    "E_GEOMETRY",  # positions or directions that are missing or do not form a grid
    "E_SERIES_MIXED",  # several series, sizes or orientations in one folder
    "E_SERIES_DUPLICATE",  # two slices at one position
    "E_SERIES_GAP",  # unequal distances between slices
    "E_SERIES_TILT",  # slices stacked obliquely: gantry tilt
    "E_LABEL_VALUES",  # a label that is not a mask
    "E_SHAPE_MISMATCH",  # a label of another size than its image
]

READ_CODES: tuple[ReadCode, ...] = get_args(ReadCode)
"""Every code that a `ReadError` can carry; a code is never renamed."""

_IN_TEXT = re.compile(r"(?:ReadError: )?(?P<message>[^\n]*) \[(?P<code>E_[A-Z0-9_]+)\]")


class ReadError(ValueError):
    """A source that cannot be read as asked.

    Args:
        code: one of `READ_CODES`, stable across versions.
        message: one line: what, the value, the next action.
    """

    code: ReadCode
    message: str

    def __init__(self, code: ReadCode, message: str) -> None:
        self.code = code
        self.message = " ".join(message.split())
        super().__init__(f"{self.message} [{code}]")

    def __reduce__(self) -> tuple[type[ReadError], tuple[ReadCode, str]]:
        return type(self), (self.code, self.message)  # pickled whole by the workers of a DataLoader


def find_read_error(error: BaseException) -> ReadError | None:
    """Return the `ReadError` that `error` comes from, None if there is none.

    MONAI's `Compose` wraps what a transform raises; a DataLoader worker passes on nothing but the text.

    Args:
        error: any exception.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ReadError):
            return seen
        seen = seen.__cause__ or seen.__context__
    for found in _IN_TEXT.finditer(str(error)):
        for code in READ_CODES:
            if code == found["code"]:
                return ReadError(code, found["message"].split("ReadError: ")[-1])
    return None
