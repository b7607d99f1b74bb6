"""Words of messages: a number with its noun, and how an extra of this package is installed."""

from __future__ import annotations

__all__ = ["count", "how_to_install"]


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1, "case"), count(2, "case"), count(0, "other picture")
    ('1 case', '2 cases', '0 other pictures')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra of setup.cfg; the package is installed from its checkout.

    >>> how_to_install("wsi")
    "pip install -e '.[wsi]' in the checkout of monai-tpseg"
    """
    return f"pip install -e '.[{extra}]' in the checkout of monai-tpseg"
