"""What a folder of DICOM falls into: every image in one stack, and every stack readable as a case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from monai_tpseg.io import ReadError, Stack, find_stacks, is_screenshot, list_cases
from monai_tpseg.io.display import files_of
from monai_tpseg.transforms import LoadMedicalImage
from tests.transforms.conftest import dicomdir, image_object

Array = np.ndarray[Any, np.dtype[Any]]
Write = Callable[..., Path]
Edit = Callable[[Path], None]


def slices(count: int = 4, start: int = 0, **tags: Any) -> list[Dataset]:
    """Axial slices of 5 x 4 pixels, 2 mm apart, whose first pixel tells them apart."""
    made = []
    for n in range(count):
        pixels = np.full((5, 4), 100 + start + n, dtype=np.uint16)
        placed = {
            "PixelSpacing": [1, 1],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [0, 0, 2.0 * n],
            "FrameOfReferenceUID": "1.2.3.5",
            "InstanceNumber": start + n,
        }
        made.append(image_object(pixels, "MR", **(placed | tags)))
    return made


def save(folder: Path, *groups: list[Dataset]) -> Path:
    """Write the datasets of all groups in turns, as scanners number interleaved echoes."""
    folder.mkdir(exist_ok=True, parents=True)
    turns = [dataset for row in zip(*groups, strict=False) for dataset in row]
    rest = [dataset for group in groups for dataset in group if not any(dataset is one for one in turns)]
    for n, dataset in enumerate([*turns, *rest]):
        dataset.save_as(folder / f"IM{n:03d}", enforce_file_format=True)
    return folder


def first_values(stack: Stack) -> list[float]:
    """The first pixel of each slice of a stack as it is read."""
    image = LoadMedicalImage(plane="stored")(stack.files)
    return [float(x) for x in image[0, 0, 0].reshape(-1)]


def images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir())


def test_one_series_is_one_stack(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", slices())
    (stack,) = find_stacks(folder)
    assert stack.reason == ""
    assert sorted(stack.files) == images(folder)
    assert first_values(stack) == [100, 101, 102, 103]
    assert find_stacks(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        ({"SeriesInstanceUID": "1.2.3.99"}, "series"),
        ({"EchoTime": 30}, "echo"),
        ({"TemporalPositionIdentifier": 2}, "phase"),
        ({"DiffusionBValue": 800.0}, "b-value"),
        ({"AcquisitionNumber": 2}, "acquisition"),
        ({"ImageType": ["DERIVED", "PRIMARY", "WATER"]}, "image type"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "orientation"),
        ({"PixelSpacing": [2, 2]}, "size"),
        ({}, "copy"),
    ],
)
def test_each_kind_of_difference_splits(tmp_path: Path, tags: dict[str, Any], word: str) -> None:
    other = slices(4, 50, **tags)
    if word == "orientation":
        for n, dataset in enumerate(other):
            dataset.ImagePositionPatient = [0, 2.0 * n, 0]
    folder = save(tmp_path / "a", slices(), other)
    found = find_stacks(folder)
    assert [stack.reason for stack in found] == [f"{word} 1 of 2", f"{word} 2 of 2"]
    assert sorted(file for stack in found for file in stack.files) == images(folder)
    assert [sorted(first_values(stack)) for stack in found] == [[100, 101, 102, 103], [150, 151, 152, 153]]
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(folder)
    assert caught.value.code in ("E_SERIES_MIXED", "E_SERIES_ECHOES", "E_SERIES_DUPLICATE")


def test_echoes_of_phases_and_times_that_tell_nothing(tmp_path: Path) -> None:
    groups = [slices(3, 10 * k, EchoTime=10 * (k % 2), TemporalPositionIdentifier=k // 2) for k in range(6)]
    for n, dataset in enumerate(dataset for group in groups for dataset in group):
        dataset.ContentTime = f"1200{n:02d}"  # of each slice its own, as scanners write it
    found = find_stacks(save(tmp_path / "a", *groups))
    assert len(found) == 6
    assert {stack.reason for stack in found} == {f"echo {e} of 2, phase {p} of 3" for e in (1, 2) for p in (1, 2, 3)}
    assert all(len({int(x) // 10 for x in first_values(stack)}) == 1 for stack in found)


def test_the_same_object_in_two_files_counts_once(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", slices(4))
    (folder / "copy of IM002").write_bytes((folder / "IM002").read_bytes())
    found = find_stacks(folder)
    assert [(len(stack.files), stack.reason) for stack in found] == [(4, "")]
    assert LoadMedicalImage()(folder).shape[-1] == 4


def test_another_object_at_the_place_of_a_slice_is_kept(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", slices(4), slices(1, 90))
    found = find_stacks(folder)
    assert [(len(stack.files), stack.reason) for stack in found] == [(4, "copy 1 of 2"), (1, "copy 2 of 2")]


def test_localizers_pictures_and_reports(tmp_path: Path) -> None:
    scouts = slices(1, 60, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    loose = [image_object(np.zeros((3, 3), np.uint8), "US"), image_object(np.zeros((2, 3, 3), np.uint8), "US")]
    loose[1].NumberOfFrames = 2
    report = [image_object(np.zeros((3, 3), np.uint8), "SEG")]
    folder = save(tmp_path / "a", slices(), scouts, loose, report)
    reasons = sorted(stack.reason for stack in find_stacks(folder))
    assert reasons == ["", "localizer", "no position", "no position"]
    assert sum(len(stack.files) for stack in find_stacks(folder)) == 4 + 1 + 2


def test_sources_of_a_tree(tmp_path: Path) -> None:
    whole = save(tmp_path / "in" / "a", slices())
    scouts = slices(1, 60, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    scouted = save(tmp_path / "in" / "b", slices(), scouts)
    echoes = save(tmp_path / "in" / "c", slices(3), slices(3, 50, EchoTime=30))
    loose = save(tmp_path / "in" / "d", [image_object(np.zeros((3, 3), np.uint8), "US") for _ in range(2)])
    one = save(tmp_path / "in" / "e", slices(1))
    Image.new("L", (4, 4)).save(one / "x.png")
    parts = [stack.files for stack in find_stacks(echoes)]
    expected = [whole, scouted, *parts, *images(loose), one / "IM000", one / "x.png"]
    assert list_cases(tmp_path / "in") == expected
    assert list_cases(one / "x.png") == [one / "x.png"]
    for source in expected:
        assert LoadMedicalImage()(source).shape[0] == 3
    for empty, code in ((tmp_path / "absent", "E_NOT_FOUND"), (tmp_path / "empty", "E_EMPTY")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(ReadError) as caught:
            list_cases(empty)
        assert caught.value.code == code


@pytest.mark.parametrize("lower", [False, True])
def test_the_index_of_a_disc_lists_its_files(tmp_path: Path, lower: bool) -> None:
    save(tmp_path / ("data" if lower else "DATA"), slices(3), slices(3, 50, EchoTime=30))
    folder = tmp_path / ("data" if lower else "DATA")
    for path in images(folder) if lower else []:
        path.rename(path.with_name(path.name.lower()))
    names = [("DATA", f"IM{n:03d}") for n in range(6)]
    index = dicomdir(tmp_path / "DICOMDIR", *names, ("DATA", "LOST"))
    sources = list_cases(index)
    assert [source for source in sources if isinstance(source, tuple)] == [s.files for s in find_stacks(folder)]
    (lost,) = (source for source in sources if isinstance(source, Path))
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(lost)
    assert caught.value.code == "E_NOT_FOUND"


def test_an_index_that_leads_out_is_refused(tmp_path: Path) -> None:
    outside = save(tmp_path / "other", slices(2))
    (tmp_path / "disc").mkdir()
    (tmp_path / "disc" / "LINK").symlink_to(outside)
    for parts in (("..", "other", "IM000"), ("LINK", "IM000")):
        with pytest.raises(ReadError) as caught:
            list_cases(dicomdir(tmp_path / "disc" / "DICOMDIR", parts))
        assert caught.value.code == "E_OUTSIDE"


def test_the_levels_of_a_slide_are_one_stack(tmp_path: Path) -> None:
    tags = {"NumberOfFrames": 2, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6"}
    levels = [image_object(np.zeros((2, 4, 4), np.uint8), "SM", **tags) for _ in range(3)]
    folder = save(tmp_path / "a", levels)
    assert find_stacks(folder) == [Stack(tuple(images(folder)), "")]
    assert list_cases(folder) == [folder]
    levels[2].SeriesInstanceUID = "1.2.3.99"
    found = find_stacks(save(folder, levels))
    assert [(len(stack.files), stack.reason) for stack in found] == [(2, "slide"), (1, "slide")]


def test_pictures_of_screens_are_told_from_those_of_patients(tmp_path: Path) -> None:
    base = "1.2.840.10008.5.1.4.1.1"
    for number, (storage, answer) in enumerate({"7": True, "7.4": True, "77.1.1": False, "4": False}.items()):
        folder = save(tmp_path / str(number), slices(2, SOPClassUID=f"{base}.{storage}"))
        assert is_screenshot(folder) is answer
        assert is_screenshot(tuple(images(folder))) is answer
        assert is_screenshot(folder / "IM000") is answer
    Image.new("L", (4, 4)).save(tmp_path / "x.png")
    assert not is_screenshot(tmp_path / "x.png")


def test_an_unreadable_file_spoils_the_only_stack_and_no_other(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", slices())
    (folder / "IM900").write_bytes(bytes(128) + b"DICM" + b"\x08\x00\x16\x00UI\xff\xff")
    (stack,) = find_stacks(folder)
    assert stack.files[-1] == folder / "IM900"
    with pytest.raises(ReadError):
        LoadMedicalImage()(stack.files)
    mixed = save(tmp_path / "b", slices(), slices(4, 50, SeriesInstanceUID="1.2.3.99"))
    (mixed / "IM900").write_bytes((folder / "IM900").read_bytes())
    assert [stack.reason for stack in find_stacks(mixed)] == ["series 1 of 2", "series 2 of 2", "unreadable"]


def test_directions_equal_up_to_rounding_are_one(tmp_path: Path) -> None:
    both = slices(2), slices(2, 50)
    for n, dataset in enumerate([*both[0], *both[1]]):
        dataset.ImagePositionPatient = [0, 0, 2.0 * n]
        dataset.ImageOrientationPatient = [1, 0, 0.0005 + (-1) ** n * 1e-5, 0, 1, 0]  # either side of a half
    folder = save(tmp_path / "a", *both)
    assert len(find_stacks(folder)) == 1
    assert LoadMedicalImage()(folder).shape == (3, 5, 4, 4)


def test_a_sequence_is_read_as_exactly_its_files(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", slices(), slices(1, 60, ImageType=["A", "B", "LOCALIZER"]))
    files = images(folder)
    image = LoadMedicalImage()([str(files[3]), str(files[0])])  # the localizer is the second
    assert image.shape == (3, 5, 4, 2)
    assert files_of(image.meta) == (files[0], files[3])
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()(files)  # the localizer lies where a slice does, and is not left out
    assert caught.value.code in ("E_SERIES_ECHOES", "E_SERIES_DUPLICATE")
    assert LoadMedicalImage()(folder).meta["skipped_files"] == 1


@pytest.mark.parametrize(
    ("files", "code"), [([], "E_EMPTY"), (["IM000", "absent"], "E_NOT_FOUND"), (["IM000", "text"], "E_FORMAT")]
)
def test_what_is_no_sequence_of_dicom(tmp_path: Path, files: list[str], code: str) -> None:
    folder = save(tmp_path / "a", slices())
    (folder / "text").write_text("x")
    with pytest.raises(ReadError) as caught:
        LoadMedicalImage()([folder / name for name in files])
    assert caught.value.code == code
