"""The frames of a DICOM source in the order of a mask's slices: what each is called, and where it lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io import meta_keys
from monai_tpseg.io.dicom.attributes import directions, pixel_spacing, position, thickness
from monai_tpseg.io.dicom.functional_groups import frames_of
from monai_tpseg.io.dicom.object import Dataset, read_dataset
from monai_tpseg.io.display import files_of
from monai_tpseg.io.orientation import RAS_TO_LPS
from monai_tpseg.io.source_grid import is_irregular, matrix, slice_affines
from monai_tpseg.words import count

__all__ = ["Frame", "source_frames"]

_NEAR = 0.5  # of the distance to the next slice: how far a frame may lie from where the grid has it


class Frame(NamedTuple):
    """One frame of a source.

    Attributes:
        header: of its object, without pixels; frames of one object share it.
        number: from 1 in an object of several frames, None in one that has no other.
        position: of the first pixel's centre, LPS millimetres, as in the header; None without a place in the patient.
        orientation: directions of a row and of a column; None likewise.
        spacing: millimetres between rows and between columns, or None.
        thickness: of the slice in millimetres; where the header has none, the distance to the next slice, or None.
    """

    header: Dataset
    number: int | None
    position: Any
    orientation: Any
    spacing: Any
    thickness: Any

    @property
    def placed(self) -> bool:
        """Whether the frame has a place in the patient."""
        known = (self.position, self.orientation, self.spacing)
        return [len(x) if x is not None else 0 for x in known] == [3, 6, 2]


def source_frames(meta: Mapping[str, Any]) -> list[Frame]:
    """Return the frames of a DICOM source, one for each slice of the source array, in its order.

    Frames are matched with slices by their positions, so that no order of files or instance numbers matters; those of
    a cine without positions come as stored.

    Args:
        meta: the meta of the image from `LoadMedicalImage`.

    Raises:
        ReadError: a file of the source cannot be read any more.
        ValueError: the frames are not those that were read.
    """
    frames = [frame for path in files_of(meta) for frame in _frames(read_dataset(path, pixels=False))]
    if str(meta[meta_keys.KIND]) == "picture":
        return frames[:1]
    expected = _positions(meta)
    if not all(frame.placed for frame in frames):
        if len(frames) != len(expected):
            raise ValueError(f"The source has {count(len(frames), 'frame')}, the mask {len(expected)}; read it again.")
        return frames
    found = np.array([[float(x) for x in frame.position] for frame in frames])
    distances = np.linalg.norm(found[None] - expected[:, None], axis=-1)  # (slices, frames)
    nearest = distances.argmin(axis=1)
    step = float(np.linalg.norm(np.diff(expected, axis=0), axis=1).min()) if len(expected) > 1 else None
    if (distances.min(axis=1) > _NEAR * (step or 1.0)).any() or len(set(nearest)) < len(nearest):
        raise ValueError("The positions of the source frames and the mask differ; read it again.")
    return [frames[index]._replace(thickness=frames[index].thickness or step) for index in nearest]


def _frames(header: Dataset) -> Iterator[Frame]:
    headers = frames_of(header, "The source")
    for number, one in enumerate(headers, start=1):
        placed = len(headers) == 1 or one is not header  # frames of a cine share a place, if they have one
        yield Frame(
            header,
            number if len(headers) > 1 else None,
            one.ImagePositionPatient if placed and position(one) is not None else None,
            one.ImageOrientationPatient if placed and directions(one) is not None else None,
            one.PixelSpacing if pixel_spacing(one) is not None else None,
            thickness(one),
        )


def _positions(meta: Mapping[str, Any]) -> NDArray[np.float64]:
    """(slices, 3): where the first pixel of each slice of the source array lies, LPS millimetres."""
    if is_irregular(meta):
        return np.array([(RAS_TO_LPS @ affine)[:3, 3] for affine in slice_affines(meta)])
    depth = int(np.asarray(meta[meta_keys.SOURCE_SHAPE])[2])
    steps = np.array([[0.0, 0.0, k, 1.0] for k in range(depth)])
    placed: NDArray[np.float64] = (steps @ (RAS_TO_LPS @ matrix(meta[meta_keys.ORIGINAL_AFFINE])).T)[:, :3]
    return placed
