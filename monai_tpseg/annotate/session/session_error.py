"""Errors that the user of a session can correct."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SessionError", "no_writing"]


class SessionError(ValueError):
    """Invalid request to a session: one line with the value and the next action. The session is unchanged."""


def no_writing(folder: Path, error: OSError) -> SessionError:
    """Return the error for a folder of a session that is not writable."""
    why = error.strerror or "the disk is full"
    return SessionError(f"'{folder}' cannot be written ({why}); free space or correct its permissions.")
