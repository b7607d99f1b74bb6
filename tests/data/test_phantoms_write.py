from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from highdicom.image import get_volume_from_series
from PIL import Image

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.testing.phantoms import (
    make_phantom,
    make_volume,
    phantom_seed,
    write_dataset,
    write_demo_cases,
    write_dicom_cine,
    write_dicom_picture,
    write_dicom_series,
    write_nifti,
    write_png,
)
from monai_tpseg.testing.phantoms.__main__ import main

SHAPE = (40, 48, 7)
SPACING = (1.25, 0.75, 3.5)
SLICED = ("lung_infection", "brain_tumor", "thyroid_nodule")


def read_series(folder: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    (series,) = reader.GetGDCMSeriesIDs(str(folder))
    files = reader.GetGDCMSeriesFileNames(str(folder), series)
    return SimpleITK.ReadImage(files[0]) if len(files) == 1 else SimpleITK.ReadImage(files)


def test_png_reads_back_equal(tmp_path: Path) -> None:
    phantom = make_phantom("skin_lesion", 1, (40, 48))
    assert np.array_equal(np.asarray(Image.open(write_png(phantom.image, tmp_path / "image.png"))), phantom.image)
    label = np.asarray(Image.open(write_png(phantom.label, tmp_path / "label.png")))
    assert set(np.unique(label)) == {0, 255}
    assert np.array_equal(label > 0, phantom.label)
    with pytest.raises(ValueError, match="uint8 or bool array, got float64"):
        write_png(np.zeros((4, 4)), tmp_path / "float.png")


@pytest.mark.parametrize("task", [*SLICED, "wet_amd"])
def test_nifti_reads_back_equal_with_its_affine(tmp_path: Path, task: str) -> None:
    volume = make_volume(task, 2, SHAPE, SPACING)
    path, label_path = write_nifti(volume, tmp_path / "case.nii.gz")
    assert label_path.name == "case_label.nii.gz"
    image, label = nibabel.load(path), nibabel.load(label_path)
    assert np.array_equal(np.asarray(image.dataobj).transpose(1, 0, 2), volume.values)
    assert np.array_equal(np.asarray(label.dataobj).transpose(1, 0, 2) > 0, volume.label)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert np.allclose(image.header.get_zooms(), (0.75, 1.25, 3.5))
    assert np.allclose(image.affine @ [23.5, 19.5, 3, 1], [0, 0, 0, 1], atol=1e-4)  # centred on 0
    assert np.array_equal(image.affine, label.affine)


def test_nifti_refuses_another_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.nii or \.nii\.gz, got 'case\.png'"):
        write_nifti(make_volume("wet_amd", 2, SHAPE), tmp_path / "case.png")


@pytest.mark.parametrize("task", [*SLICED, "wet_amd"])
def test_a_dicom_series_lies_where_the_nifti_lies(tmp_path: Path, task: str) -> None:
    volume = make_volume(task, 3, SHAPE, SPACING)
    series = read_series(write_dicom_series(volume, tmp_path / "series", 3))
    nifti = SimpleITK.ReadImage(str(write_nifti(volume, tmp_path / "case.nii.gz")[0]))
    assert series.GetSize() == nifti.GetSize() == (48, 40, 7)
    assert np.allclose(series.GetOrigin(), nifti.GetOrigin(), atol=1e-4)
    assert np.allclose(series.GetSpacing(), nifti.GetSpacing(), atol=1e-5)
    assert np.allclose(series.GetDirection(), nifti.GetDirection())
    assert np.array_equal(SimpleITK.GetArrayFromImage(series), SimpleITK.GetArrayFromImage(nifti))


@pytest.mark.parametrize("task", SLICED)
def test_highdicom_takes_a_series(tmp_path: Path, task: str) -> None:
    volume = make_volume(task, 3, SHAPE, SPACING)
    datasets = [pydicom.dcmread(path) for path in write_dicom_series(volume, tmp_path / "series", 3).iterdir()]
    read = get_volume_from_series(datasets, apply_presentation_lut=False, apply_voi_transform=False)
    array = read.array.transpose(1, 2, 0)[:, :, ::-1]  # (slices from superior, H, W) -> (H, W, D)
    assert np.array_equal(array, volume.values)
    assert np.allclose(read.spacing, (3.5, 1.25, 0.75))
    top = volume.origin[2] + (SHAPE[2] - 1) * SPACING[2]
    assert np.allclose(read.map_indices_to_reference(np.array([[0, 0, 0]])), [[*volume.origin[:2], top]])


def test_highdicom_takes_oct_frames(tmp_path: Path) -> None:
    volume = make_volume("wet_amd", 3, SHAPE, SPACING)
    (path,) = write_dicom_series(volume, tmp_path / "series").iterdir()
    read = highdicom.imread(path).get_volume(apply_presentation_lut=False)
    assert np.array_equal(read.array.transpose(1, 2, 0)[:, :, ::-1], volume.values)
    assert np.allclose(read.spacing, (3.5, 1.25, 0.75))


@pytest.mark.parametrize("task", SLICED)
def test_neither_names_nor_instance_numbers_follow_space(tmp_path: Path, task: str) -> None:
    for seed in range(3):
        folder = write_dicom_series(make_volume(task, seed, SHAPE), tmp_path / str(seed), seed)
        datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.iterdir())]
        heights = [float(data.ImagePositionPatient[2]) for data in datasets]
        by_number = [float(d.ImagePositionPatient[2]) for d in sorted(datasets, key=lambda d: int(d.InstanceNumber))]
        assert len(set(heights)) == SHAPE[2]
        assert heights != sorted(heights)
        assert by_number == sorted(heights, reverse=True)
        assert len({data.SOPInstanceUID for data in datasets}) == SHAPE[2]
        assert len({(data.StudyInstanceUID, data.SeriesInstanceUID) for data in datasets}) == 1


