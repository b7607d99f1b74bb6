"""Files that are something else than their name says: archives, documents, pointers, and images with a wrong suffix."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from pathlib import Path

from monai_tpseg.io.errors import ReadCode, ReadError
from monai_tpseg.io.kinds import Kind
from monai_tpseg.io.pictures import picture_format
from monai_tpseg.io.safety import base_name
from monai_tpseg.io.unpacked import GZIP
from monai_tpseg.suffixes import DICOM_SUFFIXES, METAIMAGE_SUFFIXES

__all__ = ["check_content"]

_HEAD = 4096  # bytes that are examined
_ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_OTHERS = {
    b"GIF8": "GIF",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\x89HDF": "HDF5",
    b"\x93NUMPY": "a NumPy array",
    b"MATLAB": "MATLAB data",
    b"CDF\x01": "NetCDF",
    b"CDF\x02": "NetCDF",
}  # MINC is NetCDF or HDF5
_ARRAYS = frozenset({"HDF5", "MGH", "NetCDF", "a NumPy array", "MATLAB data"})
_MGH = struct.Struct(">6i")  # version, three edges, frames, type of the voxels
_MGH_TYPES = frozenset({0, 1, 3, 4})
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|\?xml|error|svg)\b", re.I)
_POINTER = re.compile(
    rb"version https://(?P<lfs>git-lfs\.github\.com|hawser\.github\.com)/spec/|\S*[/\\]annex[/\\]objects"
)
_NRRD = b"NRRD000"
_METAIMAGE = re.compile(rb"^ *NDims *= *\d", re.M | re.I)
_CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r\f")


def check_content(path: Path, kind: Kind) -> None:
    """Reject a file whose content is known to be something else than what its name or `kind` says.

    Args:
        path: a file that is not DICOM.
        kind: its format, see `monai_tpseg.io.kinds.kind_of`.

    Raises:
        ReadError: `E_FORMAT`, an archive, a document, a placeholder, or another format; `E_TRUNCATED`, an empty file;
            `E_DECODE`, nothing but zeros in place of the header.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    found = _found(head, kind, path)
    if found is None and head.startswith(GZIP):
        found = _in_gzip(path, kind)
    if found is not None:
        code, what = found
        raise ReadError(code, f"{base_name(path)} {what}.")


def _found(head: bytes, kind: Kind, path: Path) -> tuple[ReadCode, str] | None:
    """The code and the message, or None if the content is unknown or as it should be."""
    if not head:
        return "E_TRUNCATED", "is empty; copy or export it again"
    if not any(head) and (kind or path.name.lower().endswith(DICOM_SUFFIXES)):
        return "E_DECODE", "begins with zeros instead of a header; copy or export it again"
    what = _archive(head) or _placeholder(head) or _document(head) or _misnamed(head, kind, path) or _text(head)
    return ("E_FORMAT", what) if what else None


def _in_gzip(path: Path, kind: Kind) -> tuple[ReadCode, str] | None:
    try:
        with gzip.open(path) as file:
            head = file.read(_HEAD)
    except (OSError, EOFError, zlib.error):  # damaged: the reader of the format reports it
        return None
    if _archive(head):
        return "E_FORMAT", "is an archive (compressed with gzip); unpack it and give its files"
    if kind != "nifti" and _is_nifti(head):
        return "E_FORMAT", "contains NIfTI; rename it to .nii.gz"
    # a NIfTI with the wrong one of its suffixes is reported by its reader
    code, what = (_found(head, kind, path) if kind == "nifti" and head else None) or ("E_FORMAT", _document(head))
    if what:
        return code, f"is compressed with gzip, and its content {what}"
    return None if kind == "nifti" else ("E_FORMAT", "is compressed with gzip; unpack it")


def _archive(head: bytes) -> str:
    name = _named(head, _ARCHIVES) or ("tar" if head[257:262] == b"ustar" else "")
    return name and f"is an archive ({name}); unpack it and give its files"


def _placeholder(head: bytes) -> str:
    pointer = _POINTER.match(head)
    if pointer is not None and pointer["lfs"]:
        return "is a Git LFS pointer, not the file itself; fetch it with git lfs pull"
    if pointer is not None:
        return "is a git-annex pointer, not the file itself; fetch it with git annex get"
    return "is a web page or XML, not an image; download the file again" if _PAGE.match(head) else ""


def _document(head: bytes) -> str:
    if head.startswith(b"%PDF-"):
        return "is a PDF document; export its pictures as PNG"
    if head[4:8] == b"ftyp":
        still = head[8:12] in (b"heic", b"heix", b"mif1", b"avif")
        return "contains HEIF; convert it to PNG" if still else "is a video; export the frames to segment as pictures"
    name = _named(head, _OTHERS) or ("WebP" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else "")
    name = name or ("MGH" if _is_mgh(head) else "")
    suffix = ".nii.gz" if name in _ARRAYS else "PNG"
    return name and f"contains {name}; convert it to {suffix}"


def _misnamed(head: bytes, kind: Kind, path: Path) -> str:
    """A format that is read, but not under this name."""
    of_meta = path.name.lower().endswith(METAIMAGE_SUFFIXES)
    name, suffix = picture_format(head) or ("", "")
    if name and kind != "picture" and not (kind == "slide" and name in ("TIFF", "JPEG")):
        return f"contains {name}; rename it to {suffix}"
    if kind != "nifti" and _is_nifti(head):
        return "contains NIfTI; rename it to .nii"
    if (kind != "itk" or of_meta) and head.startswith(_NRRD):
        return "contains NRRD; rename it to .nrrd"
    if not (kind == "itk" and of_meta) and _METAIMAGE.search(head):
        return "contains MetaImage; rename it to .mha, or .mhd if its voxels are in another file"
    return ""


def _is_mgh(head: bytes) -> bool:
    """Whether a volume of FreeSurfer begins here, which has no letters of its own."""
    if len(head) < _MGH.size:
        return False
    version, *edges, kind = _MGH.unpack(head[: _MGH.size])
    return version == 1 and all(0 < edge < 2**16 for edge in edges) and kind in _MGH_TYPES


def _is_nifti(head: bytes) -> bool:
    return head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0"


def _text(head: bytes) -> str:
    try:
        head[: -3 if len(head) == _HEAD else None].decode()  # a character may be cut
    except UnicodeDecodeError:
        return ""
    known = head.startswith(_NRRD) or _METAIMAGE.search(head) or _CONTROL.intersection(head)
    return "" if known else "is a text file; give the image itself"


def _named(head: bytes, names: dict[bytes, str]) -> str:
    return next((name for magic, name in names.items() if head.startswith(magic)), "")
