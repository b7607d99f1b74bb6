"""Validation of external values before they take effect."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from monai_tpseg.annotate.session.session_error import SessionError

__all__ = [
    "check_flag",
    "check_index",
    "check_number",
    "check_pixel",
    "check_point",
    "check_points",
    "check_steps",
    "check_window",
]

_HUGE = 10**12  # Python refuses to print very long integers
_SHOWN = 60  # maximum characters of a value in a message
_LONGEST = 100_000  # maximum points of a line; a drawn one has a few hundred


def check_index(index: Any, depth: int, what: str = "slice") -> int:
    """Return `index` if it is one of `depth` slices (or other items), counted from 0.

    Raises:
        SessionError: it is not.
    """
    if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < depth:
        numbers = f"there are 0 to {depth - 1}" if depth else "there is none"
        raise SessionError(f"There is no {what} {_short(index)}; {numbers}.")
    return int(index)


def check_flag(value: Any, name: str) -> bool:
    """Return `value` if it is a bool.

    Raises:
        SessionError: it is anything else, e.g. -1 for a negative click.
    """
    if not isinstance(value, bool | np.bool_):
        raise SessionError(f"{name} must be True or False, got {_short(value)}.")
    return bool(value)


def check_point(row: Any, column: Any) -> tuple[float, float]:
    """Return a point if it consists of two finite numbers.

    Raises:
        SessionError: it does not.
    """
    if not (_is_number(row) and _is_number(column)):
        raise SessionError(
            f"A click is a row and a column, two finite numbers, got {_short(row)} and {_short(column)}."
        )
    return float(row), float(column)


def check_points(points: Any) -> list[tuple[float, float]]:
    """Return the points of a line.

    Raises:
        SessionError: the line is empty, has too many points, or one is not a pair of finite numbers.
    """
    if not _is_list(points) or not 0 < len(points) <= _LONGEST:
        raise SessionError(f"A scribble is a list of 1 to {_LONGEST} points (row, column).")
    for point in points:
        if not _is_list(point) or len(point) != 2:
            raise SessionError(f"A point of a scribble is a row and a column, got {_short(point)}.")
    return [check_point(row, column) for row, column in points]


def check_number(value: Any, above: float, most: float, what: str) -> float:
    """Return `value` if it is a number above `above` and at most `most`.

    Raises:
        SessionError: it is not.
    """
    if not _is_number(value) or not above < value <= most:
        raise SessionError(f"{what} is a number above {above:g} and at most {most:g}, got {_short(value)}.")
    return float(value)


def check_pixel(row: Any, column: Any, shape: tuple[int, int]) -> tuple[int, int]:
    """Return a pixel of a picture of `shape` (H, W).

    Raises:
        SessionError: it lies outside the picture.
    """
    return check_index(row, shape[0], "row"), check_index(column, shape[1], "column")


def check_window(window: Any) -> tuple[float, float]:
    """Return a window: the values shown as black and white.

    Raises:
        SessionError: it is not two finite numbers in ascending order.
    """
    pair = list(window) if _is_list(window) else []
    if len(pair) != 2 or not all(_is_number(value) for value in pair) or not pair[0] < pair[1]:
        raise SessionError(f"A window is two finite numbers, the lower one first, got {_short(window)}.")
    return float(pair[0]), float(pair[1])


def check_steps(steps: Any, direction: Any) -> tuple[int, int]:
    """Return the number of steps and the direction of a propagation.

    Raises:
        SessionError: the number is negative, or the direction is not 1 or -1.
    """
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 0 or direction not in (1, -1):
        raise SessionError(
            f"Propagation takes 0 or more steps in direction 1 or -1, got {_short(steps)} and {_short(direction)}."
        )
    return int(steps), int(direction)


def _is_list(value: Any) -> bool:
    return (
        isinstance(value, Sequence | np.ndarray)
        and not isinstance(value, str | bytes)
        and getattr(value, "ndim", 1) > 0
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return abs(value) <= sys.float_info.max if isinstance(value, int) else math.isfinite(value)


def _short(value: Any) -> str:
    """Return a value for a message, on one line and truncated."""
    text = repr(value) if not isinstance(value, int) or abs(value) < _HUGE else "a huge number"
    return " ".join(text.split())[:_SHOWN]
