"""Phantoms that betray a transposition or a flip, and DICOM files written with pydicom."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture
def letter() -> Array:
    """An F, (20, 13) uint8 in {0, 1}: equal to none of its flips and turns."""
    mask = np.zeros((20, 13), dtype=np.uint8)
    mask[3:17, 3:5] = 1
    mask[3:5, 3:11] = 1
    mask[9:11, 3:8] = 1
    return mask


@pytest.fixture
def letter_volume(letter: Array) -> Array:
    """(20, 13, 7) uint8 in {0, 1}: an F that moves and shrinks along the last axis."""
    volume = np.zeros((*letter.shape, 7), dtype=np.uint8)
    for n in range(1, 5):
        volume[:, :, n] = letter
        volume[: 2 * n, :, n] = 0
    return volume


def image_object(pixels: Array, modality: str, **tags: Any) -> Dataset:
    """Return an object of `pixels`, (H, W), (H, W, 3) or frames (F, H, W), with `tags` over its defaults."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage if modality == "CT" else SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.Modality = modality
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit = dataset.BitsAllocated, dataset.BitsAllocated - 1
    dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def dicomdir(path: Path, *files: tuple[str, ...]) -> Path:
    """Write the index of a disc that lists `files`, each as the parts of its path."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some names are not valid in DICOM, which is the point
        records = [Dataset() for _ in files]
        for record, parts in zip(records, files, strict=True):
            record.ReferencedFileID = list(parts)
        dataset.DirectoryRecordSequence = records
        dataset.save_as(path, enforce_file_format=False)
    return path


@pytest.fixture
def write_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Write one object: `write_dicom(name, pixels, modality, **tags)` -> its path."""

    def write(name: str, pixels: Array, modality: str = "US", **tags: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image_object(pixels, modality, **tags).save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def write_series(tmp_path: Path) -> Callable[..., Path]:
    """Write a CT series in shuffled order: `write_series(hu, rows, columns, step, origin)` -> its folder.

    `hu` is (D, H, W); `rows` and `columns` are the directions (LPS) in which the row and the column index run, `step`
    the millimetres from slice to slice; `edit(datasets)` changes them before they are written.
    """

    def write(
        hu: Array,
        rows: tuple[float, ...] = (0, 1, 0),
        columns: tuple[float, ...] = (1, 0, 0),
        step: float = 2.5,
        origin: tuple[float, ...] = (-30.0, -20.0, 100.0),
        edit: Callable[[list[Dataset]], None] | None = None,
        name: str = "series",
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        normal = np.cross(columns, rows)
        datasets = []
        for n, frame in enumerate(hu):
            stored = np.round(frame + 1024).astype(np.uint16)  # 12 bits, HU = stored - 1024
            dataset = image_object(
                stored,
                "CT",
                BitsStored=12,
                HighBit=11,
                RescaleSlope=1,
                RescaleIntercept=-1024,
                FrameOfReferenceUID="1.2.3.5",
                PixelSpacing=[0.75, 0.5],
                SliceThickness=step,
                ImageOrientationPatient=[*columns, *rows],
                ImagePositionPatient=[float(x) for x in np.asarray(origin) + n * step * normal],
                InstanceNumber=len(hu) - n,  # against the positions
            )
            datasets.append(dataset)
        if edit is not None:
            edit(datasets)
        order = np.random.default_rng(3).permutation(len(datasets))
        for n, index in enumerate(order):
            datasets[index].save_as(folder / f"IM{n:04d}", enforce_file_format=True)
        return folder

    return write
