"""Each attribute is read by one rule: the same values from a picture, a series, an irregular series and an object of
several frames, each compared with arithmetic on the stored values."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from monai_tpseg.catalogue import Modality
from monai_tpseg.io import ReadError
from monai_tpseg.results.codes import Status
from monai_tpseg.results.measurements import flags_of, outcome_with
from monai_tpseg.transforms import LoadMedicalImage, NormalizeByModalityd
from tests.transforms.test_enhanced import group, item

Array = np.ndarray[Any, np.dtype[Any]]
Write = Callable[..., Path]
KINDS = ("picture", "regular", "irregular", "frames")


def written(write: Write, kind: str, stored: Array, modality: str = "CT", **tags: Any) -> Path | list[Path]:
    """`stored`, (6, H, W), as objects of a kind; `tags` on each, or on the object of several frames."""
    places = [0, 2, 4, 8, 10, 12] if kind == "irregular" else [0, 2, 4, 6, 8, 10]
    space: dict[str, Any] = {"FrameOfReferenceUID": "1.2.5"}
    if kind == "picture":
        return write("one", stored[0], modality, **space, **tags)
    if kind == "frames":
        groups = [group((0, 0, z)) for z in places]
        for one in groups:
            del one.PixelValueTransformationSequence
        return write(
            "frames",
            stored,
            modality,
            NumberOfFrames=6,
            PerFrameFunctionalGroupsSequence=groups,
            SharedFunctionalGroupsSequence=[Dataset()],
            **space,
            **tags,
        )
    space |= {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [2, 1]}
    return [
        write(f"{n}", one, modality, ImagePositionPatient=[0, 0, z], **space, **tags)
        for n, (one, z) in enumerate(zip(stored, places, strict=True))
    ]


def respelled(source: Path | list[Path], **tags: int) -> Path | list[Path]:
    """Write numbers of 16 bits into headers, with a sign where they have one, whatever sign the pixels have."""
    for path in source if isinstance(source, list) else [source]:
        dataset = pydicom.dcmread(path)
        for keyword, value in tags.items():
            dataset.add_new(keyword, "SS" if value < 0 else "US", value)
        dataset.save_as(path)
    return source


def read(source: Path | list[Path]) -> Any:
    return LoadMedicalImage(irregular="slices")(source)


def values_of(image: Any) -> Array:
    """(6 or 1, H, W)."""
    found: Array = image[0].numpy()
    return found[None] if found.ndim == 2 else np.moveaxis(found, -1, 0)


STORED = np.random.default_rng(0).integers(0, 2000, (6, 10, 12)).astype(np.int16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("tags", "slope", "intercept"),
    [
        ({}, 1, 0),
        ({"RescaleIntercept": -1024}, 1, -1024),
        ({"RescaleSlope": 2}, 2, 0),
        ({"RescaleSlope": "", "RescaleIntercept": -1000}, 1, -1000),
        ({"RescaleSlope": 0.5, "RescaleIntercept": ""}, 0.5, 0),
        ({"RescaleSlope": 2, "RescaleIntercept": -1024, "ModalityLUTSequence": []}, 2, -1024),
        ({"RescaleSlope": 2, "RescaleIntercept": -1024, "ModalityLUTSequence": [Dataset()]}, 2, -1024),
    ],
)
def test_half_a_rescale(write_dicom: Write, kind: str, tags: dict[str, Any], slope: float, intercept: float) -> None:
    found = values_of(read(written(write_dicom, kind, STORED, **tags)))
    np.testing.assert_allclose(found, (STORED * slope + intercept)[: len(found)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slope", ["0", "nan", "inf", "1\\2"])
def test_a_rescale_that_is_no_usable_number(write_dicom: Write, kind: str, slope: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = written(write_dicom, kind, STORED, RescaleSlope=slope.split("\\") if "\\" in slope else slope)
        with pytest.raises(ReadError) as caught:
            read(source)
    assert caught.value.code == "E_FORMAT"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("unit", "modality", "more", "slope", "intercept"),
    [
        ("[hnsf'U]", "CT", {}, 2, -1024),
        ("[hnsf'U]", "CT", {"RescaleSlope": 3, "RescaleIntercept": -1000}, 3, -1000),  # the rescale goes first
        ("[hnsf'U]", "MR", {}, 1, 0),
        ("g/ml", "CT", {}, 1, 0),
    ],
)
def test_a_mapping_to_hu_stands_in_for_a_rescale(
    write_dicom: Write, kind: str, unit: str, modality: str, more: dict[str, Any], slope: float, intercept: float
) -> None:
    mapping = item(RealWorldValueSlope=2.0, RealWorldValueIntercept=-1024.0, LUTLabel="a", LUTExplanation="b")
    mapping.MeasurementUnitsCodeSequence = [item(CodeValue=unit, CodingSchemeDesignator="UCUM", CodeMeaning="c")]
    image = read(written(write_dicom, kind, STORED, modality, RealWorldValueMappingSequence=[mapping], **more))
    found = values_of(image)
    np.testing.assert_allclose(found, (STORED * float(slope) + intercept)[: len(found)])
    assert "scale_doubtful" not in image.meta


@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
@pytest.mark.parametrize("kind", ["regular", "irregular", "frames"])
@pytest.mark.parametrize(
    ("tags", "lacks", "doubtful"),
    [
        ({"RescaleSlope": 2, "RescaleIntercept": -1024}, ["RescaleSlope", "RescaleIntercept"], True),
        ({"RescaleSlope": 2, "RescaleIntercept": -1024}, ["RescaleSlope"], True),
        ({"RescaleSlope": 1, "RescaleIntercept": -1024}, ["RescaleIntercept"], True),
        ({"RescaleSlope": 1, "RescaleIntercept": -1024}, ["RescaleSlope"], False),  # what is absent is 1 as well
        ({"RescaleSlope": 1, "RescaleIntercept": 0}, ["RescaleSlope", "RescaleIntercept"], False),
        ({"RescaleSlope": 2, "RescaleIntercept": -1024}, [], False),
    ],
)
def test_a_slice_that_lacks_what_others_have_is_for_review(
    write_dicom: Write, kind: str, dtype: Any, tags: dict[str, Any], lacks: list[str], doubtful: bool
) -> None:
    stored, one = (STORED % 200).astype(dtype), 2
    kept = {"RescaleSlope": 1, "RescaleIntercept": 0} | {k: v for k, v in tags.items() if k not in lacks}
    expected = stored * float(tags["RescaleSlope"]) + tags["RescaleIntercept"]
    expected[one] = stored[one] * float(kept["RescaleSlope"]) + kept["RescaleIntercept"]
    source = written(write_dicom, kind, stored, **tags)
    path = source if isinstance(source, Path) else source[one]
    dataset = pydicom.dcmread(path)
    if kind == "frames":  # each frame by its own group, and nothing for the object
        for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            given = {k: v for k, v in tags.items() if number != one or k not in lacks}
            frame.PixelValueTransformationSequence = [item(**given)]
    for keyword in tags if kind == "frames" else lacks:
        if keyword in dataset:
            del dataset[keyword]
    dataset.save_as(path)
    image = read(source)
    if dtype is np.int16 or tags["RescaleIntercept"] != 0:  # plain 8 bits are a picture
        np.testing.assert_allclose(values_of(image), expected)
    flags = flags_of(np.zeros(image.shape[1:], np.uint8), [], image.meta, Modality.CT)
    assert ("doubtful_scale" in flags) == doubtful
    assert (outcome_with(flags, 0).status is Status.REVIEW) == (doubtful or kind == "irregular")


def lut(bits: int, first: int, entries: Array, packed: bool = False) -> Dataset:
    data = entries.astype("<u1" if packed else "<u2").tobytes()
    found = item(LUTData=data + b"\0" * (len(data) % 2))
    found.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 2**16, first, bits])
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_modality_luts_of_any_depth(write_dicom: Write, kind: str, bits: int) -> None:
    table = np.random.default_rng(bits).integers(0, 2**bits, 1500)
    source = written(write_dicom, kind, STORED.astype(np.uint16), ModalityLUTSequence=[lut(bits, 100, table)])
    found = values_of(read(source))
    expected = table[np.clip(STORED.astype(int) - 100, 0, 1499)]
    np.testing.assert_array_equal(found, expected[: len(found)])


@pytest.mark.parametrize("kind", KINDS)
def test_luts_packed_signed_and_whole(write_dicom: Write, kind: str) -> None:
    signed = (STORED - 1000).astype(np.int16)
    bytes_ = np.random.default_rng(3).integers(0, 256, 2001)
    whole = np.random.default_rng(4).integers(0, 2**16, 2**16)
    for folder, first, table, packed in (
        ("a", -1000, bytes_, True),
        ("b", 64536, bytes_, False),
        ("c", -32768, whole, False),
    ):

        def write(name: str, *args: Any, folder: str = folder, **tags: Any) -> Path:
            return write_dicom(f"{folder}/{name}", *args, **tags)

        bits = 16 if table is whole else 8
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a sign where pydicom expects none
            found = values_of(read(written(write, kind, signed, ModalityLUTSequence=[lut(bits, first, table, packed)])))
        low = first - 2**16 if first > 2**15 else first
        expected = table[np.clip(signed.astype(int) - low, 0, len(table) - 1)]
        np.testing.assert_array_equal(found, expected[: len(found)], err_msg=folder)


def test_each_frame_has_its_own_rescale(write_dicom: Write) -> None:
    groups = [group((0, 0, 2 * n), scale=1 + n) for n in range(6)]
    path = write_dicom(
        "a",
        STORED,
        "CT",
        NumberOfFrames=6,
        FrameOfReferenceUID="1.2.5",
        PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=[Dataset()],
    )
    expected = STORED * (1.0 + np.arange(6))[:, None, None] - 1000
    np.testing.assert_array_equal(values_of(read(path)), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dtype", "declared", "limit", "fill"),
    [
        (np.int16, -32768, None, [-32768]),
        (np.int16, 32768, None, [-32768]),  # written without a sign
        (np.uint16, 65535, None, [65535]),
        (np.uint16, -1, None, [65535]),  # written with one
        (np.int16, -2000, -1990, [-2000, -1995, -1990]),
        (np.int16, -1990, -2000, [-2000, -1990]),
    ],
)
def test_padding_never_counts_as_tissue(
    write_dicom: Write, kind: str, dtype: Any, declared: int, limit: int | None, fill: list[int]
) -> None:
    """The tissue of MR becomes what it becomes without padding, and padding black, whatever the rescale."""
    stored = np.random.default_rng(5).integers(10, 2000, (6, 40, 48)).astype(dtype)
    padded = stored.copy()
    padded[:, :, :12] = np.resize(np.array(fill, dtype), padded[:, :, :12].shape)
    marks = {"PixelPaddingValue": declared} | ({} if limit is None else {"PixelPaddingRangeLimit": limit})
    tags = {"RescaleSlope": 2, "RescaleIntercept": 7}
    seen = {}
    for name, array, more in (("plain", stored[:, :, 12:], {}), ("padded", padded, tags)):

        def write(file: str, *args: Any, name: str = name, **tags: Any) -> Path:
            return write_dicom(f"{name}/{file}", *args, **tags)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = written(write, kind, np.ascontiguousarray(array), "MR", **more)
            image = read(respelled(source, **(marks if more else {})))
        seen[name] = NormalizeByModalityd(network=False)({"image": image, "task": "brain_tumor"})["image"].numpy()
    assert image.meta["no_data"] == image[0].min()
    np.testing.assert_allclose(seen["padded"][:, :, 12:], seen["plain"], atol=2e-3)
    assert (seen["padded"][:, :, :12] == 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
@pytest.mark.parametrize("modality", ["MR", "US"])
def test_one_slice_declares_padding_that_the_first_does_not(write_dicom: Write, dtype: Any, modality: str) -> None:
    stored = (STORED % 100 + 1).astype(dtype)
    stored[:, :, :3] = 120
    source = written(write_dicom, "regular", stored, modality)
    assert isinstance(source, list)
    respelled(source[1:], PixelPaddingValue=120)
    image = read(source)
    values = values_of(image)
    assert np.isfinite(values).all()
    assert "non_finite" not in image.meta
    empty = image.meta.get("no_data", 0)
    assert (values[1:, :, :3] == empty).all()
    assert (values[0, :, :3] > empty).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("unit", "doubtful"), [("Z_EFF", True), ("ed", True), ("HU", False), ("US", False)])
def test_ct_in_another_unit_is_for_review(write_dicom: Write, kind: str, unit: str, doubtful: bool) -> None:
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1000, "RescaleType": unit}
    image = read(written(write_dicom, kind, STORED, **tags))
    flags = flags_of(np.zeros(image.shape[1:], np.uint8), [], image.meta, Modality.CT)
    assert ("doubtful_scale" in flags) == doubtful


def test_nothing_but_padding_is_no_image(write_dicom: Write) -> None:
    with pytest.raises(ReadError) as caught:
        read(write_dicom("a", np.full((9, 9), -5, np.int16), "MR", PixelPaddingValue=-5))
    assert caught.value.code == "E_NO_PIXELS"


def test_frames_of_reference_do_not_mix(write_dicom: Write) -> None:
    tags = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [2, 1]}
    for uids, mixed in ((("1.2.5", "", "1.2.5"), False), (("1.2.5", "1.2.6", "1.2.5"), True)):
        paths = [
            write_dicom(f"{mixed}{n}", STORED[n], "CT", ImagePositionPatient=[0, 0, n], FrameOfReferenceUID=uid, **tags)
            for n, uid in enumerate(uids)
        ]
        if not mixed:
            assert read(paths).shape[-1] == 3
            continue
        with pytest.raises(ReadError, match="2 frames of reference") as caught:
            read(paths)
        assert caught.value.code == "E_SERIES_MIXED"


@pytest.mark.parametrize("spacing", [["1", "nan"], ["1", "inf"], ["0", "1"], ["1", "1e30"], ["1"]])
def test_a_pixel_spacing_that_is_none_is_unknown(write_dicom: Write, spacing: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write_dicom("a", STORED[0], "CT", PixelSpacing=spacing)
        assert "spacing" not in read(path).meta
        paths = [
            write_dicom(
                f"{n}",
                one,
                "CT",
                ImagePositionPatient=[0, 0, n],
                PixelSpacing=spacing,
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            )
            for n, one in enumerate(STORED)
        ]
        with pytest.raises(ReadError) as caught:
            read(paths)
    assert caught.value.code == "E_GEOMETRY"


@pytest.mark.parametrize(("count", "code"), [("0", ""), ("", ""), ("-3", "E_DECODE")])
def test_numbers_of_frames(write_dicom: Write, count: str, code: str) -> None:
    path = write_dicom("a", STORED[0], "CT", NumberOfFrames=count)
    if not code:
        np.testing.assert_array_equal(values_of(read(path))[0], STORED[0])
        return
    with pytest.raises(ReadError) as caught:
        read(path)
    assert caught.value.code == code


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keyword", ["BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel"])
def test_a_header_that_does_not_describe_its_pixels(write_dicom: Write, kind: str, keyword: str) -> None:
    """One sample per pixel is what the pixels of grey objects have; nothing else may be assumed."""
    source = written(write_dicom, kind, STORED)
    for path in [source] if isinstance(source, Path) else source:
        header = pydicom.dcmread(path)
        place = header[keyword].tag
        tag = place.group.to_bytes(2, "little") + place.element.to_bytes(2, "little") + b"US"
        content = path.read_bytes()
        assert content.count(tag) == 1
        path.write_bytes(content.replace(tag, tag[:2] + b"\x99\x99" + b"US"))  # pydicom would not write it
    if keyword == "SamplesPerPixel":
        found = values_of(read(source))
        np.testing.assert_array_equal(found, STORED[: len(found)])
        return
    with pytest.raises(ReadError) as caught:
        read(source)
    assert caught.value.code == "E_DECODE"


def voi(first: int, bits: int) -> Dataset:
    return item(LUTDescriptor=[4, first, bits], LUTData=bytes(range(8)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "tags",
    [
        {"VOILUTSequence": [voi(0, 16)]},
        {"WindowCenter": [40, 300], "WindowWidth": [400, 1500], "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 40, "WindowWidth": 400, "VOILUTSequence": [voi(0, 16)]},
        {"WindowCenter": "nan", "WindowWidth": "0"},
        {"ICCProfile": b"no profile at all "},
    ],
)
def test_what_is_for_a_screen_changes_no_value(write_dicom: Write, kind: str, tags: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = values_of(read(written(write_dicom, kind, STORED, RescaleIntercept=-1024, **tags)))
    np.testing.assert_array_equal(found, (STORED - 1024.0)[: len(found)])


@pytest.mark.parametrize(
    ("tags", "spacing"),
    [
        ({"PixelSpacing": [0.3, 0.2], "ImagerPixelSpacing": [0.4, 0.4]}, [0.3, 0.2]),
        ({"PixelSpacing": [0.3, 0.2], "NominalScannedPixelSpacing": [0.4, 0.4]}, [0.3, 0.2]),
        ({"ImagerPixelSpacing": [0.4, 0.4]}, None),
        ({"NominalScannedPixelSpacing": [0.4, 0.4]}, None),
        ({"PixelAspectRatio": [2, 1]}, None),
    ],
)
def test_only_lengths_in_the_patient_are_lengths(
    write_dicom: Write, tags: dict[str, Any], spacing: list[float] | None
) -> None:
    meta = LoadMedicalImage(plane="stored")(write_dicom("a", STORED[0], "CR", **tags)).meta
    found = meta.get("spacing")
    assert (None if found is None else [float(x) for x in found]) == spacing


def test_white_is_low_and_values_have_a_sign(write_dicom: Write) -> None:
    image = read(write_dicom("a", STORED[0] - 1000, "CR", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(values_of(image)[0], STORED[0] - 1000)
    assert image.meta["inverted"]
