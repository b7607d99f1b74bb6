"""Attributes of a DICOM header, one function each, for pictures, slices and frames of multi-frame objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement

from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.lengths import FARTHEST_MM, is_edge
from monai_tpseg.io.rounding import DEGREES

__all__ = [
    "Padding",
    "Rescale",
    "as_text",
    "directions",
    "finite",
    "frame_of_reference",
    "is_colour",
    "is_given",
    "is_rescaled",
    "modality_lut",
    "number",
    "numbers",
    "other_unit",
    "padding",
    "photometric",
    "pixel_spacing",
    "position",
    "rescale",
    "scales_differ",
    "thickness",
    "valid_elements",
]

_LARGEST = 1e30  # largest factor or offset whose results float32 can hold
_HOUNSFIELD = "[hnsf'U]"  # of UCUM
_NO_HOUNSFIELD = frozenset(
    {"ED", "EDW", "MGML", "OD", "PCT", "Z_EFF"}
)  # PS3.3 C.11.1.1.2: densities, maps of materials
_NUMBERS = ("DS", "IS", "FD", "FL")
_EXACT = 1e-6  # deviation of a product of two unit vectors that were rounded to six decimals


class Rescale(NamedTuple):
    """Value = slope x stored value + intercept."""

    slope: float = 1.0
    intercept: float = 0.0


class Padding(NamedTuple):
    """Stored values from `low` to `high`, inclusive, mark pixels without data."""

    low: float
    high: float


def is_given(header: Any, keyword: str) -> bool:
    """Return whether `header` has a value for `keyword`, valid or not."""
    if keyword not in header:
        return False
    valid, value = _parsed(header, keyword)
    return not valid or (value is not None and (not hasattr(value, "__len__") or len(value) > 0))


def as_text(header: Any, keyword: str) -> str:
    """Return the value of `keyword` as text; a value that its type does not allow is returned as stored in the file."""
    valid, value = _parsed(header, keyword)
    return str(value) if valid else repr(header.get_item(keyword).value)


def _parsed(header: Any, key: Any) -> tuple[bool, Any]:
    """Return whether the value of a keyword, or the element of a tag, is valid, and it: pydicom parses it on access."""
    try:
        return True, header.get(key)
    except Exception:  # any exception, depending on the type of the value
        return False, None


def numbers(header: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return `count` finite numbers, or None if they are missing, not numbers, or of another count."""
    valid, value = _parsed(header, keyword)
    found = finite(value) if valid else None
    return found if found is not None and len(found) == count else None


def valid_elements(header: Any) -> Iterator[DataElement]:
    """Yield the elements of a header by tag, except those with an invalid value or a number that is not finite.

    Numbers may be empty, alone or among others.
    """
    for tag in sorted(header.keys()):
        valid, element = _parsed(header, tag)
        if not valid:
            continue
        values = [element.value] if element.VM <= 1 else element.value
        if element.VR not in _NUMBERS or finite([x for x in values if x not in (None, "")]) is not None:
            yield element


def finite(value: Any) -> tuple[float, ...] | None:
    """Return one or several values as numbers, or None if one is not a finite number."""
    try:
        found = tuple(float(x) for x in ([value] if np.ndim(value) == 0 else value))
    except (TypeError, ValueError, ArithmeticError):
        return None
    return found if bool(np.isfinite(found).all()) else None


def number(header: Any, keyword: str) -> float | None:
    """Return a finite number, or None if there is none."""
    found = numbers(header, keyword, 1)
    return None if found is None else found[0]


def position(header: Any) -> NDArray[np.float64] | None:
    """Return the centre of the first pixel, (3,) in LPS millimetres, or None if it is missing or unusable."""
    found = numbers(header, "ImagePositionPatient", 3)
    return None if found is None or max(map(abs, found)) > FARTHEST_MM else np.array(found)


def directions(header: Any) -> NDArray[np.float64] | None:
    """Return the directions of increasing column and row index, (2, 3) perpendicular unit vectors in LPS.

    Rounded vectors are replaced by the nearest perpendicular unit vectors. The result is None if the header has none,
    or if their lengths or their angle deviate by more than `rounding.DEGREES`.
    """
    found = numbers(header, "ImageOrientationPatient", 6)
    if found is None:
        return None
    across = np.array(found).reshape(2, 3)
    off = float(np.abs(across @ across.T - np.eye(2)).max())
    if off <= _EXACT:
        return across
    if off > 2 * np.sin(np.radians(DEGREES)):
        return None
    u, _, vt = np.linalg.svd(across, full_matrices=False)
    nearest: NDArray[np.float64] = u @ vt
    return nearest


def pixel_spacing(header: Any) -> tuple[float, float] | None:
    """Return the spacing of rows and of columns in mm, or None if it is unknown."""
    found = numbers(header, "PixelSpacing", 2)
    return (found[0], found[1]) if found is not None and all(map(is_edge, found)) else None


def thickness(header: Any) -> float | None:
    """Return the slice thickness in mm, or None if it is unknown."""
    found = number(header, "SliceThickness")
    return found if found is not None and is_edge(found) else None


