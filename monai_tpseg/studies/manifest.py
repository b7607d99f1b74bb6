"""The list of cases of a run: the only file with paths, and the salt that turns a path into a case's name."""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar, get_args

from monai_tpseg.files import complete
from monai_tpseg.studies.codes import StudyError
from monai_tpseg.studies.table import read_table
from monai_tpseg.transforms.cases import CaseSource, list_sources, stem
from monai_tpseg.transforms.dicom_split import find_stacks
from monai_tpseg.transforms.errors import ReadError

__all__ = [
    "COLUMNS",
    "MANIFEST",
    "Entry",
    "Names",
    "case_names",
    "files_of_source",
    "new_salt",
    "parts_of",
    "read_manifest",
    "shard_of",
    "write_manifest",
]

MANIFEST = "manifest.csv"
"""The name of the manifest in an output folder."""

COLUMNS = ("case", "path", "part", "task", "modality", "note", "root", "salt")
"""The columns of a manifest. `path` is needed; the others are filled in when they are absent."""

Names = Literal["salted", "source"]

_Case = TypeVar("_Case")

_LONGEST = 60  # characters of a source's name in that of its folder: file systems allow 255 bytes
_ID_LENGTH = 16  # hexadecimal digits: two of a million cases meet with a chance of 3e-8


@dataclass(frozen=True)
class Entry:
    """One case to segment.

    Attributes:
        path: of the source, relative to `root`, with forward slashes.
        root: the folder that the source must lie in.
        task: name of the task; "" where nobody has named it.
        salt: hexadecimal, secret: without it no case id leads back to a path.
        part: `i/n`, the i-th of the n stacks that the images of a folder or of a disc's index form; "" for all of it.
        modality: DICOM modality, or "".
        note: why no task is proposed, or "".
    """

    path: str
    root: Path
    task: str
    salt: str
    modality: str = ""
    note: str = ""
    part: str = ""

    @property
    def case_id(self) -> str:
        """16 hexadecimal digits, the same for the same path, part and salt."""
        return self.keyed(f"{self.path}\0{self.part}" if self.part else self.path)[:_ID_LENGTH]

    def keyed(self, text: str) -> str:
        """Return the keyed digest of `text`: it cannot be reversed or guessed without the salt."""
        return hmac.new(bytes.fromhex(self.salt), text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()

    def source(self) -> CaseSource:
        """Return where the source lies: a path, or the files of a part.

        Raises:
            ReadError: `E_OUTSIDE`, the path or a link in it leads out of `root`; `E_NOT_FOUND`, there is no such part.
        """
        path = self.root / self.path
        root = self.root.resolve()
        if not path.resolve().is_relative_to(root):
            raise ReadError("E_OUTSIDE", "The path leads out of the folder of the manifest; correct it or its root.")
        source = self._part(path) if self.part else path
        for file in files_of_source(source):
            if file.is_symlink() and not file.resolve().is_relative_to(root):
                raise ReadError("E_OUTSIDE", "A link of the case leads out of the folder of the manifest; remove it.")
        return source

    def _part(self, path: Path) -> CaseSource:
        number, count = (int(n) for n in self.part.split("/"))
        parts = parts_of(path)
        if len(parts) != count:
            raise ReadError(
                "E_NOT_FOUND", f"{count} stacks were expected and {len(parts)} found; scan the folder again."
            )
        return parts[number - 1]


def files_of_source(source: CaseSource) -> list[Path]:
    """Return the files of a case: a file, those of a folder without its sub-folders, or those that are named.

    The pixels of a MIRAX slide (`a.mrxs`) lie in the folder `a` beside it.
    """
    if isinstance(source, tuple):
        return list(source)
    if source.suffix.lower() == ".mrxs" and source.with_suffix("").is_dir():
        return [source, *files_of_source(source.with_suffix(""))]
    return [path for path in source.iterdir() if path.is_file()] if source.is_dir() else [source]


@lru_cache(maxsize=4)
def parts_of(path: Path) -> tuple[tuple[Path, ...], ...]:
    """Return the stacks that the images of a folder, or of the index of a disc, form; found once in a run.

    Raises:
        ReadError: there are none.
    """
    if path.is_dir():
        return tuple(stack.files for stack in find_stacks(path))
    return tuple(source if isinstance(source, tuple) else (source,) for source in list_sources(path))


def new_salt() -> str:
    """Return 128 random bits as hexadecimal digits."""
    return secrets.token_hex(16)


def case_names(entries: Sequence[Entry], names: Names = "salted") -> list[str]:
    """Return the name of each case's folder.

    Args:
        entries: the whole run, not a shard of it.
        names: `salted` gives case ids; `source` the sources' names without suffix, with the id where two are equal.

    A source that is listed for several tasks is several cases: `-2` and so on ends the names of all but the first.

    Raises:
        StudyError: a source is listed twice for one task, or `names` is unknown.
    """
    if names not in get_args(Names):
        raise StudyError(f"Unknown names {names!r}; choose one of {', '.join(get_args(Names))}.")
    ids = [entry.case_id for entry in entries]
    ends = _ends(entries, ids)
    if names == "salted":
        return [f"{one}{end}" for one, end in zip(ids, ends, strict=True)]
    stems = [stem(Path(entry.path)).lstrip(".")[:_LONGEST] or "case" for entry in entries]
    met = Counter(f"{name}{end}".casefold() for name, end in zip(stems, ends, strict=True))  # some systems: a is A
    return [
        f"{name}{end}" if met[f"{name}{end}".casefold()] == 1 else f"{name}_{one}{end}"
        for name, one, end in zip(stems, ids, ends, strict=True)
    ]


def _ends(entries: Sequence[Entry], ids: Sequence[str]) -> list[str]:
    """What tells the cases of one source apart: nothing for the first, then "-2", "-3", ..."""
    first: dict[tuple[str, str], int] = {}
    met: Counter[str] = Counter()
    ends = []
    for number, (entry, one) in enumerate(zip(entries, ids, strict=True), start=1):
        if first.setdefault((one, entry.task), number) != number:
            raise StudyError(
                f"Cases {first[one, entry.task]} and {number} of the manifest are one source and one task; delete one."
            )
        met[one] += 1
        ends.append(f"-{met[one]}" if met[one] > 1 else "")
    return ends


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
        table.writerow((name, entry.path, entry.part, entry.task, entry.modality, entry.note, entry.root, entry.salt))
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
        StudyError: no such file, no table, no column `path`, a row without a path, or a salt or part that is none.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"No manifest at '{path}'; write one with tpseg scan IN --out {path.name}.")
    salt = salt or new_salt()
    rows = read_table(path, COLUMNS, "path")
    if not rows:
        raise StudyError(f"'{path}' lists no case; write it again with tpseg scan.")
    folder = path.absolute().parent
    return [_entry(row, line, folder, root, "" if salted else salt) for line, row in rows]


