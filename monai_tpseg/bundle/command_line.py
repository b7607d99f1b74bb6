"""The command line of a bundle: an expected error ends it with one line, and switches are words."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

from monai_tpseg.data.datalists import DatalistError
from monai_tpseg.io import ReadError
from monai_tpseg.networks.checkpoint import CheckpointError

__all__ = ["flag", "one_line", "stop"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

EXPECTED = (CheckpointError, DatalistError, ReadError, ValueError, OSError)


def one_line(check: Callable[_P, _R]) -> Callable[_P, _R]:
    """End the program with the message of an expected error alone: no traceback, status 1."""

    @wraps(check)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return check(*args, **kwargs)
        except EXPECTED as error:
            stop(error)

    return checked


def stop(error: BaseException) -> NoReturn:
    raise SystemExit(error_line(error))


def error_line(error: BaseException) -> str:
    return "Error: " + " ".join(str(error).split())


def flag(value: Any, key: str = "switch") -> bool:
    """Return a switch of a config as a bool; the command line gives `--key false` as a word.

    Args:
        value: value of the key.
        key: its name, for the error.

    Raises:
        ValueError: neither true nor false.
    """
    known = {"true": True, "false": False, "1": True, "0": False}
    if str(value).lower() not in known:
        raise ValueError(f"Unknown {key} {value!r}; choose one of true, false.")
    return known[str(value).lower()]
