"""What a user of a session can correct."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SessionError", "no_writing"]


class SessionError(ValueError):
    """A request that a session cannot follow: one line that names the value and the way out. Nothing has changed."""


def no_writing(folder: Path, error: OSError) -> SessionError:
    """Return what a person is told where the folder of a session cannot be written."""
    why = error.strerror or "the disc is full"
    return SessionError(f"'{folder}' cannot be written ({why}); free space or correct its permissions.")
