"""A frame that is not one slice is refused where its header says so, and marked where it may be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, MultiFrameGrayscaleByteSecondaryCaptureImageStorage

from monai_tpseg.catalogue import Modality
from monai_tpseg.io import ReadError
from monai_tpseg.results import Status
from monai_tpseg.results.measurements import flags_of, outcome_with
from monai_tpseg.transforms import LoadMedicalImage

Write = Callable[..., Path]
MR, CT = {"SOPClassUID": MRImageStorage}, {"SOPClassUID": CTImageStorage}
PLACE = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
GREY = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
COLOUR = np.zeros((64, 64, 3), np.uint8)
SECONDARY = ["DERIVED", "SECONDARY"]


@pytest.mark.parametrize(
    ("modality", "tags", "pixels"),
    [
        ("OT", {}, GREY),  # secondary captures
        ("CT", {"SOPClassUID": MultiFrameGrayscaleByteSecondaryCaptureImageStorage}, GREY),
        ("US", {"ConversionType": "WSD"}, GREY),
        ("MR", {**MR, "ImageType": SECONDARY}, GREY),
        ("CT", {**CT, "ImageType": [*SECONDARY, "SCREEN SAVE"]}, GREY),
        ("CT", {**CT, **PLACE, "ImageType": [*SECONDARY, "SCREEN SAVE"]}, GREY),
        ("MR", {**MR, "ConversionType": "WSD"}, GREY),
        ("MR", {**MR, "ConversionType": "DI"}, GREY),
        ("CT", {**CT, "BurnedInAnnotation": "YES"}, GREY),
        ("CT", CT, COLOUR),
        ("DX", {**CT, "ConversionType": "SD"}, GREY),
        ("MR", {**MR, **PLACE, "AcquisitionMatrix": [0, 16, 16, 0]}, GREY),
    ],
)
def test_what_may_be_several_pictures_is_for_review(
    write_dicom: Write, modality: str, tags: dict[str, Any], pixels: Any
) -> None:
    image = LoadMedicalImage()(write_dicom("a", pixels, modality, **tags))
    assert image.meta["panels_doubtful"] is True
    flags = flags_of(np.zeros((64, 64)), [], image.meta, Modality.MRI)
    assert "maybe_panels" in flags
    assert outcome_with(flags, 0).status is Status.REVIEW


@pytest.mark.parametrize(
    ("modality", "tags"),
    [
        ("CT", {**CT, "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}),
        ("CT", {**CT, **PLACE, "ImageType": [*SECONDARY, "MPR"], "BurnedInAnnotation": "NO"}),
        ("MR", {**MR, **PLACE, "ImageType": [*SECONDARY, "MPR"]}),
        ("MR", {**MR, **PLACE, "AcquisitionMatrix": [0, 32, 32, 0]}),  # interpolated to twice the matrix
        ("MR", {**MR, **PLACE, "AcquisitionMatrix": [64, 0, 0, 21]}),
        ("MR", {**MR, "AcquisitionMatrix": [0, 0, 0, 0]}),
        ("US", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1", "BurnedInAnnotation": "YES"}),
        ("OP", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.5.1", "ImageType": SECONDARY}),
    ],
)
def test_an_image_of_a_scanner_is_not(write_dicom: Write, modality: str, tags: dict[str, Any]) -> None:
    assert "panels_doubtful" not in LoadMedicalImage()(write_dicom("a", GREY, modality, **tags)).meta


@pytest.mark.parametrize("kind", ["MOSAIC", "MONTAGE", "Collage", "MULTI_PANEL"])
def test_what_says_that_it_is_several_is_refused(write_dicom: Write, kind: str) -> None:
    for name, tags in (("a", {"ImageType": ["DERIVED", "PRIMARY", kind]}), ("b", _framed(kind))):
        with pytest.raises(ReadError) as caught:
            LoadMedicalImage()(write_dicom(name, GREY, "MR", **MR, **tags))
        assert caught.value.code == "E_MOSAIC"


def _framed(kind: str) -> dict[str, Any]:
    shared, frame = Dataset(), Dataset()
    frame.FrameType = ["ORIGINAL", "PRIMARY", kind]
    shared.MRImageFrameTypeSequence = [frame]
    return {"NumberOfFrames": 1, "SharedFunctionalGroupsSequence": [shared]}


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("place", ["shared", "frame", "inside"])
def test_mosaics_in_enhanced_objects(write_dicom: Write, frames: int, place: str) -> None:
    """Siemens' header says how many slices a frame shows: in a group of the last frame, or in a private sequence."""
    groups = [Dataset() for _ in range(frames)]
    shared, header = Dataset(), Dataset()
    owner = {"shared": shared, "frame": groups[-1], "inside": header}[place]
    owner.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 36)
    if place == "inside":
        groups[-1].private_block(0x0021, "SIEMENS MR SDI 02", create=True).add_new(0xFE, "SQ", [header])
    tags = {"NumberOfFrames": frames, "SharedFunctionalGroupsSequence": [shared]}
    path = write_dicom("a", np.stack([GREY] * frames), "MR", PerFrameFunctionalGroupsSequence=groups, **MR, **tags)
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(path)
    assert caught.value.code == "E_MOSAIC"


def test_one_frame_of_many_is_a_mosaic(write_dicom: Write) -> None:
    kinds = [["ORIGINAL", "PRIMARY", "M", kind] for kind in ("NONE", "NONE", "MOSAIC")]
    groups = [Dataset() for _ in kinds]
    for group, kind in zip(groups, kinds, strict=True):
        frame = Dataset()
        frame.FrameType = kind
        group.MRImageFrameTypeSequence = [frame]
    tags = {"NumberOfFrames": 3, "PerFrameFunctionalGroupsSequence": groups}
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(write_dicom("a", np.stack([GREY] * 3), "MR", **MR, **tags))
    assert caught.value.code == "E_MOSAIC"
