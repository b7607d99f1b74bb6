"""File headers before decoding: the format, and for DICOM the attributes that group files into cases."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from monai_tpseg.io.dicom.attributes import (
    directions,
    frame_of_reference,
    number,
    photometric,
    pixel_spacing,
    position,
)
from monai_tpseg.io.dicom.body_parts import Regions, is_auxiliary, regions_named
from monai_tpseg.io.dicom.copies import Identity, identity_of
from monai_tpseg.io.dicom.image_check import frame_count, is_image
from monai_tpseg.io.dicom.object import Dataset, open_dicom
from monai_tpseg.io.dicom.panels import is_secondary_capture
from monai_tpseg.io.dicom.repeats import Marks, marks_of
from monai_tpseg.io.dicom.stack import has_positions, is_localizer
from monai_tpseg.io.dicom.values import intensity_of
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.kinds import Kind, kind_without_dicom
from monai_tpseg.io.safety import base_name, read_safely
from monai_tpseg.suffixes import DICOM_SUFFIXES

__all__ = ["Header", "read_header"]


class Header(NamedTuple):
    """Header of a file, without any free text.

    Attributes:
        path: path of the file.
        kind: format of the file.
        code: error code, if the file is known to be unreadable.
        size: size of a non-DICOM file in bytes.
        image: DICOM, as all that follow: whether it is, or should be, an image of a patient.
        placed: whether it is a single frame with a position.
        slide: whether it is a level of a whole slide.
        localizer: whether it is a localizer.
        auxiliary: whether its header describes a localizer, a projection, a map, a monitoring scan or a report.
        screenshot: whether it is a secondary capture.
        modality: DICOM modality.
        regions: body regions named by the header.
        identity: identity of the object.
        series: series UID.
        frame_of_reference: UID of the coordinate system, "" if it was removed.
        grid: rows, columns and pixel format.
        spacing: spacing of rows and of columns in mm.
        orientation: (6,) direction cosines.
        position: (3,) in mm.
        marks: attributes that may distinguish it from another slice at its position.
        rank: order of slices that no attribute distinguishes.
    """

    path: Path
    kind: Kind = ""
    code: str = ""
    size: int = 0
    image: bool = True
    placed: bool = False
    slide: bool = False
    localizer: bool = False
    auxiliary: bool = False
    screenshot: bool = False
    modality: str = ""
    regions: Regions = ()
    identity: Identity = Identity(b"", "")
    series: str = ""
    frame_of_reference: str = ""
    grid: tuple[int, int, str, str] = (0, 0, "", "")
    spacing: tuple[float, float] = (0.0, 0.0)
    orientation: tuple[float, ...] = ()
    position: tuple[float, ...] = ()
    marks: Marks = ()
    rank: tuple[float, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether the header could be parsed."""
        return not self.code


def read_header(path: Path) -> Header:
    """Return the header of the file `path`; DICOM is opened once. A fault is stored as its code."""
    try:
        return read_safely(lambda: _read_header(path), base_name(path))
    except ReadError as error:
        # a file that cannot be opened is classified by its suffix
        dicom: Kind = "dicom" if path.name.lower().endswith(DICOM_SUFFIXES) else ""
        return Header(path, dicom, error.code)


def _read_header(path: Path) -> Header:
    try:
        dataset = open_dicom(path, pixels=False)
    except ReadError as error:
        return Header(path, "dicom", error.code)
    if dataset is not None:
        try:
            return _of_dicom(path, dataset)
        except ReadError as error:
            return Header(path, "dicom", error.code)
        except Exception:  # values that are not numbers: reading reports the error
            return Header(path, "dicom", "E_READ")
    size = path.stat().st_size
    try:
        return Header(path, kind_without_dicom(path), size=size)
    except ReadError as error:  # a damaged TIFF
        return Header(path, "picture", error.code, size)


def _of_dicom(path: Path, dataset: Dataset) -> Header:
    storage = dataset.get("SOPClassUID")
    found = Header(
        path,
        "dicom",
        image=is_image(dataset),
        slide=storage == VLWholeSlideMicroscopyImageStorage,
        localizer=is_localizer(dataset),
        auxiliary=is_auxiliary(dataset),
        screenshot=is_secondary_capture(dataset),
        modality=str(dataset.get("Modality") or ""),
        regions=regions_named(dataset),
        identity=identity_of(dataset),
        series=str(dataset.get("SeriesInstanceUID")),
    )
    if not found.image:
        return found
    if not dataset.get("Rows") or not dataset.get("Columns"):  # damaged: its group is unknown
        return found._replace(code="E_NO_PIXELS")
    single = frame_count(dataset, base_name(path)) == 1 and has_positions(dataset)
    place, across, spacing = position(dataset), directions(dataset), pixel_spacing(dataset)
    if found.slide or not single or place is None or across is None or spacing is None:
        return found
    return found._replace(
        placed=True,
        frame_of_reference=frame_of_reference(dataset),
        grid=(int(dataset.Rows), int(dataset.Columns), photometric(dataset), intensity_of(dataset)),
        spacing=spacing,
        orientation=tuple(across.ravel().tolist()),
        position=tuple(place.tolist()),
        marks=marks_of(dataset),
        rank=tuple(number(dataset, word) or 0.0 for word in ("TriggerTime", "AcquisitionNumber", "InstanceNumber")),
    )
