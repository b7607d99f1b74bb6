"""The list of cases of a run: the only file with paths, and the salt that turns a path into a case's name."""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from monai_tpseg.files import complete
from monai_tpseg.studies.codes import StudyError
from monai_tpseg.transforms.cases import stem
from monai_tpseg.transforms.errors import ReadError

__all__ = [
    "COLUMNS",
    "MANIFEST",
    "Entry",
    "Names",
    "case_names",
    "new_salt",
    "read_manifest",
    "shard_of",
    "write_manifest",
]

MANIFEST = "manifest.csv"
"""The name of the manifest in an output folder."""

COLUMNS = ("case", "path", "task", "modality", "note", "root", "salt")
"""The columns of a manifest. `path` is needed; the others are filled in when they are absent."""

Names = Literal["salted", "source"]

_ID_LENGTH = 16  # hexadecimal digits: two of a million cases meet with a chance of 3e-8


@dataclass(frozen=True)
class Entry:
    """One case to segment.

    Attributes:
        path: of the source, relative to `root`, with forward slashes.
        root: the folder that the source must lie in.
        task: name of the task; "" where nobody has named it.
        salt: hexadecimal, secret: without it no case id leads back to a path.
        modality: DICOM modality, or "".
        note: why no task is proposed, or "".
    """

    path: str
    root: Path
    task: str
    salt: str
    modality: str = ""
    note: str = ""

    @property
    def case_id(self) -> str:
        """16 hexadecimal digits, the same for the same path and salt."""
        return self.keyed(self.path)[:_ID_LENGTH]

    def keyed(self, text: str) -> str:
        """Return the keyed digest of `text`: it cannot be reversed or guessed without the salt."""
        return hmac.new(bytes.fromhex(self.salt), text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()

    def source(self) -> Path:
        """Return where the source lies.

        Raises:
            ReadError: `E_OUTSIDE`, the path or a link in it leads out of `root`.
        """
        path = self.root / self.path
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ReadError("E_OUTSIDE", "The path leads out of the folder of the manifest; correct it or its root.")
        return path


def new_salt() -> str:
    """Return 128 random bits as hexadecimal digits."""
    return secrets.token_hex(16)


def case_names(entries: Sequence[Entry], names: Names = "salted") -> list[str]:
    """Return the name of each case's folder.

    Args:
        entries: the whole run, not a shard of it.
        names: `salted` gives case ids; `source` the sources' names without suffix, with the id where two are equal.

    Raises:
        StudyError: a source is listed twice, or `names` is unknown.
    """
    if names not in get_args(Names):
        raise StudyError(f"Unknown names {names!r}; choose one of {', '.join(get_args(Names))}.")
    ids = [entry.case_id for entry in entries]
    if len(set(ids)) < len(ids):
        line = next(n for n, one in enumerate(ids) if one in ids[:n]) + 2
        raise StudyError(
            f"Line {line} of the manifest repeats a source; give its other task a run and --out of its own."
        )
    if names == "salted":
        return ids
    stems = [stem(Path(entry.path)).lstrip(".") or "case" for entry in entries]
    folded = [name.casefold() for name in stems]  # some file systems do not tell A from a
    return [one if folded.count(low) == 1 else f"{one}_{i}" for one, low, i in zip(stems, folded, ids, strict=True)]


def write_manifest(path: str | Path, entries: Sequence[Entry], names: Sequence[str] | None = None) -> None:
    """Write a manifest that only its owner may read (mode 0600).

    Args:
        path: the CSV file to write or replace.
        entries: the cases.
        names: of their folders; case ids by default.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for name, entry in zip(names or case_names(entries), entries, strict=True):
        table.writerow((name, entry.path, entry.task, entry.modality, entry.note, entry.root, entry.salt))
    with complete(path) as part:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))
        part.chmod(0o600)


def read_manifest(
    path: str | Path, salt: str = "", root: str | Path | None = None, salted: bool = False
) -> list[Entry]:
    """Return the cases of a manifest.

    Args:
        path: a CSV file with the column `path` and, where known, the others of `COLUMNS`. Without `root`, paths start
            at the folder of the manifest.
        salt: for rows without one; a new one by default.
        root: instead of the manifest's own.
        salted: refuse rows without a salt: the shards of a run would name the same case differently.

    Raises:
        StudyError: no such file, no column `path`, a row without a path, or a salt that is none or is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"No manifest at '{path}'; write one with tpseg scan IN --out {path.name}.")
    salt = salt or new_salt()
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:  # spreadsheets add a BOM
        table = csv.DictReader(file)
        if "path" not in (table.fieldnames or ()):
            raise StudyError(f"'{path}' has no column 'path'; a manifest has the columns {', '.join(COLUMNS)}.")
        rows = [_row(row, n, "" if salted else salt) for n, row in enumerate(table, start=2)]
    if not rows:
        raise StudyError(f"'{path}' lists no case; write it again with tpseg scan.")
    folder = path.absolute().parent
    roots = [folder / row["root"] if root is None else Path(root).absolute() for row in rows]
    return [
        Entry(row["path"], start, row["task"], row["salt"], row["modality"], row["note"])
        for row, start in zip(rows, roots, strict=True)
    ]


def shard_of(entries: Iterable[tuple[str, Entry]], shard: str) -> list[tuple[str, Entry]]:
    """Return every n-th of named entries, from the i-th on.

    Args:
        entries: the whole run.
        shard: `i/n`, 1 <= i <= n.

    Raises:
        StudyError: another form.
    """
    first, _, count = shard.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise StudyError(f"Unknown shard {shard!r}; give i/n with i from 1 to n, e.g. 1/4.")
    return list(entries)[int(first) - 1 :: int(count)]


def _row(row: dict[str, str | None], line: int, salt: str) -> dict[str, str]:
    value = {key: (row.get(key) or "").strip() for key in COLUMNS}
    value["salt"] = value["salt"] or salt
    if not value["path"]:
        raise StudyError(f"Line {line} of the manifest has no path; fill it in or delete the line.")
    if not re.fullmatch(r"([0-9a-f]{2})+", value["salt"]):
        raise StudyError(f"Line {line} of the manifest has no salt of hexadecimal digits; write it with tpseg scan.")
    return value