def shard_of(cases: Iterable[_Case], shard: str) -> list[_Case]:
    """Return every n-th of cases, from the i-th on.

    Args:
        cases: of the whole run, or groups of them.
        shard: `i/n`, 1 <= i <= n.

    Raises:
        StudyError: another form.
    """
    first, _, count = shard.partition("/")
    if not _is_part(shard):
        raise StudyError(f"Unknown shard {shard!r}; give i/n with i from 1 to n, e.g. 1/4.")
    return list(cases)[int(first) - 1 :: int(count)]


def _entry(row: dict[str, str], line: int, folder: Path, root: str | Path | None, salt: str) -> Entry:
    salt = row["salt"] or salt
    if not row["path"]:
        raise StudyError(f"Line {line} of the manifest has no path; fill it in or delete the line.")
    if not re.fullmatch(r"([0-9a-f]{2})+", salt):
        raise StudyError(f"Line {line} of the manifest has no salt of hexadecimal digits; write it with tpseg scan.")
    if row["part"] and not _is_part(row["part"]):
        raise StudyError(
            f"Line {line} of the manifest has a part that is not i/n; leave the column as tpseg scan wrote it."
        )
    start = folder / row["root"] if root is None else Path(root).absolute()
    path = _below(row["path"], start)
    if path != path.encode("utf-8", "replace").decode() and not (start / path).exists():
        raise StudyError(f"Line {line} of the manifest is no UTF-8 and names no file; save it as 'CSV UTF-8'.")
    return Entry(path, start, row["task"], salt, row["modality"], row["note"], row["part"])


def _below(path: str, root: Path) -> str:
    """A path in one way of writing: the same source must not be two cases."""
    plain = os.path.normpath(path)
    if os.path.isabs(plain) and Path(plain).is_relative_to(root):
        plain = os.path.relpath(plain, root)
    return Path(plain).as_posix()


def _is_part(text: str) -> bool:
    number, _, count = text.partition("/")
    return number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)
