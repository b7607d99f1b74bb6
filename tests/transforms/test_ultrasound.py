"""Ultrasound regions: pixel size and place, and the regions that real files get wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from monai_tpseg.transforms import LoadMedicalImage

Write = Callable[..., Path]


def region(**tags: Any) -> Dataset:
    """A region over rows 2 to 9 and columns 3 to 11 (inclusive) with pixels of 0.2 x 0.1 mm."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = 1, 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.RegionLocationMinX0, item.RegionLocationMinY0 = 3, 2
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = 11, 9
    item.PhysicalDeltaX, item.PhysicalDeltaY = 0.01, 0.02
    for name, value in tags.items():
        setattr(item, name, value)
    return item


def load(write: Write, *items: Dataset, frames: int = 1, **tags: Any) -> dict[str, Any]:
    pixels = np.zeros((frames, 20, 13) if frames > 1 else (20, 13), dtype=np.uint8)
    if frames > 1:
        tags["NumberOfFrames"] = frames
    path = write("us", pixels, "US", SequenceOfUltrasoundRegions=list(items), **tags)
    return dict(LoadMedicalImage()(path).meta)


def test_one_region_gives_size_and_place(write_dicom: Write) -> None:
    meta = load(write_dicom, region(), PixelSpacing=[9, 9])
    np.testing.assert_allclose(meta["spacing"], [0.2, 0.1])
    np.testing.assert_array_equal(meta["region"], [2, 3, 10, 12])


def test_the_region_that_holds_the_others_counts(write_dicom: Write) -> None:
    box = region(RegionLocationMinX0=4, RegionLocationMaxX1=8, RegionDataType=2)  # colour flow on the picture
    for items in ((region(), box), (box, region())):
        meta = load(write_dicom, *items)
        np.testing.assert_array_equal(meta["region"], [2, 3, 10, 12])
        assert "regions" not in meta


def test_regions_side_by_side_give_no_place_and_a_size_only_where_they_agree(write_dicom: Write) -> None:
    meta = load(write_dicom, region(RegionLocationMaxX1=6), region(RegionLocationMinX0=7))
    assert "region" not in meta
    assert meta["regions"] == 2
    np.testing.assert_allclose(meta["spacing"], [0.2, 0.1])
    assert "spacing" not in load(write_dicom, region(), region(PhysicalDeltaX=0.03))


def test_an_end_one_past_the_frame_is_cut(write_dicom: Write) -> None:
    meta = load(write_dicom, region(RegionLocationMaxX1=13, RegionLocationMaxY1=20))
    np.testing.assert_array_equal(meta["region"], [2, 3, 20, 13])


@pytest.mark.parametrize(
    "tags",
    [
        {"RegionLocationMaxX1": 14},
        {"RegionLocationMaxY1": 300},
        {"RegionLocationMinX0": 11},
        {"RegionSpatialFormat": 3},  # a curve over time
        {"PhysicalUnitsYDirection": 4},  # seconds
        {"PhysicalDeltaX": 0},
    ],
)
def test_what_is_not_a_picture_in_centimetres_inside_the_frame_is_ignored(
    write_dicom: Write, tags: dict[str, Any]
) -> None:
    meta = load(write_dicom, region(**tags))
    assert "region" not in meta
    assert "spacing" not in meta
    np.testing.assert_array_equal(load(write_dicom, region(**tags), region())["region"], [2, 3, 10, 12])


def test_a_cine_has_the_place_too(write_dicom: Write) -> None:
    meta = load(write_dicom, region(), frames=4)
    np.testing.assert_array_equal(meta["region"], [2, 3, 10, 12])
    assert "spacing" not in meta


@pytest.mark.parametrize("name", ["examples_palette.dcm", "examples_ybr_color.dcm"])
def test_real_files_whose_regions_lie_outside(name: str) -> None:
    meta = LoadMedicalImage()(get_testdata_file(name, download=False)).meta
    assert "region" not in meta
