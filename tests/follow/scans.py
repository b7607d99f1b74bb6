"""Scans whose content is known in millimetres, and run folders that hold given masks."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from monai_tpseg.results.case_files import write_segmented
from monai_tpseg.results.folder import write_result
from monai_tpseg.segment import Segmentation, find_lesions
from monai_tpseg.studies.manifest import MANIFEST, Entry, read_manifest, write_manifest
from monai_tpseg.testing.phantoms import make_volume, write_dicom_series
from monai_tpseg.transforms import LoadMedicalImage

SALT = "ab" * 16
PATIENT, FRAME = "SECRET-4711", "1.2.826.0.1.3680043.8.498.77"
SHAPE, SPACING = (44, 52, 36), (3.0, 3.0, 4.0)
MADE_BY: dict[str, Any] = {
    "model": {"tasks": ["brain_tumor"], "weights": "", "weights_sha256": "0" * 64, "trained_preprocessing": ""},
    "config": {"preprocessing": ""},
    "config_sha256": "0" * 64,
    "versions": {"monai_tpseg": "0", "torch": "0", "monai": "0", "pydicom": "0", "highdicom": "0", "python": "0"},
}


def grid(shape: tuple[int, ...] = SHAPE, spacing: tuple[float, ...] = SPACING) -> NDArray[np.float64]:
    """An affine (RAS) whose volume is centred on 0."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing
    return affine


def head(affine: NDArray[np.float64], seed: int = 0, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    """An ellipsoid filled with blobs that are placed in millimetres: the same patient on any grid."""
    rng = np.random.default_rng(seed)
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    radii = np.array([52.0, 64.0, 58.0])
    inside = ((points / radii) ** 2).sum(-1) < 1
    values = np.full(shape, 300.0)
    for centre, height in zip(rng.uniform(-0.7, 0.7, (60, 3)) * radii, rng.uniform(-220, 420, 60), strict=True):
        values += height * np.exp(-((points - centre) ** 2).sum(-1) / (2 * 9.0**2))
    return np.where(inside, np.maximum(values, 60), 0).astype(np.float32)


def rigid(degrees: float, shift: tuple[float, float, float]) -> NDArray[np.float64]:
    """A turn about the axis through the head, then a shift in millimetres."""
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = shift
    return matrix


def boxes(*corners: tuple[int, ...], shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    """A mask of boxes, each of (x, y, z, width, depth, height) in voxels."""
    mask = np.zeros(shape, np.uint8)
    for x, y, z, a, b, c in corners:
        mask[x : x + a, y : y + b, z : z + c] = 1
    return mask


def add_case(out: Path, root: Path, path: str, mask: Path, task: str, case: str, seg: bool = False) -> None:
    """Put a case into a run folder as a run does: its files, its record, its line in the manifest."""
    folder = out / "cases" / case
    folder.mkdir(parents=True)
    image = LoadMedicalImage("image")(root / path)
    plane = str(image.meta["plane"]) if "plane" in image.meta else "auto"
    label = LoadMedicalImage("label", plane)(mask)  # type: ignore[arg-type]
    tensor = label.as_tensor()
    found = Segmentation(image, 0.9 * tensor, tensor, find_lesions(tensor[0].numpy(), image.meta))
    outcome, more = write_segmented(found, task, case.removesuffix(f"_{task}"), folder, MADE_BY)
    write_result(folder, case, task, outcome, "", MADE_BY, **more)
    manifest = out / MANIFEST
    known = read_manifest(manifest) if manifest.is_file() else []
    write_manifest(manifest, [*known, Entry(path, root, task, SALT, case=case)])


def add_nifti(
    out: Path, root: Path, path: str, values: NDArray[Any], mask: NDArray[Any], affine: NDArray[np.float64],
    case: str = "c1_brain_tumor", task: str = "brain_tumor",
) -> None:  # fmt: skip
    """A case of a NIfTI scan."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(values, affine).to_filename(root / path)
    truth = root / f"{case}_truth.nii.gz"
    nib.Nifti1Image(mask, affine).to_filename(truth)
    add_case(out, root, path, truth, task, case)


Mask = NDArray[np.uint8] | Callable[[NDArray[np.float64], tuple[int, ...]], NDArray[np.uint8]]


def add_series(
    folder: Path,
    name: str,
    day: str,
    mask: Mask,
    move: NDArray[np.float64] | None = None,
    task: str = "lung_infection",
    **headers: str,
) -> None:
    """A case of a CT series of 8 slices, with headers of its own, into the run `folder` / out.

    `move` (4, 4) takes the millimetres (LPS) of its planes elsewhere; `mask` may be a function of the affine (RAS).
    """
    series = folder / "scans" / name
    write_dicom_series(make_volume("lung_infection", 3, (48, 48, 8)), series)
    made = {"PatientID": PATIENT, "StudyDate": day, "FrameOfReferenceUID": FRAME} | headers
    matrix = np.eye(4) if move is None else move
    for path in series.iterdir():
        data = pydicom.dcmread(path)
        for key, value in made.items():
            setattr(data, key, value)
        data.StudyInstanceUID = data.SeriesInstanceUID = f"1.2.826.0.1.3680043.8.498.{int(day)}"
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = (
            f"{data.SeriesInstanceUID}.{data.InstanceNumber}"
        )
        data.ImagePositionPatient = apply_affine(matrix, [float(n) for n in data.ImagePositionPatient]).tolist()
        axes = np.array(data.ImageOrientationPatient, dtype=float).reshape(2, 3)
        data.ImageOrientationPatient = (axes @ matrix[:3, :3].T).ravel().tolist()
        data.save_as(path)
    image = LoadMedicalImage("image")(series)
    affine = np.asarray(image.affine, dtype=np.float64)
    truth = folder / f"{name}_truth.nii.gz"
    drawn = mask(affine, tuple(image.shape[1:])) if callable(mask) else mask
    nib.Nifti1Image(drawn, affine).to_filename(truth)
    add_case(folder / "out", folder / "scans", name, truth, task, f"{name}_{task}")


def table(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
