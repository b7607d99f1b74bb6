"""The files listed by a DICOMDIR, none of them outside its folder."""

from __future__ import annotations

from pathlib import Path

from pydicom.uid import MediaStorageDirectoryStorage

from monai_tpseg.io.dicom.image_check import index_parts
from monai_tpseg.io.dicom.object import is_dicom, read_dataset
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.safety import base_name, read_safely

__all__ = ["index_files", "is_disc_index"]


def is_disc_index(path: Path) -> bool:
    """Return whether `path` is a DICOMDIR, by its content."""
    if not is_dicom(path):
        return False
    return bool(read_dataset(path).file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage)


def index_files(path: Path) -> list[Path]:
    """Return the files listed by a DICOMDIR, each once, in its order, including missing ones.

    Args:
        path: a DICOMDIR.

    Raises:
        ReadError: `E_OUTSIDE`, a path, or a link in it, leads outside the folder of the DICOMDIR; `E_DECODE`.
    """
    return read_safely(lambda: _listed(path), base_name(path))


def _listed(path: Path) -> list[Path]:
    name, folder = base_name(path), path.parent
    files = [_below(folder, parts) for parts in index_parts(read_dataset(path), name)]
    if any(not file.resolve().is_relative_to(folder.resolve()) for file in files):
        raise ReadError("E_OUTSIDE", f"{name} lists a file through a link out of its folder; do not trust it.")
    return list(dict.fromkeys(files))


def _below(folder: Path, parts: tuple[str, ...]) -> Path:
    """Names on discs are upper case only; copies are often lower case."""
    path = folder
    for part in parts:
        exact = path / part
        if not exact.exists() and path.is_dir():
            exact = next((one for one in sorted(path.iterdir()) if one.name.upper() == part.upper()), exact)
        path = exact
    return path
