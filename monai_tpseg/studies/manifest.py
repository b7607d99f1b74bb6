"""The list of cases of a run: the only file with paths, and with the salt that turns paths into case names."""

from __future__ import annotations

import codecs
import csv
import hashlib
import hmac
import io
import os
import re
import secrets
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TypeVar

from monai_tpseg.catalogue import match_task
from monai_tpseg.files import complete
from monai_tpseg.io.cases import CaseSource
from monai_tpseg.io.locate import locate
from monai_tpseg.results.codes import StudyError
from monai_tpseg.studies.cells import from_cell, part_from_cell, part_to_cell, path_to_cell, to_cell
from monai_tpseg.studies.table import Row, read_table

__all__ = [
    "COLUMNS",
    "MANIFEST",
    "Entry",
    "new_salt",
    "read_manifest",
    "shard_of",
    "write_manifest",
]

MANIFEST = "manifest.csv"
"""The name of the manifest in an output folder."""

COLUMNS = ("case", "path", "part", "task", "modality", "note", "root", "salt")
"""The columns of a manifest. `path` is needed; the others are filled in when they are absent."""

_Case = TypeVar("_Case")

_NUMBER = re.compile(r"\d+(e\d+)?")  # digits that a spreadsheet would treat as a number
_ID_LENGTH = 16  # hexadecimal digits: the probability of a collision in a million cases is 3e-8


