"""What a DICOM file is: an image or not, whatever its modality says, and a body that no object has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    EnhancedUSVolumeStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    RTDoseStorage,
    RTStructureSetStorage,
    SegmentationStorage,
    TwelveLeadECGWaveformStorage,
)

from monai_tpseg.io import ReadError
from monai_tpseg.io.dicom.image_check import is_image
from monai_tpseg.io.dicom.object import is_dicom, parsed_once, read_dataset
from monai_tpseg.transforms import LoadMedicalImage

Write = Callable[..., Path]


@pytest.mark.parametrize(
    "storage",
    [
        BasicTextSRStorage,
        EncapsulatedPDFStorage,
        GrayscaleSoftcopyPresentationStateStorage,
        KeyObjectSelectionDocumentStorage,
        RTDoseStorage,
        RTStructureSetStorage,
        SegmentationStorage,
        TwelveLeadECGWaveformStorage,
    ],
)
@pytest.mark.parametrize("modality", ["CT", "OT", None])
def test_the_class_of_an_object_says_that_it_is_no_image(
    write_dicom: Write, storage: str, modality: str | None
) -> None:
    path = write_dicom("a", np.zeros((4, 4), np.uint16), modality, SOPClassUID=storage)
    assert not is_image(read_dataset(path))
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(path)
    assert caught.value.code == "E_NOT_IMAGE"


def test_a_volume_that_is_not_called_an_image_is_one(write_dicom: Write) -> None:
    path = write_dicom("a", np.zeros((4, 4), np.uint8), "US", SOPClassUID=EnhancedUSVolumeStorage)
    assert is_image(read_dataset(path))


@pytest.mark.parametrize("kept", [False, True])
def test_zeros_instead_of_elements_are_named_and_not_parsed(write_dicom: Write, kept: bool) -> None:
    good = write_dicom("a", np.zeros((4, 4), np.uint8), "US")
    head = good.read_bytes()
    meta = head.index(b"\x08\x00\x16\x00")  # the class of the object, after the information of the file
    end = meta if not kept else head.index(b"\x28\x00\x10\x00")  # in the middle of the header
    good.write_bytes(head[:end] + bytes(2**24))  # parsed element by element, this takes minutes
    with pytest.raises(ReadError, match="contains zeros") as caught:
        LoadMedicalImage()(good)
    assert caught.value.code == "E_DECODE"


def test_elements_without_end_are_refused(write_dicom: Write) -> None:
    path = write_dicom("a", np.zeros((4, 4), np.uint8), "US")
    path.write_bytes(path.read_bytes() + b"\x09\x00\x01\x00UN\x00\x00\x00\x00\x00\x00" * 70_000)
    with pytest.raises(ReadError, match="over 65536 elements"):
        read_dataset(path)


def test_a_file_is_parsed_once(write_dicom: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened, own = write_dicom("a", np.ones((4, 4), np.uint8), "US"), list[Path](), Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args: (opened.append(self), own(self, *args))[1])
    with parsed_once() as known:
        assert is_dicom(path)
        assert LoadMedicalImage()(path).shape == (3, 4, 4)
        header = known[path].header
    assert opened == [path]
    assert "PixelData" not in header
    with parsed_once({path: header}):
        assert read_dataset(path, pixels=False) is header
        assert "PixelData" in read_dataset(path)
    assert opened == [path, path]
