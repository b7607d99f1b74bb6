"""Detection of whole slides."""

from __future__ import annotations

from pathlib import Path

from PIL import TiffImagePlugin
from pydicom.uid import JPEG2000, UID, JPEG2000Lossless, JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage

from monai_tpseg.io.dicom.attributes import number
from monai_tpseg.io.dicom.compression import syntax_name
from monai_tpseg.io.dicom.object import is_dicom, read_dataset
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.safety import MAX_PIXELS, base_name, read_safely
from monai_tpseg.suffixes import SLIDE_SUFFIXES, TIFF_SUFFIXES

__all__ = ["check_dicom_slide", "is_slide"]

_SUBFILE, _WIDTH, _HEIGHT, _TILE_WIDTH = 254, 256, 257, 322  # tags of TIFF
_PACKED = frozenset({JPEGBaseline8Bit, JPEG2000Lossless, JPEG2000})  # DICOM transfer syntaxes that OpenSlide decodes
_REDUCED = 1  # the bit of _SUBFILE that says "a smaller version of another page"
_PAGES = 64  # pages of a TIFF file that are examined: a pyramid has about ten


def is_slide(path: Path) -> bool:
    """Return whether `path` is a whole slide.

    That is a file with the suffix of a slide format, a tiled TIFF that contains smaller versions of itself or is too
    large to read at once, or a DICOM whole slide image, given as a file or its folder.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name[0] != "." and file.is_file())
        return bool(files) and all(_is_dicom_slide(file) for file in files)
    if not path.is_file():
        return False
    if path.suffix.lower() in TIFF_SUFFIXES:
        return read_safely(lambda: _is_tiled_pyramid(path), base_name(path))
    return path.suffix.lower() in SLIDE_SUFFIXES or _is_dicom_slide(path)


def check_dicom_slide(path: Path) -> None:
    """Reject a DICOM slide whose pixels OpenSlide does not read; other slides pass.

    Args:
        path: a file, or the folder of a slide.

    Raises:
        ReadError: `E_CODEC`, unsupported compression; `E_FORMAT`, unsupported pixel format.
    """
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    for header in (read_dataset(file, pixels=False) for file in files if is_dicom(file)):
        syntax = UID(str(header.file_meta.TransferSyntaxUID))
        if syntax.is_transfer_syntax and syntax.is_encapsulated and syntax not in _PACKED:
            raise ReadError(
                "E_CODEC", f"{base_name(path)} is a slide in {syntax_name(header)}, which is not supported; convert it."
            )
        bits, samples = (number(header, word) for word in ("BitsAllocated", "SamplesPerPixel"))
        if (bits, samples) != (8, 3):
            found = "other pixels" if None in (bits, samples) else f"{samples:.0f} samples of {bits:.0f} bits per pixel"
            raise ReadError("E_FORMAT", f"{base_name(path)} is a slide of {found}; convert it to RGB with 8 bits.")


def _is_dicom_slide(path: Path) -> bool:
    try:
        return bool(read_safely(lambda: _sop_class(path), base_name(path)) == VLWholeSlideMicroscopyImageStorage)
    except ReadError:
        return False


def _sop_class(path: Path) -> str:
    return str(read_dataset(path, pixels=False).get("SOPClassUID")) if is_dicom(path) else ""


def _is_tiled_pyramid(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(16)
        if head[:4] not in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
            return False
        if head[:4] == b"MM\x00+":  # PIL does not read BigTIFF of this byte order; the picture reader reports it
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
