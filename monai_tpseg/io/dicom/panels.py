"""Header-based detection of frames that may show a screen or several pictures instead of one slice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monai_tpseg.io.dicom.attributes import is_colour, is_given, numbers

__all__ = ["image_types", "is_mosaic", "is_secondary_capture", "may_show_panels"]

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and .1 to .4: multi-frame with 1, 8, 16 bits or colour
_TILED = ("MOSAIC", "MONTAGE", "COLLAGE", "MULTIPANEL", "MULTI PANEL", "MULTI_PANEL", "CONTACT SHEET")
_SCREENS = ("SCREEN", "POSDISP", "DOSE_INFO", "REPORT", "HARDCOPY", "FILMED", "LAYOUT")
_FROM_A_SCREEN = frozenset({"DRW", "DV", "SD", "SI", "SYN", "WSD"})  # ConversionType: drawing, video, scan, workstation
_SLICES = frozenset({"CT", "MR", "PT"})  # scanner images of these modalities have positions
_SIEMENS_IMAGES = (0x0019, 0x0A)  # NumberOfImagesInMosaic, of the block "SIEMENS MR HEADER"
_LARGER = 3  # multiple of the acquired matrix in both directions: scanners interpolate to twice its size


def is_secondary_capture(header: Any) -> bool:
    """Return whether an object is a secondary capture: a screenshot, scanned paper or a picture of other origin."""
    storage = str(header.get("SOPClassUID") or "")
    return storage == _SECONDARY_CAPTURE or storage.startswith(f"{_SECONDARY_CAPTURE}.")


def image_types(header: Any) -> set[str]:
    """Return the values of ImageType and FrameType of the object and of all its frames, in upper case."""
    found = set[str]()
    frames = [item for group in _groups(header) for name in _FRAME_TYPES for item in (group.get(name) or ())[:1]]
    for one in (header, *frames):
        for keyword in ("ImageType", "FrameType"):
            kinds = one.get(keyword) or ()
            found |= {str(kind).strip().upper() for kind in ((kinds,) if isinstance(kinds, str) else kinds)}
    return found


def _groups(header: Any) -> list[Any]:
    """The shared functional group and those of the frames."""
    return [
        group
        for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        for group in header.get(keyword) or ()
    ]


_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")


def is_mosaic(header: Any) -> bool:
    """Return whether a frame is declared to show many slices side by side, by its type or a Siemens header.

    Enhanced objects keep Siemens' header in their functional groups, often inside a private sequence.
    """
    if any(word in kind for kind in image_types(header) for word in _TILED):
        return True
    return any(_mosaic_size(item) > 1 for group in (header, *_groups(header)) for item in _all(group))


def _mosaic_size(item: Any) -> int:
    group, element = _SIEMENS_IMAGES
    try:
        return int(item.private_block(group, "SIEMENS MR HEADER")[element].value)
    except (KeyError, TypeError, ValueError):
        return 1


def _all(group: Any) -> Iterator[Any]:
    """A header or functional group and the items of its private sequences, at any depth."""
    yield group
    for tag in [tag for tag in group.keys() if tag.is_private]:  # noqa: SIM118  # values would be parsed
        for item in (group[tag].value or ()) if group.get_item(tag).VR == "SQ" else ():
            yield from _all(item)


def may_show_panels(header: Any, placed: bool) -> bool:
    """Return whether a frame may show a screen, paper or several slices, so that review is needed.

    This applies to secondary captures; to screens by image type or conversion type; to CT, MR or PET without a position
    that is derived, in colour or has burned-in text; and to frames far larger than the acquired matrix.

    Args:
        header: header of the object.
        placed: whether its frames have positions.
    """
    kinds = image_types(header)
    if is_secondary_capture(header) or any(word in kind for kind in kinds for word in _SCREENS):
        return True
    if _is_far_larger(header):
        return True
    if placed:
        return False
    if str(header.get("ConversionType") or "").strip().upper() in _FROM_A_SCREEN:
        return True
    derived = bool(kinds & {"DERIVED", "SECONDARY"}) or is_given(header, "ConversionType")
    burned = str(header.get("BurnedInAnnotation") or "").strip().upper() == "YES"
    return str(header.get("Modality") or "") in _SLICES and (derived or burned or is_colour(header))


def _is_far_larger(header: Any) -> bool:
    """Whether rows and columns are the same integer multiple, at least three, of the acquired MR matrix."""
    matrix = numbers(header, "AcquisitionMatrix", 4)  # frequency rows, columns, phase rows, columns
    rows, columns = (numbers(header, word, 1) for word in ("Rows", "Columns"))
    if matrix is None or rows is None or columns is None or str(header.get("Modality") or "") != "MR":
        return False
    acquired = [number for number in matrix if number > 0]
    if len(acquired) != 2:
        return False
    times = {rows[0] / acquired[0], columns[0] / acquired[1]}
    return len(times) == 1 and min(times) >= _LARGER and min(times) == int(min(times))
