"""Whole slides, told from other sources."""

from __future__ import annotations

from pathlib import Path

from PIL import TiffImagePlugin
from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from monai_tpseg.io.dicom.object import is_dicom, read_dataset
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.safety import MAX_PIXELS, base_name, guarded

__all__ = ["SLIDE_SUFFIXES", "is_slide"]

SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif")
"""Suffixes of whole slides; pyramidal TIFF and DICOM are known by their content."""

_TIFF_SUFFIXES = (".tif", ".tiff")
_SUBFILE, _WIDTH, _HEIGHT, _TILE_WIDTH = 254, 256, 257, 322  # tags of TIFF
_REDUCED = 1  # the bit of _SUBFILE that says "a smaller version of another page"
_PAGES = 64  # of a TIFF file that are looked at: a pyramid has about ten


def is_slide(path: Path) -> bool:
    """Say whether `path` is a whole slide: by its suffix, as a tiled TIFF with smaller versions of itself or too large
    to be read at once, or as a DICOM whole slide image, a file or the folder of one.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name[0] != "." and file.is_file())
        return bool(files) and all(_is_dicom_slide(file) for file in files)
    if not path.is_file():
        return False
    if path.suffix.lower() in _TIFF_SUFFIXES:
        return guarded(lambda: _is_tiled_pyramid(path), base_name(path))
    return path.suffix.lower() in SLIDE_SUFFIXES or _is_dicom_slide(path)


def _is_dicom_slide(path: Path) -> bool:
    try:
        return bool(guarded(lambda: _sop_class(path), base_name(path)) == VLWholeSlideMicroscopyImageStorage)
    except ReadError:
        return False


def _sop_class(path: Path) -> str:
    return str(read_dataset(path, pixels=False).get("SOPClassUID")) if is_dicom(path) else ""


def _is_tiled_pyramid(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(16)
        if head[:4] not in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
            return False
        if head[:4] == b"MM\x00+":  # PIL reads no BigTIFF of this byte order; as a picture it is refused for that
            return False
        pages = TiffImagePlugin.ImageFileDirectory_v2(head if head[2:4] == b"+\x00" else head[:8])
        for number in range(_PAGES):
            if not pages.next:
                return False
            file.seek(pages.next)
            pages.load(file)
            if number == 0 and _TILE_WIDTH not in pages:
                return False
            if int(pages.get(_SUBFILE, 0)) & _REDUCED:
                return True
            if number == 0 and int(pages.get(_WIDTH, 0)) * int(pages.get(_HEIGHT, 0)) > MAX_PIXELS:
                return True
    return False