@dataclass(frozen=True)
class Entry:
    """One case to segment.

    Attributes:
        path: path of the source, relative to `root`, with forward slashes.
        root: folder that must contain the source.
        task: name of the task, or "".
        salt: hexadecimal and secret: without it, case ids cannot be traced back to paths.
        part: `i/n`, the i-th of the n stacks of a folder or a DICOMDIR; "" for the whole source.
        modality: DICOM modality, or "".
        note: reason why no task is proposed, or "".
        extra_columns: (name, value) of other columns, which are preserved.
        case: name of the folder in the output folder of a run, or "".
        files: files of the part, if known from discovery; not stored in a manifest.
    """

    path: str
    root: Path
    task: str
    salt: str
    modality: str = ""
    note: str = ""
    part: str = ""
    extra_columns: tuple[tuple[str, str], ...] = ()
    case: str = field(default="", compare=False)
    files: tuple[Path, ...] = field(default=(), repr=False, compare=False)

    @property
    def source_id(self) -> str:
        """16 hexadecimal digits, determined by path, part and salt, which no spreadsheet treats as a number."""
        return _no_number(self.keyed(f"{self.path}\0{self.part}" if self.part else self.path)[:_ID_LENGTH])

    def keyed(self, text: str) -> str:
        """Return the keyed digest of `text`, which cannot be reversed or guessed without the salt."""
        return hmac.new(bytes.fromhex(self.salt), text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()

    def source(self) -> CaseSource:
        """Return the location of the source: a path, or the files of a part.

        Raises:
            ReadError: `E_OUTSIDE`, the path or a link in it leads outside `root`; `E_NOT_FOUND`, no such part.
        """
        return locate(*self.place)

    @property
    def place(self) -> tuple[Path, Path, str, tuple[Path, ...]]:
        """The arguments of `locate`."""
        return self.root / self.path, self.root, self.part, self.files


def new_salt() -> str:
    """Return 128 random bits as hexadecimal digits that no spreadsheet treats as a number."""
    return _no_number(secrets.token_hex(16))


def _no_number(digits: str) -> str:
    return f"c{digits[1:]}" if _NUMBER.fullmatch(digits) else digits


def write_manifest(path: str | Path, entries: Sequence[Entry]) -> None:
    """Write a manifest that only its owner may read (mode 0600), and that spreadsheets keep unchanged.

    Args:
        path: CSV file to write or replace, in UTF-8 with byte order mark.
        entries: the cases.
    """
    extra_columns = list(dict.fromkeys(name for entry in entries for name, _ in entry.extra_columns))
    text = io.StringIO()
    table, quoted = (csv.writer(text, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    table.writerow((*COLUMNS, *map(to_cell, extra_columns)))
    for entry in entries:
        others = dict(entry.extra_columns)
        cells = (*_cells(entry), *(to_cell(others.get(name, "")) for name in extra_columns))
        broken = any("\r" in cell for cell in cells)  # would end a row: Python before 3.13 does not quote it
        (quoted if broken else table).writerow(cells)
    with complete(path) as part:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(codecs.BOM_UTF8 + text.getvalue().encode("utf-8", "surrogateescape"))
        part.chmod(0o600)


def _cells(entry: Entry) -> tuple[str, ...]:
    texts = tuple(map(to_cell, (entry.task, entry.modality, entry.note, str(entry.root), entry.salt)))
    return (entry.case or entry.source_id, path_to_cell(entry.path), part_to_cell(entry.part), *texts)


def read_manifest(
    path: str | Path, salt: str = "", root: str | Path | None = None, salted: bool = False
) -> list[Entry]:
    """Return the cases of a manifest.

    Args:
        path: CSV file with the column `path` and, if known, the others of `COLUMNS`. Without `root`, paths are
            relative to the folder of the manifest.
        salt: salt for rows without one; a new one by default.
        root: replaces the root of the manifest.
        salted: reject rows without a salt: the shards of a run would name the same case differently.

    Raises:
        StudyError: no such file, not a table, no column `path`, a row without a path, an invalid salt or part, or a
            salt without a root.
    """
    path = Path(path)
    if path.is_dir():
        raise StudyError(f"'{path}' is a folder; give the CSV file, e.g. {shlex.quote(str(path / MANIFEST))}.")
    if not path.is_file():
        raise StudyError(f"No manifest at '{path}'; write one with tpseg scan IN --out {shlex.quote(str(path))}.")
    salt = salt or new_salt()
    rows, folder = read_table(path, COLUMNS, "path"), path.absolute().parent
    if not rows:
        raise StudyError(f"'{path}' lists no case; write it again with tpseg scan.")
    if any(map(_has_bytes, rows)) and not any(_is_bytes_of_a_file(row, folder, root) for row in rows):
        rows = read_table(path, COLUMNS, "path", of_windows=True)  # saved by a spreadsheet on Linux or macOS
    return [_entry(row, folder, root, "" if salted else salt) for row in rows]


def shard_of(cases: Iterable[_Case], shard: str) -> list[_Case]:
    """Return every n-th case, starting at the i-th.

    Args:
        cases: cases of the whole run, or groups of them.
        shard: `i/n`, 1 <= i <= n.

    Raises:
        StudyError: the shard is malformed.
    """
    first, _, count = shard.partition("/")
    if not _is_part(shard):
        raise StudyError(f"Unknown shard {shard!r}; give i/n with i from 1 to n, e.g. 1/4.")
    return list(cases)[int(first) - 1 :: int(count)]


def _entry(row: Row, folder: Path, root: str | Path | None, salt: str) -> Entry:
    cells = {name: from_cell(value) for name, value in row.cells.items()}
    salt, part, line = cells["salt"] or salt, part_from_cell(cells["part"]), row.line
    if not cells["path"]:
        raise StudyError(f"Line {line} of the manifest has no path; fill it in or delete the line.")
    if not re.fullmatch(r"([0-9a-f]{2})+", salt):
        raise StudyError(f"Line {line} of the manifest has no salt of hexadecimal digits; write it with tpseg scan.")
    if part and not _is_part(part):
        raise StudyError(
            f"Line {line} of the manifest has a part that is not 'i of n'; leave the column as tpseg scan wrote it."
        )
    if cells["salt"] and not cells["root"] and root is None:
        raise StudyError(
            f"Line {line} of the manifest has a salt and no root, so a column was deleted: name the folder that its "
            "paths start from with --root, or scan again."
        )
    start = folder / cells["root"] if root is None else Path(root).absolute()
    path = _below(cells["path"], start)
    if _is_not_utf8(path) and not (start / path).exists():
        raise StudyError(f"Line {line} of the manifest is not UTF-8 and matches no file; save it as 'CSV UTF-8'.")
    extra_columns = tuple((from_cell(name), from_cell(value)) for name, value in row.extra_columns)
    task = match_task(cells["task"])
    return Entry(path, start, task, salt, cells["modality"], cells["note"], part, extra_columns, cells["case"])


def _has_bytes(row: Row) -> bool:
    """Whether a cell contains bytes that are not UTF-8."""
    return any(map(_is_not_utf8, (*row.cells.values(), *chain.from_iterable(row.extra_columns))))


def _is_bytes_of_a_file(row: Row, folder: Path, root: str | Path | None) -> bool:
    """Whether the path contains bytes that are not UTF-8, as does the name of the file."""
    start = folder / from_cell(row.cells["root"]) if root is None else Path(root).absolute()
    path = start / from_cell(row.cells["path"])
    return _is_not_utf8(str(path)) and path.exists()


def _is_not_utf8(text: str) -> bool:
    return text != text.encode("utf-8", "replace").decode()


def _below(path: str, root: Path) -> str:
    """A path in canonical form, so that no source becomes two cases."""
    plain = os.path.normpath(path)
    if os.path.isabs(plain) and Path(plain).is_relative_to(root):
        plain = os.path.relpath(plain, root)
    return Path(plain).as_posix()


def _is_part(text: str) -> bool:
    number, _, count = text.partition("/")
    return number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)
