"""Multi-frame objects with a place for each frame: one stack is read, several are told apart and refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage

Array = np.ndarray[Any, np.dtype[Any]]
Write = Callable[..., Path]

AXIAL = (1.0, 0, 0, 0, 1, 0)
STORED = np.arange(6 * 5 * 4, dtype=np.uint16).reshape(6, 5, 4)


def item(**tags: Any) -> Dataset:
    found = Dataset()
    for name, value in tags.items():
        setattr(found, name, value)
    return found


def group(position: Sequence[float], orientation: Sequence[float] = AXIAL, scale: float = 1, **marks: Any) -> Dataset:
    """The functional group of a frame; `marks` maps a sequence to the attributes of its item."""
    found = item(
        PlanePositionSequence=[item(ImagePositionPatient=[float(x) for x in position])],
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(orientation))],
        PixelMeasuresSequence=[item(PixelSpacing=[2.0, 1.0], SliceThickness=3.0)],
        PixelValueTransformationSequence=[item(RescaleSlope=scale, RescaleIntercept=-1000, RescaleType="HU")],
    )
    for sequence, tags in marks.items():
        setattr(found, sequence, [item(**tags)])
    return found


def enhanced(write: Write, groups: list[Dataset]) -> Path:
    return write(
        "enhanced",
        STORED[: len(groups)],
        "CT",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1",
        NumberOfFrames=len(groups),
        FrameOfReferenceUID=generate_uid(),
        PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=[Dataset()],
        DimensionIndexSequence=[],
    )


def test_frames_are_sorted_by_position(write_dicom: Write) -> None:
    places = [4, 0, 2, 8, 6, 10]
    image = LoadMedicalImage()(enhanced(write_dicom, [group((0, 0, z)) for z in places]))
    order = np.argsort(places)
    np.testing.assert_array_equal(image[0].numpy(), STORED[order].transpose(1, 2, 0) - 1000.0)
    np.testing.assert_allclose(image.meta["spacing"], [2, 1, 2])


@pytest.mark.parametrize(
    ("sequence", "keyword", "values", "word"),
    [
        ("MREchoSequence", "EffectiveEchoTime", (10.0, 20.0), "echo"),
        ("FrameContentSequence", "TemporalPositionIndex", (1, 2), "phase"),
        ("FrameContentSequence", "StackID", ("1", "2"), "stack"),
        ("MRDiffusionSequence", "DiffusionBValue", (0.0, 800.0), "b-value"),
        ("MRImageFrameTypeSequence", "FrameType", (["ORIGINAL", "M"], ["ORIGINAL", "P"]), "image type"),
    ],
)
def test_stacks_at_the_same_positions_are_told_apart(
    write_dicom: Write, sequence: str, keyword: str, values: tuple[Any, Any], word: str
) -> None:
    groups = [group((0, 0, 2 * (n // 2)), **{sequence: {keyword: values[n % 2]}}) for n in range(6)]
    with pytest.raises(ReadError, match=f"2 stacks .* {word}") as caught:
        LoadMedicalImage()(enhanced(write_dicom, groups))
    assert caught.value.code == "E_SERIES_ECHOES"


@pytest.mark.parametrize(
    ("groups", "code"),
    [
        ([group((0, 0, 2 * (n // 2))) for n in range(6)], "E_SERIES_DUPLICATE"),
        (
            [group((0, 0, n)) for n in range(3)] + [group((0, n, 9), (1, 0, 0, 0, 0, -1)) for n in range(3)],
            "E_SERIES_MIXED",
        ),
        ([group((0, 0, z)) for z in (0, 2, 4, 6, 12, 14)], "E_SERIES_GAP"),
        ([group((0, 0.5 * z, z)) for z in range(6)], "E_SERIES_TILT"),
    ],
)
def test_what_is_no_regular_stack_has_its_code(write_dicom: Write, groups: list[Dataset], code: str) -> None:
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(enhanced(write_dicom, groups))
    assert caught.value.code == code


def test_irregular_frames_are_read_one_by_one(write_dicom: Write) -> None:
    places = [14, 0, 2, 12, 6, 4]
    path = enhanced(write_dicom, [group((7, -3, z), scale=1 + (z == 6)) for z in places])
    image = LoadMedicalImage(irregular="slices")(path)
    assert image.meta["irregular"] == "gap"
    values = STORED.astype(float) * (1 + (np.array(places) == 6))[:, None, None] - 1000
    np.testing.assert_array_equal(image[0].numpy(), values[np.argsort(places)].transpose(1, 2, 0))
    affines = np.asarray(image.meta["slice_affines"])
    for n, z in enumerate(sorted(places)):
        np.testing.assert_allclose(affines[n] @ [2, 3, 0, 1], [-(7 + 3 * 1), -(-3 + 2 * 2), z, 1])


def test_groups_that_do_not_match_the_frames(write_dicom: Write) -> None:
    path = enhanced(write_dicom, [group((0, 0, z)) for z in range(6)])
    data = path.read_bytes().replace(b"\x28\x00\x08\x00IS\x02\x006 ", b"\x28\x00\x08\x00IS\x02\x004 ")
    path.write_bytes(data)
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(path)
    assert caught.value.code == "E_DECODE"


@pytest.mark.parametrize("places", ["PlanePositionSequence", "PlanePositionVolumeSequence", "shared"])
def test_objects_of_one_frame_each_form_a_volume(write_dicom: Write, tmp_path: Path, places: str) -> None:
    of_volume = "Volume" if places == "PlanePositionVolumeSequence" else ""
    for n, z in enumerate((4, 0, 2, 8, 6, 10)):
        frame = Dataset()
        position = item(**{f"ImagePosition{of_volume or 'Patient'}": [-20.0, -30.0, float(z)]})
        setattr(frame, f"PlanePosition{of_volume}Sequence", [position])
        shared = item(PixelMeasuresSequence=[item(PixelSpacing=[2.0, 1.0], SliceThickness=2.0)])
        direction = item(**{f"ImageOrientation{of_volume or 'Patient'}": list(AXIAL)})
        setattr(shared, f"PlaneOrientation{of_volume}Sequence", [direction])
        shared.PixelValueTransformationSequence = [item(RescaleSlope=2, RescaleIntercept=-1000, RescaleType="HU")]
        if places == "shared":  # some writers put all there
            shared.PlanePositionSequence, frame = frame.PlanePositionSequence, Dataset()
        write_dicom(
            f"one/{n}",
            STORED[n],
            "CT",
            SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1",
            NumberOfFrames=1,
            SeriesInstanceUID="1.2.9",
            PerFrameFunctionalGroupsSequence=[frame],
            SharedFunctionalGroupsSequence=[shared],
        )
    image = LoadMedicalImage()(tmp_path / "one")
    order = np.argsort([4, 0, 2, 8, 6, 10])
    np.testing.assert_array_equal(image[0].numpy(), STORED[order].transpose(1, 2, 0) * 2.0 - 1000)
    np.testing.assert_allclose(image.meta["spacing"], [2, 1, 2])
    np.testing.assert_allclose(np.asarray(image.affine)[:3, 3], [20, 30, 0])


@pytest.mark.parametrize(("total", "whole"), [(2, False), (None, False), (1, True)])
def test_a_part_of_an_object_is_not_taken_for_all_of_it(write_dicom: Write, total: int | None, whole: bool) -> None:
    path = enhanced(write_dicom, [group((0, 0, 2 * n)) for n in range(3)])
    dataset = pydicom.dcmread(path)
    dataset.ConcatenationUID, dataset.InConcatenationNumber = generate_uid(), 1
    if total is not None:
        dataset.InConcatenationTotalNumber = total
    dataset.save_as(path)
    if whole:
        assert LoadMedicalImage()(path).shape[-1] == 3
        return
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(path)
    assert caught.value.code == "E_PART"


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("place", ["shared", "frame"])
def test_a_mapping_to_hu_of_one_frame_and_of_many(write_dicom: Write, frames: int, place: str) -> None:
    unit = item(CodeValue="[hnsf'U]", CodingSchemeDesignator="UCUM", CodeMeaning="HU")
    mapping = item(RealWorldValueSlope=2.0, RealWorldValueIntercept=-1000.0, MeasurementUnitsCodeSequence=[unit])
    groups = [group((0, 0, 2 * n)) for n in range(frames)]
    shared = Dataset()
    for one in groups:
        del one.PixelValueTransformationSequence
    for one in groups if place == "frame" else [shared]:
        one.RealWorldValueMappingSequence = [mapping]
    dataset = pydicom.dcmread(enhanced(write_dicom, groups))
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.save_as(dataset.filename)
    image = LoadMedicalImage()(dataset.filename)[0].numpy()
    expected = STORED[:frames].transpose(1, 2, 0) * 2.0 - 1000
    np.testing.assert_array_equal(image.reshape(expected.shape), expected)
