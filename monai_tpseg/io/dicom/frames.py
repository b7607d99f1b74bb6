"""The frames of a DICOM source in the order of the slices of a mask, with references and positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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

__all__ = ["Frame", "Frames", "source_frames"]

_NEAR = 0.5  # tolerance of a frame's position relative to the grid, as a share of the slice distance


class Frame(NamedTuple):
    """One frame of a source.

    Attributes:
        header: header of its object, without pixels, shared by the frames of the object.
        number: frame number from 1 in a multi-frame object, None in a single-frame object.
        position: centre of the first pixel in LPS millimetres, as in the header; None without a position.
        orientation: directions of a row and of a column; None without a position.
        spacing: spacing of rows and of columns in mm, or None.
        thickness: slice thickness in mm; if the header has none, the distance to the next slice, or None.
    """

    header: Dataset
    number: int | None
    position: Any
    orientation: Any
    spacing: Any
    thickness: Any

    @property
    def placed(self) -> bool:
        """Whether the frame has a position in the patient."""
        known = (self.position, self.orientation, self.spacing)
        return [len(x) if x is not None else 0 for x in known] == [3, 6, 2]


Frames = Callable[[], list[Frame]]  # the frames of one source, read when they are asked for


def source_frames(meta: Mapping[str, Any]) -> list[Frame]:
    """Return the frames of a DICOM source, one for each slice of the source array, in its order.

    Frames are matched to slices by position, independent of file order and instance numbers; frames of a cine without
    positions keep their stored order.

    Args:
        meta: metadata of the image from `LoadMedicalImage`.

    Raises:
        ReadError: a file of the source can no longer be read.
        ValueError: the frames differ from those that were read.
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
        placed = len(headers) == 1 or one is not header  # frames of a cine share a position, if they have one
        yield Frame(
            header,
            number if len(headers) > 1 else None,
            one.ImagePositionPatient if placed and position(one) is not None else None,
            one.ImageOrientationPatient if placed and directions(one) is not None else None,
            one.PixelSpacing if pixel_spacing(one) is not None else None,
            thickness(one),
        )


def _positions(meta: Mapping[str, Any]) -> NDArray[np.float64]:
    """(slices, 3): centre of the first pixel of each slice of the source array, LPS millimetres."""
    if is_irregular(meta):
        return np.array([(RAS_TO_LPS @ affine)[:3, 3] for affine in slice_affines(meta)])
    depth = int(np.asarray(meta[meta_keys.SOURCE_SHAPE])[2])
    steps = np.array([[0.0, 0.0, k, 1.0] for k in range(depth)])
    placed: NDArray[np.float64] = (steps @ (RAS_TO_LPS @ matrix(meta[meta_keys.ORIGINAL_AFFINE])).T)[:, :3]
    return placed
