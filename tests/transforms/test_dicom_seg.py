"""DICOM segmentations: read back by pydicom alone and by highdicom, every lesion voxel is where the source has it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor
from pydicom.dataset import Dataset
from pydicom.pixels import unpack_bits
from scipy import ndimage

from monai_tpseg.catalogue import CATEGORY, TASK_NAMES, get_task
from monai_tpseg.io import find_stacks
from monai_tpseg.io.dicom.derived_object import Algorithm
from monai_tpseg.io.dicom.segmentation import SegmentationError, write_segmentation
from monai_tpseg.io.dicom.tracking import SEGMENTS, tracking_id
from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_dicom_picture, write_dicom_series
from monai_tpseg.transforms import LoadMedicalImage, MaskWriter

Array = np.ndarray[Any, np.dtype[Any]]
Write = Callable[..., Path]

MADE_BY = Algorithm("1.2.3", "a" * 64, "b" * 64)
SLANTED = ((0.6, 0.8, 0), (0.8, -0.6, 0))
DIRECTIONS = {
    "axial": ((0, 1, 0), (1, 0, 0)),
    "coronal": ((0, 0, -1), (1, 0, 0)),
    "sagittal": ((0, 0, -1), (0, 1, 0)),
    "oblique": SLANTED,
    "feet-first": ((0, 1, 0), (-1, 0, 0)),
}


def lesions_of(image: MetaTensor, above: float = 100) -> Array:
    """Components of what is bright, the largest first."""
    bright = image[0].numpy() > above
    labels, _ = ndimage.label(bright, structure=np.ones((3,) * bright.ndim))
    order = np.argsort(-np.bincount(labels.ravel())[1:], kind="stable")
    ranks = np.zeros(len(order) + 1, dtype=np.int32)
    ranks[1 + order] = np.arange(1, len(order) + 1)
    numbered: Array = ranks[labels]
    return numbered


def write(image: MetaTensor, lesions: Array, folder: Path, task: str = "lung_infection") -> Dataset:
    path = folder / "out" / "c1_seg.dcm"
    write_segmentation(path, lesions, image.meta, task, "c1", MADE_BY)
    return pydicom.dcmread(path)


def planes(seg: Dataset) -> Array:
    """The frames of a segmentation from its bits."""
    size = int(seg.NumberOfFrames) * seg.Rows * seg.Columns
    return np.asarray(unpack_bits(seg.PixelData))[:size].reshape(-1, seg.Rows, seg.Columns)


def grid(position: Sequence[float], orientation: Sequence[float], spacing: Sequence[float], plane: Array) -> Array:
    """(n, 3): LPS millimetres of the pixels that are not 0."""
    across = np.asarray(orientation, float).reshape(2, 3)
    rows, columns = np.nonzero(plane)
    steps = columns[:, None] * float(spacing[1]) * across[0] + rows[:, None] * float(spacing[0]) * across[1]
    return np.asarray(position, float) + steps


def places(seg: Dataset) -> Array:
    """Where the lesions of a segmentation lie, by the positions of its frames."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    groups = zip(seg.PerFrameFunctionalGroupsSequence, planes(seg), strict=True)
    found = [grid(g.PlanePositionSequence[0].ImagePositionPatient, orientation, spacing, plane) for g, plane in groups]
    return ordered(np.concatenate(found))


def source_places(folder: Path, above: float = 1124) -> Array:
    """Where a series is bright, by its files alone."""
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    found = [
        grid(f.ImagePositionPatient, f.ImageOrientationPatient, f.PixelSpacing, f.pixel_array > above) for f in files
    ]
    return ordered(np.concatenate(found))


def ordered(points: Array) -> Array:
    rounded: Array = points.round(4)
    return rounded[np.lexsort(rounded.T)]


def references(seg: Dataset) -> list[tuple[str, int | None, Array]]:
    """Referenced object, frame number and plane of each frame."""
    items = [g.DerivationImageSequence[0].SourceImageSequence[0] for g in seg.PerFrameFunctionalGroupsSequence]
    return [
        (str(i.ReferencedSOPInstanceUID), i.get("ReferencedFrameNumber"), plane)
        for i, plane in zip(items, planes(seg), strict=True)
    ]


@pytest.fixture
def two(letter_volume: Array) -> Array:
    """(7, 20, 13) HU: the letter, and a second lesion apart from it."""
    hu = letter_volume.transpose(2, 0, 1) * 400.0
    hu[5, 15:18, 10:12] = 300
    hu[1:3, 2, 12] = 300
    return hu


