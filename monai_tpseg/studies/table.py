"""Reader of CSV tables written by people and spreadsheets, with one-line error messages."""

from __future__ import annotations

import codecs
import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from monai_tpseg.results.codes import StudyError
from monai_tpseg.words import nearest

__all__ = ["Row", "read_table"]

logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        line: line number, from 1.
        cells: cells of the known columns, by column.
        extra_columns: non-empty cells of other columns, by column.
    """

    line: int
    cells: dict[str, str]
    extra_columns: tuple[tuple[str, str], ...] = ()


_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # xlsx and ods, xls
_MARK_OF_WINDOWS = codecs.BOM_UTF8.decode("cp1252")
_SEPARATORS = ",;\t"


def read_table(path: Path, columns: Sequence[str], required: str, of_windows: bool = False) -> list[Row]:
    """Return the rows of a table.

    Columns are found by name, in any order and case; other columns are kept separately, with a message. Values are
    stripped; missing values are "". Bytes that are not UTF-8 become lone surrogates, as in file names.

    Args:
        path: CSV file with a header line, separated by comma, semicolon or tab, in UTF-8, UTF-16 with byte order mark,
            or the Western European Windows code page used by some spreadsheets.
        columns: names of known columns.
        required: name of the required column.
        of_windows: take bytes that are not UTF-8 for that code page, also if lines do not end as on Windows.

    Raises:
        StudyError: the file is not such a table; the one-line message contains no cell content.
    """
    lines = _text(path, of_windows).splitlines(keepends=True)
    skipped = 1 if lines and lines[0].lower().startswith("sep=") else 0  # a separator hint written by spreadsheets
    separator = _separator(lines[skipped:], required)
    table = csv.reader(
        io.StringIO("".join(lines[skipped:]), newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    names: list[str] = []
    others: list[tuple[int, str]] = []
    rows: list[Row] = []
    try:
        for cells in table:
            line = table.line_num + skipped
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = _names(cells, columns, required, path)
                others = _others(cells, columns)
                continue
            if len(cells) > len(names) and any(cell.strip() for cell in cells[len(names) :]):
                raise StudyError(
                    f"Line {line} of '{path}' has more cells than columns; put paths with commas in quotes."
                )
            values = [cell.strip() for cell in cells] + [""] * len(names)
            found = dict(zip(names, values, strict=False))
            extra_columns = tuple((name, values[place]) for place, name in others if values[place])
            rows.append(Row(line, {column: found.get(column, "") for column in columns}, extra_columns))
    except csv.Error as error:
        line = table.line_num + skipped
        raise StudyError(
            f"Line {line} of '{path}' is not CSV: a quote is not closed, or a cell does not end."
        ) from error
    if not names:
        raise StudyError(
            f"'{path}' is empty; it needs the columns {', '.join(columns)}, of which '{required}' must be filled in."
        )
    return rows


def _separator(lines: Sequence[str], required: str) -> str:
    """The separator by which the header line contains the required name; other names may contain any separator."""
    head = next((line for line in lines if line.strip()), "").strip()
    for separator in _SEPARATORS:
        names = next(csv.reader([head], delimiter=separator, skipinitialspace=True), [])
        if required in (name.strip().casefold() for name in names):
            return separator
    return max(_SEPARATORS, key=head.count)


def _text(path: Path, of_windows: bool) -> str:
    data = path.read_bytes()
    if data.startswith(_SPREADSHEETS):
        raise StudyError(f"'{path}' is a spreadsheet; save it as 'CSV UTF-8' and give that file.")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    else:
        text = _of_windows(data, of_windows) or data.decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise StudyError(f"'{path}' contains zero bytes, so it is not text; write it again with tpseg scan.")
    if text.lstrip(' "').startswith(_MARK_OF_WINDOWS):
        raise StudyError(
            f"'{path}' is UTF-8 that a program took for Windows-1252 and saved, so names may be wrong: open the table "
            "of tpseg scan once more, with the character set UTF-8."
        )
    # a program adds the mark to a file that has it, or quotes it with the first name
    return re.sub('^\ufeff*("?)\ufeff*', r"\1", text)


def _of_windows(data: bytes, always: bool) -> str | None:
    """The text of a table saved by a spreadsheet without Unicode, or None."""
    if data.startswith(codecs.BOM_UTF8) or not (always or b"\r\n" in data):
        return None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        logger.warning(
            "The table is not UTF-8 and is read as Windows-1252; save it as 'CSV UTF-8' if names look wrong."
        )
        return data.decode("cp1252", "replace")
    return None


def _others(cells: Sequence[str], columns: Sequence[str]) -> list[tuple[int, str]]:
    """Index and name of the unknown columns; names are unique."""
    found: dict[str, int] = {}
    for place, cell in enumerate(cells):
        name = cell.strip()
        if name.casefold() not in columns:
            found[name if name and name not in found else f"{name or 'column'} {place + 1}"] = place
    return [(place, name) for name, place in found.items()]


def _names(cells: Sequence[str], columns: Sequence[str], required: str, path: Path) -> list[str]:
    names = [cell.strip().casefold() for cell in cells]
    twice = [name for name, count in Counter(names).items() if count > 1 and name in columns]
    if twice:
        raise StudyError(f"'{path}' has the column '{twice[0]}' twice; delete one of them.")
    others = 0
    for place, name in enumerate(names, start=1):
        close = nearest(name, (column for column in columns if column not in names))
        if name not in columns and close:
            raise StudyError(
                f"Column {place} of '{path}' is almost '{close}'; rename it to that, or to something else."
            )
        others += bool(name) and name not in columns
    if required not in names:
        raise StudyError(f"'{path}' has no column '{required}'; the columns are {', '.join(columns)}.")
    if others:
        logger.warning("Unknown columns are kept but not used: %d of %d.", others, len(names))
    return names
