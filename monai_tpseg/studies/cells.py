"""Values of a table as cells that spreadsheets leave alone: no date, no number, no formula is made of them."""

from __future__ import annotations

import re

__all__ = ["from_cell", "part_from_cell", "part_to_cell", "path_to_cell", "to_cell"]

_EXECUTED = "=+-@\t\r\uff1d\uff0b\uff0d\uff20"  # what spreadsheets take for the start of a formula, wide forms too
_MARK = "'"
# a name that begins with a letter and ends with a suffix: neither a number, a date nor a formula
_PLAIN = re.compile(r"[^\W\d_][^\n\r]*\.[A-Za-z]{2,}")
_PART = re.compile(r"(\d+)\s*(?:/|of)\s*(\d+)", re.IGNORECASE)


def to_cell(text: str) -> str:
    """Return a text with an apostrophe before it where a spreadsheet would run it as a formula; `from_cell` undoes it.

    >>> to_cell("=1+1"), to_cell("a=b")
    ("'=1+1", 'a=b')
    """
    return _MARK + text if text[:1] in (*_EXECUTED, _MARK) and text else text


def from_cell(text: str) -> str:
    """Return what `to_cell` was given."""
    return text[1:] if text[:1] == _MARK and text[1:2] in (*_EXECUTED, _MARK) and len(text) > 1 else text


def path_to_cell(path: str) -> str:
    """Return a relative path that means the same and that neither a spreadsheet nor stripping of spaces changes.

    >>> path_to_cell("a/b.nii.gz"), path_to_cell("0001"), path_to_cell("=x.png"), path_to_cell("2024-01-05 ")
    ('a/b.nii.gz', './0001', './=x.png', './2024-01-05 /.')
    """
    if path.startswith(("/", "../")) and path == path.strip():
        return path
    if _PLAIN.fullmatch(path) and path == path.strip():
        return path
    return f"./{path}/." if path != path.rstrip() else f"./{path}"


def part_to_cell(part: str) -> str:
    """Return `1 of 2` for the part `1/2`, which a spreadsheet would take for a date."""
    return part.replace("/", " of ")


def part_from_cell(text: str) -> str:
    """Return `1/2` for `1 of 2` or `1/2`; anything else as it is."""
    found = _PART.fullmatch(text)
    return "/".join(found.groups()) if found else text
