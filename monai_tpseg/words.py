"""Words of messages: a number with its noun, and how an extra of this package is installed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["ALIKE", "choose", "count", "how_to_install", "nearest"]

ALIKE = 0.7
"""Similarity (`difflib`) of two names from which one may be a typo of the other."""


def nearest(name: object, names: Iterable[object], alike: float = ALIKE) -> str:
    """Return the one of `names` that `name` resembles most, whatever its case, or "" if it resembles none.

    >>> nearest("Skin_leson", ["skin_lesion", "colon_polyp"]), nearest("heart", ["skin_lesion"])
    ('skin_lesion', '')
    """
    known = {str(one).casefold(): str(one) for one in names}
    return "".join(known[one] for one in difflib.get_close_matches(str(name).casefold(), known, 1, alike))


def choose(name: object, names: Iterable[object]) -> str:
    """Return the part of a message that says what could be given instead of `name`: the nearest first.

    >>> choose("heart", ["cpu", "cuda"]), choose("cudda", ["cpu", "cuda"])
    ('choose one of cpu, cuda', 'did you mean cuda? Choose one of cpu, cuda')
    """
    listed = [str(one) for one in names]
    close = nearest(name, listed)
    return f"did you mean {close}? Choose one of {', '.join(listed)}" if close else f"choose one of {', '.join(listed)}"


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
