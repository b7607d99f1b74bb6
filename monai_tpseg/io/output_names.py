"""What the files of a result are called."""

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

_LONGEST = 120  # bytes: file systems allow 255, with the task, the kind of file and a temporary name
_NO_BEGINNING = " .'=+-@\uff1d\uff0b\uff0d\uff20"


class OutputNames:
    """Gives each source a name of its own.

    It is the source's name without suffix, below its folder within `data_root_dir`; sources of one name in one folder
    (`a.png`, `a.jpg`) keep their suffix (`a_png`, `a_jpg`), others that would meet get a short hash, and so do names
    that had to be made plain, see `plain_name`.

    Args:
        data_root_dir: the folder whose sub-folders are repeated; None puts all into one.
    """

    def __init__(self, data_root_dir: str | Path | None = None) -> None:
        self._root = None if data_root_dir is None else Path(data_root_dir).absolute()
        self._sources: dict[Path, Path] = {}

    def __call__(self, meta: Mapping[str, Any], taken: Callable[[Path], bool] | None = None) -> Path:
        """Return the name of a case by the meta of its image; it may hold sub-folders.

        Args:
            meta: of the image.
            taken: says of a name whether an earlier run has given it to another source.
        """
        source = source_path(meta).absolute()
        name = Path(_plain(str(meta[STEM]) if STEM in meta else stem_of(source)))
        if self._root is not None and source.is_relative_to(self._root) and source != self._root:
            name = Path(*map(_plain, source.parent.relative_to(self._root).parts)) / name
        if self._sources.setdefault(name, source) != source or (taken is not None and taken(name)):
            name = name.with_name(f"{name.name}_{source_id(meta)}")
        return name


def stem_of(source: Path) -> str:
    """Return what the results of a source are called: its folder and what lies in it are looked at."""
    return source.name if source.is_dir() else _unique_stem(source)


def source_id(meta: Mapping[str, Any]) -> str:
    """Return a short hash of where a source lies, by the meta of its image."""
    return hashlib.sha256(os.fsencode(source_path(meta).absolute())).hexdigest()[:8]


def plain_name(text: str, longest: int = _LONGEST) -> str:
    """Return a name that any file system, terminal, DICOM text and spreadsheet takes as one.

    What cannot be printed, and both slashes, become `_`; what a spreadsheet takes for a formula, dots and spaces do not
    begin it.

    Args:
        text: e.g. the name of a source.
        longest: bytes that are kept.

    >>> plain_name("=1+1/2 ")
    '1+1_2'
    """
    shown = "".join(letter if letter.isprintable() and letter not in "/\\" else "_" for letter in text)
    return shown.lstrip(_NO_BEGINNING).encode()[:longest].decode(errors="ignore").rstrip(" .")


def _plain(text: str) -> str:
    """A plain name; where that is another one, with a hash of the text, so that no two texts meet."""
    found = plain_name(text)
    if found == text:
        return text
    return f"{found}_{hashlib.sha256(os.fsencode(text)).hexdigest()[:8]}".lstrip("_")


def base_path(output_dir: Path, name: str | Path, task: str) -> Path:
    """Return `output_dir/<name>_<task>`, which the names of all files of a case start with.

    Raises:
        ValueError: it leads out of `output_dir`.
    """
    name = Path(name)
    if name.is_absolute() or ".." in name.parts or not name.name or Path(task).name != task:
        raise ValueError(f"{f'{name}_{task}'!r} leads outside the output folder; use a relative name and a plain task.")
    return output_dir / name.with_name(f"{name.name}_{task}")


def _unique_stem(source: Path) -> str:
    """Return the stem of a file, with its suffix where another source of the same folder has that stem too."""
    own = stem(source)
    if own == source.name or not source.parent.is_dir():
        return own
    others = (path for path in source.parent.iterdir() if path.name != source.name and path.name[0] != ".")
    readable = (path for path in others if path.name.lower().endswith((*READABLE_SUFFIXES, *DICOM_SUFFIXES)))
    if any(stem(path) == own and not own.endswith(OUTPUT_ENDINGS) for path in readable):
        return own + source.name[len(own) :].lower().replace(".", "_")
    return own
