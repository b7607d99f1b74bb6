"""Table cells that spreadsheets do not convert to dates, numbers or formulas."""

from __future__ import annotations

import re

__all__ = ["from_cell", "part_from_cell", "part_to_cell", "path_to_cell", "to_cell"]

_EXECUTED = "=+-@\t\r\uff1d\uff0b\uff0d\uff20"  # characters that start a formula in spreadsheets, including wide forms
_MARK = "'"
# a name that begins with a letter and has a suffix: not a number, a date or a formula
_PLAIN = re.compile(r"[^\W\d_][^\n\r]*\.[A-Za-z]{2,}")
_PART = re.compile(r"(\d+)\s*(?:/|of)\s*(\d+)", re.IGNORECASE)


def to_cell(text: str) -> str:
    """Return a text, preceded by an apostrophe if spreadsheets treat it as a formula; `from_cell` is the inverse.

    >>> to_cell("=1+1"), to_cell("a=b")
    ("'=1+1", 'a=b')
    """
    return _MARK + text if text[:1] in (*_EXECUTED, _MARK) and text else text


def from_cell(text: str) -> str:
    """Return the text that was given to `to_cell`."""
    return text[1:] if text[:1] == _MARK and text[1:2] in (*_EXECUTED, _MARK) and len(text) > 1 else text


def path_to_cell(path: str) -> str:
    """Return an equivalent relative path that neither spreadsheets nor stripping of spaces change.

    >>> path_to_cell("a/b.nii.gz"), path_to_cell("0001"), path_to_cell("=x.png"), path_to_cell("2024-01-05 ")
    ('a/b.nii.gz', './0001', './=x.png', './2024-01-05 /.')
    """
    if path.startswith(("/", "../")) and path == path.strip():
        return path
    if _PLAIN.fullmatch(path) and path == path.strip():
        return path
    return f"./{path}/." if path != path.rstrip() else f"./{path}"


def part_to_cell(part: str) -> str:
    """Return `1 of 2` for the part `1/2`, which a spreadsheet would treat as a date."""
    return part.replace("/", " of ")


def part_from_cell(text: str) -> str:
    """Return `1/2` for `1 of 2` or `1/2`; anything else unchanged."""
    found = _PART.fullmatch(text)
    return "/".join(found.groups()) if found else text
