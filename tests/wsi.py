"""Writes DICOM whole slides: one tiled object for each level, all in one series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

_TILE = 64


def write_dicom_slide(image: NDArray[np.uint8], folder: Path, mpp: float = 0.25, levels: int = 2) -> Path:
    """Write `image` (H, W, 3) and its halves, and return the folder."""
    folder.mkdir(parents=True)
    series = uid.generate_uid(entropy_srcs=[str(folder.name)])
    for n in range(levels):
        step = 2**n
        _level(image[::step, ::step], mpp * step / 1000, series, n).save_as(
            folder / f"level{n}.dcm", enforce_file_format=True
        )
    return folder


def _item(**values: Any) -> Sequence:
    data = Dataset()
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return Sequence([data])


def _level(image: NDArray[np.uint8], spacing: float, series: str, n: int) -> Dataset:
    data, (rows, columns) = Dataset(), image.shape[:2]
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data.SOPClassUID, data.Modality = uid.VLWholeSlideMicroscopyImageStorage, "SM"
    data.SOPInstanceUID = uid.generate_uid(entropy_srcs=[series, str(n)])
    data.SeriesInstanceUID = series
    data.StudyInstanceUID = data.FrameOfReferenceUID = uid.generate_uid(entropy_srcs=[series, "study"])
    data.PatientName, data.PatientID = "Phantom", "PHANTOM"
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "RESAMPLED" if n else "NONE"]
    data.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns, data.TotalPixelMatrixFocalPlanes = rows, columns, 1
    data.ImagedVolumeHeight, data.ImagedVolumeWidth, data.ImagedVolumeDepth = rows * spacing, columns * spacing, 0.001
    data.DimensionOrganizationType, data.NumberOfOpticalPaths = "TILED_FULL", 1
    measures = _item(PixelSpacing=[spacing, spacing], SliceThickness=0.001)
    data.SharedFunctionalGroupsSequence = _item(PixelMeasuresSequence=measures)
    data.TotalPixelMatrixOriginSequence = _item(XOffsetInSlideCoordinateSystem=0, YOffsetInSlideCoordinateSystem=0)
    data.OpticalPathSequence = _item(OpticalPathIdentifier="1")
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.Rows = data.Columns = _TILE
    down, across = -(-rows // _TILE), -(-columns // _TILE)
    padded = np.full((down * _TILE, across * _TILE, 3), 255, np.uint8)
    padded[:rows, :columns] = image
    data.NumberOfFrames = down * across
    data.PixelData = padded.reshape(down, _TILE, across, _TILE, 3).swapaxes(1, 2).tobytes()
    return data
