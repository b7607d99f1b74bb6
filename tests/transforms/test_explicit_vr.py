"""Data sets written item by item: the bytes of pydicom, with each item visited a fixed number of times."""

from collections import Counter
from collections.abc import Iterator, ValuesView
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from monai_tpseg.io.dicom.explicit_vr import save_explicit


class Counted(Dataset):
    """A data set that counts how often its elements are looked through."""

    looks: ClassVar[Counter[str]] = Counter()

    def elements(self) -> Iterator[Any]:
        self.looks[self.get("PatientID", "")] += 1
        return super().elements()

    def values(self) -> ValuesView[Any]:
        self.looks[self.get("PatientID", "")] += 1
        return super().values()


def nested(depth: int) -> Counted:
    """An item with `depth` items in one another; each has its depth as identifier."""
    item = Counted()
    item.PatientID = f"{depth}"
    if depth:
        item.ReferencedStudySequence = [nested(depth - 1)]
    return item


def complete(content: Dataset) -> Dataset:
    content.SpecificCharacterSet = "ISO_IR 192"
    content.preamble = bytes(128)
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return content


def every_kind() -> Dataset:
    """A data set with all that an item may contain."""
    root, item, inner = Dataset(), Dataset(), Dataset()
    inner.PatientName = "Žižka^Jan"
    inner.CodeMeaning = "Läsion"
    inner.ImageType = ["DERIVED", "SECONDARY"]
    inner.NumericValue, inner.ImagePositionPatient = "1.50", [0.1, -2, 3e-7]
    inner.PixelPaddingValue = -5  # US or SS, by the Pixel Representation of the root
    inner.ConceptCodeSequence = []
    item.add_new(0x00080000, "UL", 10)  # group length, retired
    item.ReferencedStudySequence = [inner, inner]
    item.is_undefined_length_sequence_item = True
    item.StudyDate, item.StudyTime = "20240229", ""
    latin = Dataset()
    latin.SpecificCharacterSet, latin.CodeMeaning = "ISO_IR 100", "Läsion"
    undefined = Dataset()
    undefined.ReferencedSeriesSequence = [Dataset()]
    undefined["ReferencedSeriesSequence"].is_undefined_length = True
    private = item.private_block(0x0011, "MAKER", create=True)
    private.add_new(1, "SQ", [inner])
    private.add_new(2, "OB", b"\x01\x02")
    root.PixelRepresentation = 1
    root.ReferencedSeriesSequence = [item, latin, undefined, Dataset()]
    root.ReferencedImageSequence = []
    root.SOPInstanceUID = "1.2.3"
    return complete(root)


def test_all_kinds_of_items_are_written_as_pydicom_does(tmp_path: Path) -> None:
    every_kind().save_as(tmp_path / "pydicom.dcm")

    save_explicit(every_kind(), tmp_path / "own.dcm")

    assert (tmp_path / "own.dcm").read_bytes() == (tmp_path / "pydicom.dcm").read_bytes()


def test_equal_texts_of_other_elements_keep_their_own_bytes(tmp_path: Path) -> None:
    def made() -> Dataset:
        item = Dataset()
        item.CodeValue = item.CodingSchemeDesignator = item.StudyInstanceUID = "1.2.3"
        root = Dataset()
        root.ConceptCodeSequence = [item, item]
        return complete(root)

    made().save_as(tmp_path / "pydicom.dcm")

    save_explicit(made(), tmp_path / "own.dcm")

    assert (tmp_path / "own.dcm").read_bytes() == (tmp_path / "pydicom.dcm").read_bytes()


@pytest.mark.parametrize("depth", [3, 6])
def test_an_item_is_looked_through_as_often_at_any_depth(depth: int, tmp_path: Path) -> None:
    root = complete(nested(depth))
    Counted.looks.clear()

    save_explicit(root, tmp_path / "own.dcm")

    assert Counted.looks["0"] == Counted.looks["1"] == 2  # for ambiguous elements, and to be written
