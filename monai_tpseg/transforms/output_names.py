"""What the files of a result are called."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_tpseg.transforms.cases import OUTPUT_ENDINGS, READABLE_SUFFIXES, stem
from monai_tpseg.transforms.source_grid import source_path

__all__ = ["OutputNames", "base_path"]


class OutputNames:
    """Gives each source a name of its own.

    It is the source's name without suffix, below its folder within `data_root_dir`; sources of one name in one folder
    (`a.png`, `a.jpg`) keep their suffix (`a_png`, `a_jpg`), others that would meet get a short hash.

    Args:
        data_root_dir: the folder whose sub-folders are repeated; None puts all into one.
    """

    def __init__(self, data_root_dir: str | Path | None = None) -> None:
        self._root = None if data_root_dir is None else Path(data_root_dir).absolute()
        self._sources: dict[Path, Path] = {}

    def __call__(self, meta: Mapping[str, Any]) -> Path:
        """Return the name of a case by the meta of its image; it may hold sub-folders."""
        source = source_path(meta).absolute()
        name = Path(source.name if source.is_dir() else _unique_stem(source))
        if self._root is not None and source.is_relative_to(self._root) and source != self._root:
            name = source.parent.relative_to(self._root) / name
        if self._sources.setdefault(name, source) != source:
            folder = hashlib.sha256(str(source).encode()).hexdigest()[:8]
            name = name.with_name(f"{name.name}_{folder}")
        return name


def base_path(output_dir: Path, name: str | Path, task: str) -> Path:
    """Return `output_dir/<name>_<task>`, which the names of all files of a case start with.

    Raises:
        ValueError: it leads out of `output_dir`.
    """
    name = Path(name)
    if name.is_absolute() or ".." in name.parts or not name.name or Path(task).name != task:
        raise ValueError(f"{f'{name}_{task}'!r} leads out of the output folder; use a relative name and a plain task.")
    return output_dir / name.with_name(f"{name.name}_{task}")


def _unique_stem(source: Path) -> str:
    """Return the stem of a file, with its suffix where another source of the same folder has that stem too."""
    own = stem(source)
    if own == source.name or not source.parent.is_dir():
        return own
    others = (path for path in source.parent.iterdir() if path.name != source.name and path.name[0] != ".")
    readable = (path for path in others if path.name.lower().endswith((*READABLE_SUFFIXES, ".dcm")))
    if any(stem(path) == own and not own.endswith(OUTPUT_ENDINGS) for path in readable):
        return own + source.name[len(own) :].lower().replace(".", "_")
    return own