def frame_of_reference(header: Any) -> str:
    """Return the UID of the coordinate system of the positions, or "" if it was removed, e.g. by anonymisation."""
    return str(header.get("FrameOfReferenceUID") or "").strip()


def photometric(header: Any) -> str:
    """Return the photometric interpretation; if absent, grey or RGB according to the number of samples."""
    named = str(header.get("PhotometricInterpretation") or "").strip().upper()
    return named or ("RGB" if number(header, "SamplesPerPixel") == 3 else "MONOCHROME2")


def is_colour(header: Any) -> bool:
    """Return whether a pixel has three values, stored or from a palette."""
    return number(header, "SamplesPerPixel") == 3 or photometric(header) == "PALETTE COLOR"


def modality_lut(header: Any) -> Any:
    """Return the item of the modality LUT, or None if there is none or it is empty."""
    for item in header.get("ModalityLUTSequence") or ():
        return item if is_given(item, "LUTDescriptor") and is_given(item, "LUTData") else None
    return None


def is_rescaled(header: Any, name: object = "the object") -> bool:
    """Return whether a modality LUT, a slope or an intercept changes the stored values."""
    return modality_lut(header) is not None or rescale(header, name) != Rescale()


def other_unit(header: Any) -> bool:
    """Return whether a CT object declares a unit other than HU, e.g. electron density."""
    lut = modality_lut(header)
    unit = str(header.get("RescaleType") if lut is None else lut.get("ModalityLUTType") or "").strip().upper()
    return header.get("Modality") == "CT" and unit in _NO_HOUNSFIELD


def scales_differ(headers: Sequence[Any], name: object = "the object") -> bool:
    """Return whether only some slices or frames have a modality LUT, or a slope or intercept that changes values.

    The others are read with slope 1 and intercept 0 and may therefore be on another scale.
    """
    tables = {modality_lut(header) is not None for header in headers}
    if tables != {False}:
        return len(tables) > 1
    scales = [rescale(header, name) for header in headers]
    for keyword, matters in (
        ("RescaleSlope", any(scale.slope != 1 for scale in scales)),
        ("RescaleIntercept", any(scale.intercept != 0 for scale in scales)),
    ):
        if matters and not all(is_given(header, keyword) or _mapped(header) for header in headers):
            return True
    return False


def rescale(header: Any, name: object) -> Rescale:
    """Return slope and intercept; if absent or empty, they default to 1 and 0.

    A CT object with neither may define HU by a real-world value mapping (PS3.3 C.7.6.16.2.11).

    Args:
        header: of an object or a frame, see `frames_of`.
        name: name used in error messages.

    Raises:
        ReadError: `E_FORMAT`, slope or intercept is not finite, or the slope is 0.
    """
    found = _mapped(header) or Rescale()
    for field, keyword in (("slope", "RescaleSlope"), ("intercept", "RescaleIntercept")):
        if not is_given(header, keyword):
            continue
        value = number(header, keyword)
        if value is None or abs(value) > _LARGEST:
            raise ReadError("E_FORMAT", f"{name} has an unusable rescale {field}; correct its header.")
        found = found._replace(**{field: value})
    if found.slope == 0:
        raise ReadError("E_FORMAT", f"{name} has a rescale slope of 0, which leaves no values; correct its header.")
    return found


def _mapped(header: Any) -> Rescale | None:
    """Slope and intercept of the mapping to HU of a CT object without rescale."""
    if header.get("Modality") != "CT" or is_given(header, "RescaleSlope") or is_given(header, "RescaleIntercept"):
        return None
    for item in header.get("RealWorldValueMappingSequence") or ():
        units = [str(unit.get("CodeValue") or "") for unit in item.get("MeasurementUnitsCodeSequence") or ()]
        slope, intercept = number(item, "RealWorldValueSlope"), number(item, "RealWorldValueIntercept")
        if units == [_HOUNSFIELD] and slope and intercept is not None and max(abs(slope), abs(intercept)) <= _LARGEST:
            return Rescale(slope, intercept)
    return None


def padding(header: Any) -> Padding | None:
    """Return the stored values that a grey object declares as padding (PS3.3 C.7.5.1.1.2), or None.

    Padding may be signed or unsigned, independent of the pixel representation.
    """
    if is_colour(header):
        return None
    for kind in ("Float", "DoubleFloat"):
        value = number(header, f"{kind}PixelPaddingValue")
        if value is not None:
            limit = number(header, f"{kind}PixelPaddingRangeLimit")
            ends = (value, value if limit is None else limit)
            return Padding(min(ends), max(ends))
    value, limit = number(header, "PixelPaddingValue"), number(header, "PixelPaddingRangeLimit")
    if value is None:
        return None
    first, last = _as_stored(value, header), _as_stored(value if limit is None else limit, header)
    return Padding(min(first, last), max(first, last))


def _as_stored(value: float, header: Any) -> int:
    """Convert a signed or unsigned 16-bit value to the pixel representation."""
    allocated, stored = (1 << int(number(header, word) or 16) for word in ("BitsAllocated", "BitsStored"))
    if not number(header, "PixelRepresentation"):
        return int(value) % allocated
    for span in (allocated, stored):
        signed = (int(value) + span // 2) % span - span // 2
        if -stored // 2 <= signed < stored // 2:
            return signed
    return int(value)
