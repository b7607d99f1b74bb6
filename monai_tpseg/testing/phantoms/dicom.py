"""Write phantoms as DICOM files: series of CT, MR, ultrasound and OCT slices, single pictures of every task."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import UltrasoundMultiFrameImageStorage

from monai_tpseg.catalogue import Modality, get_task
from monai_tpseg.testing.phantoms.dicom_modules import (
    add_oct_frames,
    add_pixels,
    add_plane,
    add_region,
    decimals,
    item,
    make_header,
    make_uid,
)
from monai_tpseg.testing.phantoms.scene import FIELD_OF_VIEW, LUNG_WINDOW, Phantom, PhantomVolume

__all__ = ["write_dicom_cine", "write_dicom_picture", "write_dicom_series"]

_BAR, _BAR_GREY = 8, 40  # rows above the region of a cine, where scanners write names, and their value
_CT_OFFSET = 1024  # stored value = HU + 1024, so that 12 unsigned bits hold air


def write_dicom_series(volume: PhantomVolume, folder: str | Path, seed: int = 0) -> Path:
    """Write a series and return `folder`.

    CT, MR and ultrasound are one file a slice; neither file names nor instance numbers run from inferior up. OCT is
    one multi-frame file, as its DICOM object asks for, with a plane for each frame.

    Args:
        volume: what to write.
        folder: made if absent.
        seed: decides, with the volume, the unique identifiers, the patient's id and the file names.

    Raises:
        FileExistsError: the folder holds files that would mix with the series.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    modality = get_task(volume.task).modality
    content = volume.values.tobytes() + np.asarray(volume.spacing).tobytes()
    study = f"{volume.task}-series-{seed}-{volume.values.shape}-{hashlib.sha256(content).hexdigest()}"
    slices = volume.values.shape[2]
    files = [f"IM{number:04d}.dcm" for number in _shuffled(seed, 1 if modality is Modality.OCT else slices)]
    strangers = sorted({path.name for path in folder.iterdir()} - set(files))
    if strangers:
        raise FileExistsError(f"Folder {folder} holds other files ({strangers[0]}); choose an empty one.")
    if modality is Modality.OCT:
        data = make_header(volume.task, study, 1)
        add_oct_frames(data, volume.values, volume.origin, volume.spacing)
        data.save_as(folder / files[0], enforce_file_format=True)
        return folder
    left, posterior, inferior = volume.origin
    for index in range(slices):
        data = make_header(volume.task, study, slices - index)
        _ADD_MODALITY[modality](data, volume.values[:, :, index])
        add_plane(data, (left, posterior, inferior + index * volume.spacing[2]), volume.spacing)
        data.save_as(folder / files[index], enforce_file_format=True)
    return folder


def _shuffled(seed: int, count: int) -> list[int]:
    """Return 0 to `count` - 1 in an order that is not ascending."""
    order = [int(number) for number in np.random.default_rng([seed, count]).permutation(count)]
    return order[::-1] if order == sorted(order) else order


def write_dicom_picture(phantom: Phantom, path: str | Path) -> Path:
    """Write a picture as one single-frame file and return its path.

    CT pictures store HU through a rescale slope, so that the lung window gives the picture back; RGB pictures are VL
    microscopic, endoscopic or photographic images without a plane in the patient.

    Args:
        phantom: what to write.
        path: the file; its folder must exist.
    """
    digest = hashlib.sha256(phantom.image.tobytes()).hexdigest()
    data = make_header(phantom.task, f"{phantom.task}-picture-{phantom.image.shape}-{digest}", 1)
    if phantom.image.ndim == 3:
        _add_colour(data, phantom.image, get_task(phantom.task).modality)
    else:
        _add_grey_picture(data, phantom.image, get_task(phantom.task).modality)
    data.save_as(path, enforce_file_format=True)
    return Path(path)


