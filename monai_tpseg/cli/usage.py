"""What is wrong with a command line: one exception, which `main` answers with exit status 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["UsageError", "check_paths", "from_options", "path"]

_PATHS = frozenset(
    ("input", "out", "outs", "data", "source", "images", "masks", "exemplars", "lists", "suite", "results", "runs")
)
"""Where the parser keeps files and folders that must be named; `""` would be the current folder."""

_EMPTY = "A path is empty: give the file or folder; is a variable of the shell unset?"


class UsageError(Exception):
    """A command line that is wrong whatever the files hold: nothing was started."""


def check_paths(options: Mapping[str, Any]) -> None:
    """Refuse a file or folder without a name, as an unset variable of a shell gives it.

    Args:
        options: what the parser found, by name.

    Raises:
        UsageError: a path is empty.
    """
    for name in _PATHS & options.keys():
        given = options[name]
        if "" in (given if isinstance(given, list) else [given]):
            raise UsageError(_EMPTY)


def path(text: str) -> Path:
    """A path of the command line, for the parser.

    Raises:
        UsageError: it is empty.
    """
    if not text:
        raise UsageError(_EMPTY)
    return Path(text)


@contextmanager
def from_options() -> Iterator[None]:
    """Make of the options what the work needs; a value that it refuses is a fault of the command line.

    Raises:
        UsageError: a value was refused.
    """
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{error}") from error