def test_a_series_is_the_same_each_time_and_another_for_another_seed(tmp_path: Path) -> None:
    volume = make_volume("lung_infection", 3, SHAPE)
    first, again = (write_dicom_series(volume, tmp_path / name, 3) for name in ("first", "again"))
    files = sorted(path.name for path in first.iterdir())
    assert all((first / name).read_bytes() == (again / name).read_bytes() for name in files)
    other = write_dicom_series(volume, tmp_path / "other", 4)
    assert pydicom.dcmread(other / files[0]).SeriesInstanceUID != pydicom.dcmread(first / files[0]).SeriesInstanceUID


def test_a_series_does_not_mix_with_other_files(tmp_path: Path) -> None:
    write_dicom_series(make_volume("lung_infection", 3, (40, 40, 8)), tmp_path, 3)
    with pytest.raises(FileExistsError, match=r"holds other files \(IM0007\.dcm\); choose an empty one"):
        write_dicom_series(make_volume("lung_infection", 3, SHAPE), tmp_path, 3)


def test_ct_slices_hold_hounsfield_units_in_twelve_bits(tmp_path: Path) -> None:
    data = pydicom.dcmread(next(write_dicom_series(make_volume("lung_infection", 1, SHAPE), tmp_path).iterdir()))
    assert data.SOPClassUID == pydicom.uid.CTImageStorage
    assert data.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert (data.BitsAllocated, data.BitsStored, data.HighBit) == (16, 12, 11)
    assert data.pixel_array.max() < 2**12
    assert -1024 <= (data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)).min() < -950


def test_ultrasound_states_its_spacing_in_the_region(tmp_path: Path) -> None:
    volume = make_volume("breast_lesion", 1, SHAPE, SPACING)
    (region,) = pydicom.dcmread(next(write_dicom_series(volume, tmp_path).iterdir())).SequenceOfUltrasoundRegions
    assert (region.PhysicalDeltaY * 10, region.PhysicalDeltaX * 10) == SPACING[:2]
    assert (region.RegionLocationMaxX1, region.RegionLocationMaxY1) == (47, 39)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_a_dicom_picture_reads_back_equal(tmp_path: Path, task: str) -> None:
    phantom = make_phantom(task, 4, (41, 49))  # an odd number of bytes
    data = pydicom.dcmread(write_dicom_picture(phantom, tmp_path / "picture.dcm"))
    assert np.array_equal(data.pixel_array, phantom.image)
    read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "picture.dcm")))[0]
    if task == "lung_infection":
        assert np.array_equal(np.round((read + 1350) / 1500 * 255), phantom.image)
    else:
        assert np.array_equal(read, phantom.image)
    assert data.PhotometricInterpretation == ("RGB" if phantom.image.ndim == 3 else "MONOCHROME2")


def test_splits_never_share_a_seed() -> None:
    seeds = [
        phantom_seed(split, seed, number)
        for split in ("training", "validation", "demo")
        for seed in range(3)
        for number in (0, 1, 99_999)
    ]
    assert len(set(seeds)) == len(seeds)
    with pytest.raises(ValueError, match="Unknown split 'test'; choose one of training, validation, demo"):
        phantom_seed("test", 0, 0)
    with pytest.raises(ValueError, match="number must be 0 to 99999, got 100000"):
        phantom_seed("training", 0, 100_000)


