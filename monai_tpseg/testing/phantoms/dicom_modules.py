"""The DICOM modules that phantoms are written with: patient, study, equipment, plane, frames and pixels."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.valuerep import DSfloat

from monai_tpseg.catalogue import Modality, get_task

__all__ = ["add_oct_frames", "add_pixels", "add_plane", "add_region", "decimals", "item", "make_header", "make_uid"]

_SOP_CLASSES: dict[Modality, tuple[str, str]] = {  # class, Modality attribute
    Modality.OCT: (uid.OphthalmicTomographyImageStorage, "OPT"),
    Modality.MRI: (uid.MRImageStorage, "MR"),
    Modality.PATHOLOGY: (uid.VLMicroscopicImageStorage, "GM"),
    Modality.ULTRASOUND: (uid.UltrasoundImageStorage, "US"),
    Modality.ENDOSCOPY: (uid.VLEndoscopicImageStorage, "ES"),
    Modality.CT: (uid.CTImageStorage, "CT"),
    Modality.DERMOSCOPY: (uid.VLPhotographicImageStorage, "XC"),
}

_BODY_PARTS: dict[str, str] = {
    "wet_amd": "EYE",
    "brain_tumor": "BRAIN",
    "adenocarcinoma": "COLON",
    "thyroid_nodule": "THYROID",
    "colon_polyp": "COLON",
    "lung_infection": "CHEST",
    "breast_lesion": "BREAST",
    "skin_lesion": "HAND",
}

_PAIRED = frozenset({"breast_lesion", "skin_lesion"})  # parts with a side; that of an eye stands with its frames

_POSITION_IN_STACK, _FRAME_CONTENT = 0x00209057, 0x00209111  # tags of the dimension that orders OCT frames


def make_header(task: str, study: str, instance: int) -> FileDataset:
    """Return a data set with the patient, study, series and equipment modules; `study` decides the identifiers."""
    sop_class, modality = _SOP_CLASSES[get_task(task).modality]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid.UID(sop_class)
    meta.MediaStorageSOPInstanceUID = make_uid(study, "instance", instance)
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName = f"Phantom^{task.title().replace('_', '')}"
    data.PatientID = "PHANTOM-" + hashlib.sha256(study.encode()).hexdigest()[:8].upper()
    data.PatientBirthDate, data.PatientSex, data.PatientIdentityRemoved = "19700101", "O", "YES"
    data.DeidentificationMethod = "synthetic image, no patient"
    data.StudyInstanceUID, data.SeriesInstanceUID = make_uid(study, "study", 0), make_uid(study, "series", 0)
    data.StudyDate = data.SeriesDate = data.ContentDate = data.AcquisitionDate = "20240101"
    data.StudyTime = data.SeriesTime = data.ContentTime = data.AcquisitionTime = "120000"
    data.AcquisitionDateTime = "20240101120000"
    data.StudyID, data.AccessionNumber, data.ReferringPhysicianName = "1", "", ""
    data.StudyDescription, data.SeriesDescription = "Phantom study", f"Phantom {task.replace('_', ' ')}"
    data.Modality, data.SeriesNumber, data.InstanceNumber = modality, 1, instance
    data.BodyPartExamined = _BODY_PARTS[task]
    if task in _PAIRED:
        data.Laterality = "R"
    if get_task(task).modality not in (Modality.OCT, Modality.CT, Modality.MRI):
        data.PatientOrientation = ""  # the others carry a plane
    data.Manufacturer, data.ManufacturerModelName = "monai_tpseg", "phantoms"
    data.DeviceSerialNumber, data.SoftwareVersions = "0", "1"
    data.ImageType = ["ORIGINAL", "PRIMARY"]
    data.LossyImageCompression, data.BurnedInAnnotation = "00", "NO"
    return data


def make_uid(study: str, what: str, number: int) -> uid.UID:
    """Return the identifier of `number` among the `what` of `study`, the same each time."""
    return uid.generate_uid(entropy_srcs=[study, what, str(number)])


def decimals(*values: float) -> list[DSfloat]:
    """Return `values` as decimal strings of at most 16 characters."""
    return [DSfloat(float(value), auto_format=True) for value in values]


def add_plane(data: FileDataset, position: tuple[float, float, float], spacing: tuple[float, float, float]) -> None:
    """Put the pixels that `data` holds on an axial plane: columns run to the left, rows to posterior.

    Args:
        data: has Rows and Columns.
        position: mm (left, posterior, superior) of the first pixel's centre.
        spacing: mm between rows, columns and slices.
    """
    _add_frame_of_reference(data)
    data.ImageOrientationPatient = decimals(1, 0, 0, 0, 1, 0)
    data.ImagePositionPatient = decimals(*position)
    data.PixelSpacing = decimals(*spacing[:2])
    data.SliceThickness = data.SpacingBetweenSlices = decimals(spacing[2])[0]
    if data.Modality == "US":
        add_region(data, spacing)


def _add_frame_of_reference(data: FileDataset) -> None:
    data.FrameOfReferenceUID = uid.generate_uid(entropy_srcs=[str(data.SeriesInstanceUID), "frame of reference"])
    data.PositionReferenceIndicator, data.PatientPosition = "", "HFS"


def add_region(data: FileDataset, spacing: tuple[float, ...], top: int = 0) -> None:
    """Add the ultrasound region: tissue, centimetres per pixel, the whole frame below its first `top` rows."""
    region = item(
        RegionSpatialFormat=1,  # two-dimensional
        RegionDataType=1,  # tissue
        RegionFlags=0,
        RegionLocationMinX0=0,
        RegionLocationMinY0=top,
        RegionLocationMaxX1=data.Columns - 1,
        RegionLocationMaxY1=data.Rows - 1,
        PhysicalUnitsXDirection=3,  # cm
        PhysicalUnitsYDirection=3,
        PhysicalDeltaX=spacing[1] / 10,
        PhysicalDeltaY=spacing[0] / 10,
    )
    data.SequenceOfUltrasoundRegions = Sequence([region])


def add_oct_frames(
    data: FileDataset,
    values: NDArray[np.float32],
    origin: tuple[float, float, float],
    spacing: tuple[float, float, float],
) -> None:
    """Add (H, W, D) values as frames, inferior first, each with its plane in the functional groups."""
    frames = np.ascontiguousarray(values.transpose(2, 0, 1)).astype(np.uint8)  # (H, W, D) -> (D, H, W)
    _add_frame_of_reference(data)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    add_pixels(data, frames, frames.shape[1:], 8)
    data.NumberOfFrames = len(frames)
    data.PresentationLUTShape, data.AcquisitionNumber, data.ImageLaterality = "IDENTITY", 1, "R"
    _add_eye(data)
    organization = uid.generate_uid(entropy_srcs=[str(data.SeriesInstanceUID), "dimensions"])
    data.DimensionOrganizationType = "3D"
    data.DimensionOrganizationSequence = Sequence([item(DimensionOrganizationUID=organization)])
    index = item(
        DimensionOrganizationUID=organization,
        DimensionIndexPointer=_POSITION_IN_STACK,
        FunctionalGroupPointer=_FRAME_CONTENT,
    )
    data.DimensionIndexSequence = Sequence([index])
    measures = item(
        PixelSpacing=decimals(*spacing[:2]),
        SliceThickness=decimals(spacing[2])[0],
        SpacingBetweenSlices=decimals(spacing[2])[0],
    )
    orientation = item(ImageOrientationPatient=decimals(1, 0, 0, 0, 1, 0))
    anatomy = item(FrameLaterality="R", AnatomicRegionSequence=Sequence([_code("5665001", "Retina")]))
    shared = item(
        PixelMeasuresSequence=Sequence([measures]),
        PlaneOrientationSequence=Sequence([orientation]),
        FrameAnatomySequence=Sequence([anatomy]),
    )
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.PerFrameFunctionalGroupsSequence = Sequence(
        [_oct_frame(data, (*origin[:2], origin[2] + k * spacing[2]), k + 1) for k in range(len(frames))]
    )


def _add_eye(data: FileDataset) -> None:
    """Add what an ophthalmic tomography says about the eye and its acquisition; mostly that it does not know."""
    data.AnatomicRegionSequence = Sequence([_code("5665001", "Retina")])
    data.AcquisitionDeviceTypeCodeSequence = Sequence([_code("392012008", "Optical Coherence Tomography Scanner")])
    data.DetectorType, data.AcquisitionDuration = "CCD", 1.0  # s
    data.InConcatenationNumber = data.InConcatenationTotalNumber = 1
    data.ConcatenationFrameOffsetNumber = 0
    for keyword in ("AxialLengthOfTheEye", "HorizontalFieldOfView", "EmmetropicMagnification", "IntraOcularPressure"):
        setattr(data, keyword, None)
    data.PupilDilated = ""
    for keyword in ("RefractiveStateSequence", "LightPathFilterTypeStackCodeSequence", "AcquisitionContextSequence"):
        setattr(data, keyword, Sequence([]))


def _code(value: str, meaning: str) -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)


def _oct_frame(data: FileDataset, position: tuple[float, float, float], number: int) -> Dataset:
    """Return the functional groups of one frame."""
    content = item(
        FrameAcquisitionDateTime=data.AcquisitionDateTime,
        FrameReferenceDateTime=data.AcquisitionDateTime,
        FrameAcquisitionDuration=1.0,  # ms
        StackID="1",
        InStackPositionNumber=number,
        DimensionIndexValues=number,
    )
    plane = item(ImagePositionPatient=decimals(*position))
    return item(FrameContentSequence=Sequence([content]), PlanePositionSequence=Sequence([plane]))


def item(**attributes: Any) -> Dataset:
    """Return a data set with `attributes` by keyword, for a sequence."""
    data = Dataset()
    for keyword, value in attributes.items():
        setattr(data, keyword, value)
    return data


def add_pixels(data: FileDataset, pixels: NDArray[Any], size: tuple[int, int], stored_bits: int) -> None:
    """Add unsigned pixels of a picture or of frames, `size` rows and columns each."""
    data.Rows, data.Columns = size
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored, data.HighBit, data.PixelRepresentation = stored_bits, stored_bits - 1, 0
    data.PixelData = np.ascontiguousarray(pixels).tobytes()
    data["PixelData"].VR = "OB" if data.BitsAllocated == 8 else "OW"
