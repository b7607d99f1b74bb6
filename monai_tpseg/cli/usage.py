"""What is wrong with a command line: one exception, which `main` answers with exit status 2."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["UsageError", "from_options", "path", "path_text"]


class UsageError(Exception):
    """A command line that is wrong whatever the files hold: nothing was started."""


def path(text: str) -> Path:
    """A file or folder of the command line: the `type` of an option.

    Raises:
        ArgumentTypeError: it is empty, which would be the current folder.
    """
    return Path(path_text(text))


def path_text(text: str) -> str:
    """A file or folder of the command line, as it was written: the `type` of an option.

    Raises:
        ArgumentTypeError: it is empty, which would be the current folder or the default.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path is empty, perhaps from an unset variable of the shell")
    return text


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