def test_a_dataset_lists_files_that_exist_and_asks_for_both_tasks(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "phantoms", seed=1, train_per_task=2, val_per_task=1, size=32, both_tasks=0.5)
    datalist = json.loads(path.read_text(encoding="utf-8"))
    assert {split: len(items) for split, items in datalist.items()} == {"training": 24, "validation": 8}
    for item in datalist["training"] + datalist["validation"]:
        image, label = (Image.open(path.parent / item[key]) for key in ("image", "label"))
        assert image.size == label.size == (32, 32)
        assert np.asarray(label).any()
        assert item["task"] in TASK_NAMES
    pictures = {split: {item["image"] for item in items} for split, items in datalist.items()}
    assert not pictures["training"] & pictures["validation"]
    asked: dict[str, set[str]] = {}
    for item in datalist["training"]:
        asked.setdefault(item["image"], set()).add(item["task"])
    assert sorted(len(tasks) for tasks in asked.values()) == [1] * 8 + [2] * 8


def test_the_first_picture_of_a_split_comes_from_its_seed(tmp_path: Path) -> None:
    path = write_dataset(tmp_path, seed=2, train_per_task=1, val_per_task=1, size=32, both_tasks=1)
    items = json.loads(path.read_text(encoding="utf-8"))["validation"]
    phantom = make_phantom("wet_amd", phantom_seed("validation", 2, 0), 32)
    own, other = items[:2]
    assert np.array_equal(np.asarray(Image.open(tmp_path / own["image"])), phantom.image)
    assert np.array_equal(np.asarray(Image.open(tmp_path / own["label"])) > 0, phantom.label)
    assert np.array_equal(np.asarray(Image.open(tmp_path / other["label"])) > 0, phantom.other_label)
    assert (own["task"], other["task"]) == (phantom.task, phantom.other_task)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"both_tasks": 1.5}, "share from 0 to 1, got 1.5"), ({"val_per_task": -1}, "must be 0 or more, got 24 and -1")],
)
def test_bad_datasets_are_named(tmp_path: Path, arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path, **arguments)


def test_demo_cases_are_complete(tmp_path: Path) -> None:
    cases = write_demo_cases(tmp_path, seed=0)
    assert np.asarray(Image.open(cases.picture)).shape == (96, 128, 3)
    assert np.asarray(Image.open(cases.picture_label)).any()
    assert nibabel.load(cases.volume).shape == nibabel.load(cases.volume_label).shape == (64, 64, 12)
    series, label = read_series(cases.series), SimpleITK.ReadImage(str(cases.series_label))
    assert series.GetSize() == label.GetSize()
    assert np.allclose(series.GetOrigin(), label.GetOrigin(), atol=1e-3)
    assert SimpleITK.GetArrayFromImage(label).any()


def test_the_command_writes_and_names_what_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main([str(tmp_path), "--train-per-task", "1", "--val-per-task", "0", "--size", "32"]) == 0
    assert (tmp_path / "datalist.json").is_file()
    assert len(list((tmp_path / "demo" / "lung_infection_series").iterdir())) == 12
    assert main([str(tmp_path), "--size", "8"]) == 1
    assert caplog.messages[-1] == "error: A phantom needs at least 32 x 32 pixels, got 8 x 8."


def test_the_command_writes_many_studies_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main([str(tmp_path / name), "--studies", "21", "--size", "32"]) == 0
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)
    listed = (tmp_path / "a" / "manifest.csv").read_text().splitlines()
    assert listed[0] == "path,task"
    assert len(listed) == 22
    assert all((tmp_path / "a" / line.partition(",")[0]).exists() for line in listed[1:])
    assert main([str(tmp_path / "c"), "--studies", "0"]) == 1


def test_a_cine_has_its_frames_below_the_bar(tmp_path: Path) -> None:
    volume = make_volume("breast_lesion", 1, SHAPE, SPACING)
    data = pydicom.dcmread(write_dicom_cine(volume, tmp_path / "cine.dcm"))
    (region,) = data.SequenceOfUltrasoundRegions
    frames = data.pixel_array[:, region.RegionLocationMinY0 :].transpose(1, 2, 0)
    assert np.array_equal(frames, volume.values)
    assert not np.array_equal(data.pixel_array[:, 0], frames[0].T)


def test_the_module_runs_and_teaches() -> None:
    command = [sys.executable, "-m", "monai_tpseg.testing.phantoms", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "example:" in done.stdout
    assert "--train-per-task" in done.stdout