@pytest.mark.parametrize("direction", [*DIRECTIONS, "reversed"])
def test_a_series_is_segmented_where_it_lies(tmp_path: Path, write_series: Write, two: Array, direction: str) -> None:
    def turn_over(datasets: list[Dataset]) -> None:
        for n, dataset in enumerate(datasets):
            dataset.SliceThickness, dataset.InstanceNumber = 2.5, n + 1

    if direction == "reversed":
        folder = write_series(two, step=-2.5, edit=turn_over)
    else:
        folder = write_series(two, *DIRECTIONS[direction])
    image = LoadMedicalImage()(folder)
    lesions = lesions_of(image)
    seg = write(image, lesions, tmp_path)
    np.testing.assert_allclose(places(seg), source_places(folder), atol=1e-3)
    sources = {str(d.SOPInstanceUID): d.pixel_array > 1124 for d in map(pydicom.dcmread, folder.iterdir())}
    whole = {uid: np.zeros((20, 13), bool) for uid in sources}
    for uid, number, plane in references(seg):
        assert number is None
        whole[uid] |= plane.astype(bool)
    for uid, expected in sources.items():
        np.testing.assert_array_equal(whole[uid], expected)
    assert {str(r.ReferencedSOPInstanceUID) for r in seg.SourceImageSequence} == set(sources)
    # highdicom puts the frames together by itself; the NIfTI mask is the other way to the world
    volume = highdicom.seg.segread(tmp_path / "out" / "c1_seg.dcm").get_volume(combine_segments=True)
    indices = np.argwhere(np.asarray(volume.array) > 0)
    centre = volume.map_indices_to_reference(indices).mean(axis=0)
    mask = MaskWriter(tmp_path / "out", save_overlay=False).write(
        (image[:1] > 100).float(), None, image.meta, "lung_infection"
    )
    nifti = nib.load(mask["mask"])
    world = nib.affines.apply_affine(nifti.affine, np.argwhere(np.asarray(nifti.dataobj)))
    np.testing.assert_allclose(centre * [-1, -1, 1], world.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(places(seg).mean(axis=0), centre, atol=1e-3)


@pytest.mark.parametrize("fault", ["gap", "tilt"])
@pytest.mark.parametrize("direction", ["axial", "sagittal", "oblique"])
def test_irregular_slices_keep_their_places(
    tmp_path: Path, write_series: Write, two: Array, fault: str, direction: str
) -> None:
    def edit(datasets: list[Dataset]) -> None:
        columns, rows = np.asarray(datasets[0].ImageOrientationPatient, float).reshape(2, 3)
        for n, dataset in enumerate(datasets):
            moved = np.cross(columns, rows) * (7 if n > 3 else 0) if fault == "gap" else 0.4 * n * rows
            dataset.ImagePositionPatient = [
                float(x) for x in (np.asarray(dataset.ImagePositionPatient, float) + moved).round(8)
            ]

    folder = write_series(two, *DIRECTIONS[direction], edit=edit)
    image = LoadMedicalImage(irregular="slices")(folder)
    seg = write(image, lesions_of(image), tmp_path)
    np.testing.assert_allclose(places(seg), source_places(folder), atol=1e-3)
    written = MaskWriter(tmp_path / "out").write((image[:1] > 100).float(), None, image.meta, "lung_infection")
    assert written["mask"].name.endswith("_lung_infection_mask")
    slices = [nib.load(path) for path in sorted(written["mask"].iterdir())]
    assert len(slices) == 7
    assert {one.shape for one in slices} == {(13, 20, 1)}
    world = [nib.affines.apply_affine(one.affine, np.argwhere(np.asarray(one.dataobj))) for one in slices]
    np.testing.assert_allclose(ordered(np.concatenate(world) * [-1, -1, 1]), source_places(folder), atol=1e-3)
    depths = [np.argwhere(np.asarray(one.dataobj)).size for one in slices]
    assert depths == [3 * int((image[0, ..., n] > 100).sum()) for n in range(7)]  # in the order of looking


def test_frames_of_an_enhanced_object_are_referenced_by_number(tmp_path: Path) -> None:
    folder = write_dicom_series(make_volume("wet_amd", 1, (32, 32, 6)), tmp_path / "oct")
    image = LoadMedicalImage()(folder)
    seg = write(image, lesions_of(image, 140), tmp_path, "wet_amd")
    source = pydicom.dcmread(next(folder.iterdir()))
    frames = np.zeros_like(source.pixel_array, dtype=bool)
    for uid, number, plane in references(seg):
        assert uid == source.SOPInstanceUID
        assert number is not None
        frames[number - 1] |= plane.astype(bool)
    np.testing.assert_array_equal(frames, source.pixel_array > 140)
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert len(seg.SourceImageSequence) == 1


def test_a_cine_without_places_is_referenced_by_frame(tmp_path: Path, write_dicom: Write, two: Array) -> None:
    frames = (two[:, :, :] / 2).astype(np.uint8)
    path = write_dicom("cine.dcm", frames, "US", NumberOfFrames=len(frames), PatientOrientation=["L", "F"])
    image = LoadMedicalImage()(path)
    seg = write(image, lesions_of(image), tmp_path, "thyroid_nodule")
    found = np.zeros_like(frames, dtype=bool)
    for uid, number, plane in references(seg):
        assert uid == pydicom.dcmread(path).SOPInstanceUID
        assert number is not None
        found[number - 1] |= plane.astype(bool)
    np.testing.assert_array_equal(found, frames > 100)
    contents = [g.FrameContentSequence[0] for g in seg.PerFrameFunctionalGroupsSequence]
    numbers = [number for _, number, _ in references(seg)]
    assert [content.TemporalPositionIndex for content in contents] == numbers
    assert [content.DimensionIndexValues[1] for content in contents] == numbers
    for name in ("FrameOfReferenceUID", "PositionReferenceIndicator", "PlanePositionSequence", "ImagePositionPatient"):
        assert not any(element.keyword == name for element in seg.iterall())
    again = highdicom.seg.segread(tmp_path / "out" / "c1_seg.dcm").get_pixels_by_source_frame(
        pydicom.dcmread(path).SOPInstanceUID,
        list(range(1, 8)),
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(again > 0, frames > 100)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_single_pictures_of_every_modality(tmp_path: Path, task: str) -> None:
    path = write_dicom_picture(make_phantom(task, 1, (40, 48)), tmp_path / "a.dcm")
    image = LoadMedicalImage()(path)
    lesions = np.zeros(image.shape[1:], dtype=np.int32)
    lesions[3:9, 5:30], lesions[20:22, 30:44] = 1, 2
    seg = write(image, lesions, tmp_path, task)
    source = pydicom.dcmread(path)
    assert (seg.SegmentationType, seg.Modality, seg.SOPClassUID.name) == ("BINARY", "SEG", "Segmentation Storage")
    assert (seg.PatientName, seg.StudyInstanceUID) == (source.PatientName, source.StudyInstanceUID)
    assert seg.ContentDate == source.ContentDate
    assert seg.DeviceSerialNumber == "a" * 64
    assert seg.SoftwareVersions == "monai_tpseg 1.2.3"
    (reference,) = seg.SourceImageSequence
    assert (reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == (
        source.SOPClassUID,
        source.SOPInstanceUID,
    )
    assert "FrameOfReferenceUID" in seg or "FrameOfReferenceUID" not in source
    for number, segment in enumerate(seg.SegmentSequence, start=1):
        assert code(segment.SegmentedPropertyCategoryCodeSequence) == ("SCT", CATEGORY.value, CATEGORY.meaning)
        lesion, anatomy = get_task(task).lesion, get_task(task).anatomy
        assert code(segment.SegmentedPropertyTypeCodeSequence) == ("SCT", lesion.value, lesion.meaning)
        assert code(segment.AnatomicRegionSequence) == ("SCT", anatomy.value, anatomy.meaning)
        assert segment.TrackingID == f"c1_{task}_{number}"
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("TP-Seg", "1.2.3")
        assert "a" * 64 in algorithm.AlgorithmParameters
    found = {uid: plane for uid, _, plane in references(seg)}  # one object, two segments: the last one
    np.testing.assert_array_equal(found[str(source.SOPInstanceUID)], lesions == 2)


def code(sequence: Any) -> tuple[str, str, str]:
    (item,) = sequence
    return item.CodingSchemeDesignator, item.CodeValue, item.CodeMeaning


def test_the_same_case_gives_the_same_bytes_and_other_weights_other_names(
    tmp_path: Path, write_series: Write, two: Array
) -> None:
    image = LoadMedicalImage()(write_series(two))
    lesions = lesions_of(image)

    def names(path: Path, algorithm: Algorithm = MADE_BY, lesions: Array = lesions) -> list[str]:
        write_segmentation(path, lesions, image.meta, "lung_infection", "c1", algorithm)
        seg = pydicom.dcmread(path)
        return [seg.SOPInstanceUID, seg.SeriesInstanceUID, *(s.TrackingUID for s in seg.SegmentSequence)]

    one = names(tmp_path / "1.dcm")
    assert one == names(tmp_path / "2.dcm")
    assert (tmp_path / "1.dcm").read_bytes() == (tmp_path / "2.dcm").read_bytes()
    other = names(tmp_path / "3.dcm", Algorithm("1.2.3", "c" * 64, "b" * 64))
    assert not set(one) & set(other)
    assert not set(one[:2]) & set(names(tmp_path / "4.dcm", lesions=lesions * (lesions == 1))[:2])
    assert len(set(one)) == len(one) == 5
    assert all(name.startswith("2.25.") and len(name) <= 64 for name in one)


def test_lesions_beyond_the_limit_share_a_segment(tmp_path: Path, write_dicom: Write) -> None:
    picture = np.zeros((64, 64), dtype=np.uint8)
    picture[1::4, 1::4] = 255  # 256 lesions
    image = LoadMedicalImage()(write_dicom("a.dcm", picture, "ES"))
    lesions = lesions_of(image)
    seg = write(image, lesions, tmp_path, "colon_polyp")
    assert len(seg.SegmentSequence) == SEGMENTS + 1
    last = seg.SegmentSequence[-1]
    assert last.TrackingID == tracking_id("c1", "colon_polyp", 256) == "c1_colon_polyp_others"
    assert int(planes(seg)[-1].sum()) == 256 - SEGMENTS
    assert int(planes(seg).sum()) == 256


def test_poor_headers_are_completed_and_hopeless_ones_refused(tmp_path: Path, write_dicom: Write) -> None:
    picture = np.zeros((20, 13), dtype=np.uint8)
    picture[4:9, 3:7] = 255
    odd = {"PatientSex": "Z", "PatientBirthDate": "unknown", "StudyDate": "", "SpecificCharacterSet": "GB18030"}
    image = LoadMedicalImage()(write_dicom("odd.dcm", picture, "XC", **odd, PatientName="王^小东"))
    seg = write(image, lesions_of(image), tmp_path, "skin_lesion")
    assert (seg.PatientName, seg.PatientSex, seg.ContentDate) == ("王^小东", "", "19000101")
    image = LoadMedicalImage()(write_dicom("no.dcm", picture, "XC", StudyInstanceUID="", PatientName="Jane^Doe"))
    with pytest.raises(SegmentationError, match="StudyInstanceUID") as caught:
        write(image, lesions_of(image), tmp_path, "skin_lesion")
    assert "Jane" not in str(caught.value)
    with pytest.raises(ValueError, match="at least one lesion"):
        write(image, lesions_of(image) * 0, tmp_path, "skin_lesion")


def no_number(path: Path, keyword: str, value: str) -> None:
    """Write into a file what is no usable number, where its type demands one; pydicom would refuse to."""
    dataset, tag = pydicom.dcmread(path), pydicom.tag.Tag(keyword)
    dataset.add_new(tag, "LO", value.ljust(8))
    dataset.save_as(path)
    element = struct.pack("<HH", tag.group, tag.element)
    kind = pydicom.datadict.dictionary_VR(tag).encode()
    path.write_bytes(path.read_bytes().replace(element + b"LO", element + kind))


@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "abc"])
@pytest.mark.parametrize(
    "keyword", ["SeriesNumber", "InstanceNumber", "KVP", "EchoTime", "SpacingBetweenSlices", "PatientWeight"]
)
def test_numbers_that_decide_nothing_cost_neither_the_series_nor_its_segmentation(
    tmp_path: Path, write_series: Write, two: Array, keyword: str, value: str
) -> None:
    source = write_series(np.where(np.moveaxis(two, 2, 0) > 0, 200, 0))
    plain = LoadMedicalImage()(source)
    for path in source.iterdir():
        no_number(path, keyword, value)
    (stack,) = find_stacks(source)
    image = LoadMedicalImage()(stack.files)
    assert stack.reason == ""
    np.testing.assert_array_equal(image, plain)
    np.testing.assert_array_equal(image.affine, plain.affine)
    seg = write(image, lesions_of(image), tmp_path)
    assert seg.NumberOfFrames > 1
    assert seg.get(keyword) is None or np.isfinite(float(seg[keyword].value))


def test_a_source_that_changed_since_is_refused(tmp_path: Path, write_series: Write, two: Array) -> None:
    folder = write_series(two)
    image = LoadMedicalImage()(folder)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient[2] += 40
        dataset.save_as(path)
    with pytest.raises(SegmentationError):
        write(image, lesions_of(image), tmp_path)


def test_a_series_seen_in_another_plane_is_segmented_where_it_lies(
    tmp_path: Path, write_series: Write, two: Array
) -> None:
    folder = write_series(two, *DIRECTIONS["sagittal"])
    image = LoadMedicalImage(plane="axial")(folder)
    seg = write(image, lesions_of(image), tmp_path)
    np.testing.assert_allclose(places(seg), source_places(folder), atol=1e-3)
    assert torch.equal(image, LoadMedicalImage(plane="axial")(folder))
