"""What comes from outside is checked before anything happens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from monai_tpseg.annotate.errors import SessionError

__all__ = ["check_flag", "check_index", "check_point", "check_points", "check_steps"]

_LONGEST = 100_000  # points of a line; a hand draws a few hundred


def check_index(index: Any, depth: int, what: str = "slice") -> int:
    """Return `index` if it is the number of one of `depth` slices (or of something else).

    Raises:
        SessionError: it is not.
    """
    if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < depth:
        numbers = f"there are 0 to {depth - 1}" if depth else "there is none"
        raise SessionError(f"There is no {what} {index!r}; {numbers}.")
    return int(index)


def check_flag(value: Any, name: str) -> bool:
    """Return `value` if it is true or false.

    Raises:
        SessionError: it is anything else, e.g. -1 for a click outside.
    """
    if not isinstance(value, bool | np.bool_):
        raise SessionError(f"{name} must be True or False, got {value!r}.")
    return bool(value)


def check_point(row: Any, column: Any) -> tuple[float, float]:
    """Return a place if it consists of two finite numbers.

    Raises:
        SessionError: it does not.
    """
    for value in (row, column):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
            raise SessionError(f"A click is a row and a column, two finite numbers, got {row!r} and {column!r}.")
    return float(row), float(column)


def check_points(points: Any) -> list[tuple[float, float]]:
    """Return the points of a line.

    Raises:
        SessionError: there is none, there are too many, or one is no pair of finite numbers.
    """
    if not _is_list(points) or not 0 < len(points) <= _LONGEST:
        raise SessionError(f"A scribble is a list of 1 to {_LONGEST} points (row, column).")
    for point in points:
        if not _is_list(point) or len(point) != 2:
            raise SessionError(f"A point of a scribble is a row and a column, got {point!r}.")
    return [check_point(row, column) for row, column in points]


def check_steps(steps: Any, direction: Any) -> tuple[int, int]:
    """Return the number of steps and the direction of a propagation.

    Raises:
        SessionError: a negative number, or another direction than 1 and -1.
    """
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 0 or direction not in (1, -1):
        raise SessionError(f"Propagation takes 0 or more steps in direction 1 or -1, got {steps!r} and {direction!r}.")
    return int(steps), int(direction)


def _is_list(value: Any) -> bool:
    return (
        isinstance(value, Sequence | np.ndarray)
        and not isinstance(value, str | bytes)
        and getattr(value, "ndim", 1) > 0
    )
