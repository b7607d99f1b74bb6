"""Readers of NIfTI, NRRD and MetaImage: (C, x, y, z) with an affine in RAS millimetres."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.lengths import itk_lengths, nifti_lengths
from monai_tpseg.io.loaded import Source, check_affine
from monai_tpseg.io.meta_keys import FORMAT, GEOMETRY_DOUBTFUL, NIFTI_HEADER, SOURCE_SHAPE, Intensity
from monai_tpseg.io.nifti_forms import geometry_disagrees
from monai_tpseg.io.no_data import finite
from monai_tpseg.io.orientation import LPS_TO_RAS
from monai_tpseg.io.rounding import DEGREES
from monai_tpseg.io.safety import DEFLATE_RATIO, base_name, check_voxels
from monai_tpseg.io.text_headers import read_text_header
from monai_tpseg.io.unpacked import (
    GZIP,
    check_length,
    check_surplus,
    gzip_voxels,
    metaimage_scale,
    metaimage_voxels,
    nrrd_encoding,
)
from monai_tpseg.suffixes import METAIMAGE_SUFFIXES

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["read_itk", "read_nifti"]

_SIZES = tuple(size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big"))  # first field of NIfTI
_FARTHEST = 2**26  # bytes before the voxels of a NIfTI, including notes
_TOO_LONG = float(np.sin(np.radians(DEGREES / 2)) ** 2)  # b^2 + c^2 + d^2 - 1 at an error of one degree


class _Header1(nib.Nifti1Header):
    """Accept a quaternion slightly longer than 1 by rounding as a half turn, as ITK does.

    Voxels without a stated offset follow the header: nibabel would read the header as voxels.
    """

    quaternion_threshold = _TOO_LONG

    def get_data_offset(self) -> int:
        return int(super().get_data_offset()) or int(self.single_vox_offset)


class _Header2(nib.Nifti2Header):
    quaternion_threshold = _TOO_LONG

    def get_data_offset(self) -> int:
        return int(super().get_data_offset()) or int(self.single_vox_offset)


class _Nifti1(nib.Nifti1Image):
    header_class = _Header1


class _Nifti2(nib.Nifti2Image):
    header_class = _Header2


def read_nifti(path: Path) -> Source:
    """Read one NIfTI-1 or NIfTI-2 volume with its scaling applied.

    Args:
        path: a `.nii` or `.nii.gz` file of 2 or 3 dimensions; trailing dimensions of length 1 are dropped.

    Returns:
        `array` (1, x, y, z), or (3, x, y, z) for RGB24; a 2D file has z = 1.

    Raises:
        ReadError: `E_FORMAT`, `E_DECODE`, `E_TRUNCATED`, `E_TOO_LARGE`, `E_4D`, `E_GEOMETRY` or `E_NO_PIXELS`.
    """
    try:
        _check_packing(path)
        image = _opened(path)
        if not isinstance(image, nib.nifti1.Nifti1Pair):
            raise ReadError("E_FORMAT", f"{base_name(path)} is not NIfTI; convert it to .nii.gz.")
        shape = tuple(int(n) for n in image.shape)
        _check_one_volume(shape, path, "nibabel: img.slicer[..., 0]")
        size = prod(shape) * image.get_data_dtype().itemsize
        _check_content(size, [path], path)
        if path.name.lower().endswith(".gz"):
            stored: NDArray[Any] = gzip_voxels(image, path)
        else:
            stored = np.asanyarray(image.dataobj)
            check_surplus(path.stat().st_size - image.dataobj.offset - size, size, path)
    except (EOFError, zlib.error, OSError, ImageFileError, HeaderDataError, ValueError) as error:
        if isinstance(error, ReadError) or getattr(error, "errno", None) is not None:  # error of the disk
            raise
        short = isinstance(error, EOFError) or "expected" in str(error).lower() or "end-of-stream" in str(error)
        if short:
            raise ReadError(
                "E_TRUNCATED", f"{base_name(path)} ends before its last voxel; copy or export it again."
            ) from error
        raise ReadError("E_DECODE", f"{base_name(path)} is damaged; copy or export it again.") from error
    header = _stored_header(path, image.header)
    affine, spaced = _nifti_affine(header, image.header, path)
    array, intensity = _channels(stored.reshape(_three(shape)), path)
    array, meta = finite(array, base_name(path))
    block = np.frombuffer(header.binaryblock, dtype=np.uint8).copy()
    meta |= {FORMAT: "nifti", SOURCE_SHAPE: np.array(shape), NIFTI_HEADER: block}
    meta |= {GEOMETRY_DOUBTFUL: True} if geometry_disagrees(header) else {}
    return Source(array, intensity, affine, spaced=spaced, meta=meta)


def read_itk(path: Path) -> Source:
    """Read one NRRD or MetaImage volume through SimpleITK.

    Args:
        path: a `.nrrd`, `.nhdr`, `.mha` or `.mhd` file of 2 or 3 dimensions.

    Returns:
        `array` (1, x, y, z), or (3, x, y, z) for 8-bit RGB; a 2D file has z = 1.

    Raises:
        ReadError: `E_DECODE`, `E_FORMAT`, `E_NOT_FOUND`, `E_OUTSIDE`, `E_TRUNCATED`, `E_TOO_LARGE`, `E_4D`,
            `E_GEOMETRY` or `E_NO_PIXELS`.
    """
    files, lengths = _data_files(path), itk_lengths(path, base_name(path))
    _check_signs(path)
    of_meta = path.name.lower().endswith(METAIMAGE_SUFFIXES)
    if not of_meta:
        nrrd_encoding(path)
    shape: tuple[int, ...] = ()
    try:
        with _silent_itk() as sitk:
            reader = sitk.ImageFileReader()
            reader.SetImageIO("MetaImageIO" if of_meta else "NrrdImageIO")
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            shape = tuple(int(n) for n in reader.GetSize())
            _check_one_volume(shape, path, "SimpleITK: image[..., 0]")
            components = reader.GetNumberOfComponents()
            stored = _itk_voxels(reader, path, files)  # (z, y, x[, channel])
    except RuntimeError as error:
        if shape and (of_meta or nrrd_encoding(path) == "raw"):  # header, length and stream are valid
            raise
        raise ReadError(
            "E_DECODE", f"{base_name(path)} is damaged or does not match its suffix; copy or export it again."
        ) from error
    if components == 3 and stored.dtype == np.uint8:
        stored = np.moveaxis(stored, -1, 0).astype(np.float32)
        array = np.ascontiguousarray(stored.transpose(0, *range(stored.ndim - 1, 0, -1))).reshape(3, *_three(shape))
        intensity: Intensity = "display"
    elif components == 1:
        array, intensity = _channels(stored.T.reshape(_three(shape)), path)
        slope, offset = metaimage_scale(path) if of_meta else (1.0, 0.0)
        if (slope, offset) != (1, 0):
            array, intensity = (array.astype(np.float64) * slope + offset).astype(np.float32), "physical"
    else:
        raise ReadError("E_4D", f"{base_name(path)} has {components} values per voxel; save one of them as a volume.")
    array, meta = finite(array, base_name(path))
    affine = check_affine(_scaled(_itk_affine(reader), lengths.scale), base_name(path))
    meta |= {FORMAT: "itk", SOURCE_SHAPE: np.array(shape)}
    meta |= {GEOMETRY_DOUBTFUL: True} if lengths.doubtful else {}
    return Source(array, intensity, affine, spaced=lengths.known, meta=meta)


@contextmanager
def _silent_itk() -> Iterator[Any]:
    """SimpleITK, imported on first use, without its warnings, which quote values and paths."""
    import SimpleITK as sitk

    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield sitk
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _itk_voxels(reader: sitk.ImageFileReader, path: Path, files: list[Path]) -> NDArray[Any]:
    """The stored voxels after checks of length and stream, since ITK overlooks some damage."""
    import SimpleITK as sitk

    shape, components = reader.GetSize(), reader.GetNumberOfComponents()
    dtype = sitk.GetArrayViewFromImage(sitk.Image([1, 1], reader.GetPixelID(), components)).dtype
    count = prod(shape) * components
    _check_content(count * dtype.itemsize, files, path)
    of_meta = path.name.lower().endswith(METAIMAGE_SUFFIXES)
    values = metaimage_voxels(path, files[-1], dtype, count) if of_meta else None
    if values is not None:
        return values.reshape(*shape[::-1], *((components,) if components > 1 else ()))
    check_length(path, files[-1], count, dtype.itemsize)
    stored: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    return stored


def _check_packing(path: Path) -> None:
    """nibabel relies on the suffix, so that a wrong one would look like damage."""
    with path.open("rb") as file:
        head = file.read(4)
    packed = path.name.lower().endswith(".gz")
    if packed == (head[:2] == GZIP) or (packed and head not in _SIZES):
        return
    right = ".nii" if packed else ".nii.gz"
    raise ReadError("E_FORMAT", f"{base_name(path)} is {'not ' if packed else ''}compressed; rename it to {right}.")


def _opened(path: Path) -> Any:
    """A NIfTI image, or another format recognised by nibabel."""
    sniffed = None
    for kind in (_Nifti1, _Nifti2):
        fits, sniffed = kind.path_maybe_image(path, sniffed)
        if fits:
            _check_header(path, kind.header_class)
            return kind.from_filename(path)
    return nib.load(path)


def _check_header(path: Path, header_class: Any) -> None:
    """Reject a header with voxels inside or far beyond it, an infinite scale or a quaternion that is no rotation."""
    packed = path.name.lower().endswith(".gz")
    with gzip.open(path) if packed else path.open("rb") as file:
        header = header_class.from_fileobj(file, check=False)
    if not 0 <= int(header["dim"][0]) <= 7:
        raise ReadError("E_DECODE", f"{base_name(path)} does not declare 1 to 7 axes; copy or export it again.")
    begin, slope = float(header["vox_offset"]), float(header["scl_slope"])
    if begin != 0 and not header.sizeof_hdr <= begin <= _FARTHEST:
        raise ReadError(
            "E_DECODE", f"{base_name(path)} says that its voxels begin at byte {begin:.0f}; export it again."
        )
    if np.isinf(slope) or (np.isfinite(slope) and slope != 0 and not np.isfinite(header["scl_inter"])):
        raise ReadError("E_FORMAT", f"{base_name(path)} has unusable scale factors; correct its header.")
    turn = np.array([header[f"quatern_{part}"] for part in "bcd"], dtype=np.float64)
    if int(header["sform_code"]) <= 0 < int(header["qform_code"]) and not turn @ turn <= 1 + _TOO_LONG:
        raise ReadError("E_GEOMETRY", f"{base_name(path)} has a quaternion that is not a rotation; correct its header.")


def _stored_header(path: Path, header: Any) -> Any:
    """The header as stored, little-endian: nibabel repairs e.g. a negative pixdim, which other programs respect."""
    packed = path.name.lower().endswith(".gz")
    with gzip.open(path) if packed else path.open("rb") as file:
        stored = type(header)(file.read(header.sizeof_hdr), endianness=header.endianness, check=False)
    return stored if stored.endianness == "<" else stored.as_byteswapped("<")


def _nifti_affine(stored: Any, repaired: Any, path: Path) -> tuple[NDArray[np.float64], bool]:
    """(4, 4) index -> RAS millimetres, and whether the voxel edges are known; an unknown edge counts as 1."""
    lengths = nifti_lengths(stored)
    if not lengths.known:
        edges = repaired["pixdim"][1:4]
        repaired["pixdim"][1:4] = np.where(np.isfinite(edges), edges, 1)
    return check_affine(_scaled(repaired.get_best_affine(), lengths.scale), base_name(path)), lengths.known


def _scaled(affine: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = np.array(affine, dtype=np.float64)
    scaled[:3] *= scale[:, None]
    return scaled


def _check_one_volume(shape: tuple[int, ...], path: Path, how: str) -> None:
    if len(shape) < 2 or min(shape) < 1:
        raise ReadError("E_FORMAT", f"{base_name(path)} has shape {shape}; a slice or a volume is needed.")
    if any(n > 1 for n in shape[3:]):
        raise ReadError(
            "E_4D", f"{base_name(path)} has shape {shape}; segment one time point, saved on its own ({how})."
        )
    check_voxels(shape, base_name(path))


def _check_content(size: int, files: list[Path], path: Path) -> None:
    """Reject a header that declares more bytes than its files can unpack to, before memory is allocated."""
    if size > DEFLATE_RATIO * sum(file.stat().st_size for file in files):
        raise ReadError("E_TRUNCATED", f"{base_name(path)} ends before its last voxel; copy or export it again.")


def _data_files(path: Path) -> list[Path]:
    """Return `path` and the file of voxels that its header names, which must be beside it."""
    fields = read_text_header(path).fields
    name = fields.get("ElementDataFile", fields.get("datafile", "LOCAL"))
    if name.upper() == "LOCAL":
        return [path]
    if name.upper().startswith("LIST") or "%" in name:
        raise ReadError("E_FORMAT", f"{base_name(path)} is spread over several files; save it as one .nrrd or .mha.")
    if name.startswith("/") or any(part == ".." or ":" in part for part in re.split(r"[/\\]", name)):
        raise ReadError("E_OUTSIDE", f"{base_name(path)} refers to voxels outside its folder; do not trust it.")
    if not (path.parent / name).resolve().is_relative_to(path.parent.resolve()):
        raise ReadError("E_OUTSIDE", f"{base_name(path)} refers to voxels through a link out of its folder; copy them.")
    if not (path.parent / name).is_file():
        raise ReadError(
            "E_NOT_FOUND", f"{base_name(path)} refers to a file of voxels that is not beside it; copy both."
        )
    return [path, path.parent / name]


def _check_signs(path: Path) -> None:
    """Reject negative sizes, which ITK takes for huge ones."""
    fields = read_text_header(path).fields
    if any(word.startswith("-") for word in fields.get("DimSize", fields.get("sizes", "")).split()):
        raise ReadError("E_DECODE", f"{base_name(path)} declares a negative size; copy or export it again.")


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = (*shape, 1)[:3]
    return x, y, z


def _channels(stored: NDArray[Any], path: Path) -> tuple[NDArray[np.float32], Intensity]:
    """Convert stored (x, y, z) to (1 or 3, x, y, z) float32, with the meaning of the values."""
    if stored.dtype.names is not None:
        if stored.dtype.names[:3] != ("R", "G", "B"):
            raise ReadError("E_FORMAT", f"{base_name(path)} has voxels of type {stored.dtype}; save plain numbers.")
        return np.stack([stored[name] for name in ("R", "G", "B")]).astype(np.float32), "display"
    if not (np.issubdtype(stored.dtype, np.integer) or np.issubdtype(stored.dtype, np.floating)):
        raise ReadError("E_FORMAT", f"{base_name(path)} has voxels of type {stored.dtype}; save plain numbers.")
    # unsigned bytes without a scale are neither HU nor MR units: the volume was windowed on export
    intensity: Intensity = "display" if stored.dtype == np.uint8 else "physical"
    return np.ascontiguousarray(stored[None], dtype=np.float32), intensity


def _itk_affine(image: sitk.ImageFileReader) -> NDArray[np.float64]:
    """ITK direction, spacing and origin (LPS) -> (4, 4) in RAS."""
    n = image.GetDimension()
    keep = min(n, 3)
    affine = np.eye(4)
    direction = np.asarray(image.GetDirection(), dtype=np.float64).reshape(n, n)
    affine[:keep, :keep] = (direction * np.asarray(image.GetSpacing()))[:keep, :keep]
    affine[:keep, 3] = image.GetOrigin()[:keep]
    ras: NDArray[np.float64] = LPS_TO_RAS @ affine
    return ras
