"""What a user of a session can correct."""

from __future__ import annotations

__all__ = ["SessionError"]


class SessionError(ValueError):
    """A request that a session cannot follow: one line that names the value and the way out. Nothing has changed."""
