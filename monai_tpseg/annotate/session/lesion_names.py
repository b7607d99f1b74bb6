"""User-defined names of lesions, bound to a position and independent of their numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from monai_tpseg.annotate.session.history import LesionName
from monai_tpseg.annotate.session.session_error import SessionError

__all__ = ["check_name", "deepest", "named_lesions"]

_LONGEST = 64  # characters: the limit of a DICOM Segment Label


def check_name(name: Any) -> str:
    """Return a name with normalised spaces; "" means none.

    Raises:
        SessionError: the name is not allowed in tables, spreadsheets or DICOM.
    """
    text = " ".join(name.split()) if isinstance(name, str) else "\0"
    if text and (len(text) > _LONGEST or not text.isprintable() or "\\" in text or not text[0].isalnum()):
        raise SessionError(
            f"A lesion's name has {_LONGEST} letters at most, starts with a letter or a digit and holds no backslash."
        )
    return text


def named_lesions(names: Sequence[LesionName], number: Callable[[int, int, int], int]) -> dict[int, str]:
    """Return the names of lesions by number; a merged lesion with two names keeps the earlier one.

    Args:
        names: names in the order of naming.
        number: (slice, row, column) -> number of the lesion, or 0.
    """
    found: dict[int, str] = {}
    for one in names:
        at = number(one.index, one.row, one.column)
        if at:
            found.setdefault(at, one.name)
    return found


def deepest(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the pixel of a mask (H, W) farthest from its outline, which edits are least likely to remove."""
    inside = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(inside)), mask.shape)
    return int(row), int(column)