def write_dicom_cine(volume: PhantomVolume, path: str | Path) -> Path:
    """Write the slices of an ultrasound volume as the frames of a cine, below a bar of the screen; return its path.

    Args:
        volume: of an ultrasound task.
        path: the file; its folder must exist.
    """
    frames = np.ascontiguousarray(volume.values.transpose(2, 0, 1)).astype(np.uint8)  # (H, W, D) -> (D, H, W)
    frames = np.pad(frames, ((0, 0), (_BAR, 0), (0, 0)), constant_values=_BAR_GREY)
    digest = hashlib.sha256(frames.tobytes()).hexdigest()
    data = make_header(volume.task, f"{volume.task}-cine-{digest}", 1)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    add_pixels(data, frames, frames.shape[1:], 8)
    data.NumberOfFrames, data.FrameTime, data.FrameIncrementPointer = len(frames), decimals(40)[0], 0x00181063
    data.UltrasoundColorDataPresent = 0
    add_region(data, volume.spacing, _BAR)
    data.save_as(path, enforce_file_format=True)
    return Path(path)


def _add_grey_picture(data: FileDataset, image: NDArray[np.uint8], modality: Modality) -> None:
    """Add an (H, W) picture that spans the modality's field of view and is centred on 0."""
    rows, columns = image.shape
    pixel = round(FIELD_OF_VIEW[modality] / max(rows, columns), 4)
    position, spacing = (-(columns - 1) / 2 * pixel, -(rows - 1) / 2 * pixel, 0.0), (pixel, pixel, pixel)
    if modality is Modality.OCT:
        add_oct_frames(data, image[:, :, None].astype(np.float32), position, spacing)
        return
    if modality is Modality.CT:
        low, high = LUNG_WINDOW
        _add_grey(data, image.astype(np.uint16), 12)
        _add_ct(data, slope=(high - low) / 255, intercept=low)
    else:
        _ADD_MODALITY[modality](data, image.astype(np.float32))
    add_plane(data, position, spacing)


def _add_grey(data: FileDataset, pixels: NDArray[Any], stored_bits: int) -> None:
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    add_pixels(data, pixels, pixels.shape, stored_bits)


def _add_ct(data: FileDataset, slope: float, intercept: float) -> None:
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.RescaleSlope, data.RescaleIntercept = (decimals(value)[0] for value in (slope, intercept))
    data.RescaleType, data.KVP, data.AcquisitionNumber = "HU", "120", 1
    low, high = LUNG_WINDOW
    data.WindowCenter, data.WindowWidth = (decimals(value)[0] for value in ((low + high) / 2, high - low))


def _ct_slice(data: FileDataset, values: NDArray[np.float32]) -> None:
    _add_grey(data, (values + _CT_OFFSET).astype(np.uint16), 12)
    _add_ct(data, slope=1, intercept=-_CT_OFFSET)


def _mr_slice(data: FileDataset, values: NDArray[np.float32]) -> None:
    _add_grey(data, values.astype(np.uint16), 12)
    data.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    data.ScanningSequence, data.SequenceVariant, data.ScanOptions = "SE", "NONE", ""
    data.MRAcquisitionType, data.EchoTrainLength = "2D", 1
    data.RepetitionTime, data.EchoTime, data.AcquisitionNumber = "500", "10", 1


def _ultrasound_slice(data: FileDataset, values: NDArray[np.float32]) -> None:
    _add_grey(data, values.astype(np.uint8), 8)
    data.UltrasoundColorDataPresent = 0


def _add_colour(data: FileDataset, pixels: NDArray[np.uint8], modality: Modality) -> None:
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    add_pixels(data, pixels, pixels.shape[:2], 8)
    data.AcquisitionContextSequence = Sequence([])
    if modality is Modality.PATHOLOGY:
        specimen = item(
            SpecimenIdentifier="1",
            SpecimenUID=make_uid(str(data.StudyInstanceUID), "specimen", 0),
            IssuerOfTheSpecimenIdentifierSequence=Sequence([]),
            SpecimenPreparationSequence=Sequence([]),
        )
        data.ContainerIdentifier = "1"
        data.IssuerOfTheContainerIdentifierSequence = Sequence([])
        data.ContainerTypeCodeSequence = Sequence([])
        data.SpecimenDescriptionSequence = Sequence([specimen])


_ADD_MODALITY: dict[Modality, Callable[[FileDataset, NDArray[np.float32]], None]] = {
    Modality.CT: _ct_slice,
    Modality.MRI: _mr_slice,
    Modality.ULTRASOUND: _ultrasound_slice,
}
