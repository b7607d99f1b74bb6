"""Weights of the smallest network, and a folder of studies whose names and headers are marker strings."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pydicom
import pytest
import torch

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.networks import tpseg_hiera
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights
from monai_tpseg.studies import Model
from monai_tpseg.testing.phantoms import (
    make_phantom,
    make_volume,
    write_dicom_picture,
    write_dicom_series,
    write_nifti,
    write_png,
)
from monai_tpseg.transforms import pipelines_hash
from monai_tpseg.transforms.transfer import PackedImage, read_packed

MARKER = "ZZMARKER"
"""Part of every path, name, id and institution of `corpus`; nothing that a run writes for others may hold it."""

MARKER_UID = "1.2.826.0.1.987654321987"
"""Start of every UID in `corpus`."""

_TAGS = ("PatientName", "PatientID", "InstitutionName", "StudyDescription", "SeriesDescription", "AccessionNumber")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


def write_weights(path: Path, seed: int = 0, tasks: tuple[str, ...] = TASK_NAMES) -> Path:
    """Write random weights of the smallest network."""
    torch.manual_seed(seed)
    network = tpseg_hiera("hiera_demo", len(tasks), freeze_encoder=False)
    info = WeightsInfo(tasks, {"backbone": "hiera_demo"}, (32, 32), preprocessing=pipelines_hash())
    save_weights(path, network.state_dict(), info)
    return path


def mark(path: Path) -> None:
    """Put markers into the header of a DICOM file."""
    header = pydicom.dcmread(path)
    for keyword in _TAGS:
        setattr(header, keyword, MARKER)
    for keyword in _UIDS:
        if keyword in header:
            last = getattr(header, keyword).split(".")[-1]
            setattr(header, keyword, f"{MARKER_UID}.{last[-12:].lstrip('0') or 0}")
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.save_as(path)


def write_corpus(folder: Path) -> Path:
    """Write a CT series, three DICOM pictures, a NIfTI volume, a PNG, and two broken files."""
    folder.mkdir(parents=True)
    series = write_dicom_series(make_volume("lung_infection", 1, (32, 32, 6)), folder / f"{MARKER}_ct" / "series")
    for task in ("thyroid_nodule", "colon_polyp", "skin_lesion"):
        write_dicom_picture(make_phantom(task, 2, 40), folder / f"{MARKER}_{task}.dcm")
    write_nifti(make_volume("brain_tumor", 3, (32, 32, 6)), folder / f"{MARKER}_mr.nii.gz")
    (folder / f"{MARKER}_mr_label.nii.gz").unlink()
    write_png(make_phantom("skin_lesion", 4, (36, 48)).image, folder / f"{MARKER}_photo.png")
    for path in [*series.iterdir(), *folder.glob("*.dcm")]:
        mark(path)
    whole = (folder / f"{MARKER}_skin_lesion.dcm").read_bytes()
    (folder / f"{MARKER}_cut.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / f"{MARKER}_broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + MARKER.encode() * 20)
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights for all tasks."""
    return write_weights(tmp_path_factory.mktemp("weights") / "model.pt")


@pytest.fixture(scope="session")
def model(weights: Path) -> Model:
    """The network of `weights`; tests leave it as it is."""
    return Model(weights, "cpu")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight studies, two of them broken; read-only by agreement."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / f"{MARKER}_in")


def read_or_fall(source: Path, screenshots: bool) -> PackedImage:
    """Read a source as runs do, in the process of a reader; what a file is called decides what happens to that."""
    if isinstance(source, tuple):
        return read_packed(source, screenshots)
    once = source.with_name(f"{source.name}.seen")
    if "crash" in source.name or ("stumble" in source.name and not once.exists()):
        once.touch()
        os.abort()
    if "hang" in source.name:
        time.sleep(100)
    if "eat" in source.name:
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does where memory runs out
    return read_packed(source, screenshots)
