"""Names of result files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monai_tpseg.io.kinds import OUTPUT_ENDINGS, stem
from monai_tpseg.io.meta_keys import STEM
from monai_tpseg.io.source_grid import source_path
from monai_tpseg.suffixes import DICOM_SUFFIXES, READABLE_SUFFIXES

__all__ = ["OutputNames", "base_path", "plain_name", "source_id", "stem_of"]

_LONGEST = 120  # bytes: file systems allow 255, including the task, the suffix and a temporary name
_NO_BEGINNING = " .'=+-@\uff1d\uff0b\uff0d\uff20"


class OutputNames:
    """Unique names for sources.

    A name is that of the source without suffix, in the sub-folder of the source within `data_root_dir`. Sources with
    the same stem in one folder (`a.png`, `a.jpg`) keep their suffix (`a_png`, `a_jpg`); other duplicates get a short
    hash, and so do names changed by `plain_name`.

    Args:
        data_root_dir: the folder whose sub-folders are reproduced; None puts all results into one folder.
    """

    def __init__(self, data_root_dir: str | Path | None = None) -> None:
        self._root = None if data_root_dir is None else Path(data_root_dir).absolute()
        self._sources: dict[Path, Path] = {}

    def __call__(self, meta: Mapping[str, Any], taken: Callable[[Path], bool] | None = None) -> Path:
        """Return the name of a case from the metadata of its image; it may contain sub-folders.

        Args:
            meta: metadata of the image.
            taken: returns whether an earlier run has given a name to another source.
        """
        source = source_path(meta).absolute()
        name = Path(_plain(str(meta[STEM]) if STEM in meta else stem_of(source)))
        if self._root is not None and source.is_relative_to(self._root) and source != self._root:
            name = Path(*map(_plain, source.parent.relative_to(self._root).parts)) / name
        if self._sources.setdefault(name, source) != source or (taken is not None and taken(name)):
            name = name.with_name(f"{name.name}_{source_id(meta)}")
        return name


def stem_of(source: Path) -> str:
    """Return the stem of the names of the results of a source, by its name and the content of its folder."""
    return source.name if source.is_dir() else _unique_stem(source)


def source_id(meta: Mapping[str, Any]) -> str:
    """Return a short hash of the location of a source, from the metadata of its image."""
    return hashlib.sha256(os.fsencode(source_path(meta).absolute())).hexdigest()[:8]


def plain_name(text: str, longest: int = _LONGEST) -> str:
    """Return a name that is safe in file systems, terminals, DICOM text and spreadsheets.

    Characters that are not printable, and both slashes, become `_`; leading dots, spaces and characters that start a
    formula in a spreadsheet are removed.

    Args:
        text: e.g. the name of a source.
        longest: maximum length in bytes.

    >>> plain_name("=1+1/2 ")
    '1+1_2'
    """
    shown = "".join(letter if letter.isprintable() and letter not in "/\\" else "_" for letter in text)
    return shown.lstrip(_NO_BEGINNING).encode()[:longest].decode(errors="ignore").rstrip(" .")


def _plain(text: str) -> str:
    """A plain name; if it differs from the text, with a hash of the text, so that names stay unique."""
    found = plain_name(text)
    if found == text:
        return text
    return f"{found}_{hashlib.sha256(os.fsencode(text)).hexdigest()[:8]}".lstrip("_")


def base_path(output_dir: Path, name: str | Path, task: str) -> Path:
    """Return `output_dir/<name>_<task>`, the common prefix of all files of a case.

    Raises:
        ValueError: the path leads outside `output_dir`.
    """
    name = Path(name)
    if name.is_absolute() or ".." in name.parts or not name.name or Path(task).name != task:
        raise ValueError(f"{f'{name}_{task}'!r} leads outside the output folder; use a relative name and a plain task.")
    return output_dir / name.with_name(f"{name.name}_{task}")


def _unique_stem(source: Path) -> str:
    """Return the stem of a file, with its suffix if another source in the same folder has the same stem."""
    own = stem(source)
    if own == source.name or not source.parent.is_dir():
        return own
    others = (path for path in source.parent.iterdir() if path.name != source.name and path.name[0] != ".")
    readable = (path for path in others if path.name.lower().endswith((*READABLE_SUFFIXES, *DICOM_SUFFIXES)))
    if any(stem(path) == own and not own.endswith(OUTPUT_ENDINGS) for path in readable):
        return own + source.name[len(own) :].lower().replace(".", "_")
    return own
