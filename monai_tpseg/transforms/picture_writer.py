"""Pictures as MONAI's `SaveImaged` writes them, with rows first."""

from __future__ import annotations

import os
from typing import Any

from monai.data import PILWriter

__all__ = ["PictureWriter"]


class PictureWriter(PILWriter):
    """Writer of `SaveImaged` for pictures from `LoadMedicalImaged`, whose tensors are (C, rows, columns).

    MONAI's own writer takes the first axis for columns, like its own reader, and would transpose these pictures.

    >>> from monai.transforms import SaveImaged
    >>> save = SaveImaged("pred", output_ext=".png", output_dtype="uint8", scale=255, writer=PictureWriter)
    """

    def set_data_array(self, data_array: Any, *args: Any, **kwargs: Any) -> None:
        """Take the picture; see `PILWriter.set_data_array`.

        Raises:
            ValueError: a volume, of which MONAI's writer would keep only the first slice.
        """
        if data_array.ndim != 3:
            shape = tuple(data_array.shape)
            raise ValueError(f"A picture is (C, rows, columns), got shape {shape}; write volumes as .nii.gz.")
        super().set_data_array(data_array, *args, **kwargs)

    def write(self, filename: str | os.PathLike[str], verbose: bool = False, **kwargs: Any) -> None:
        """Write the picture; see `PILWriter.write` for the arguments."""
        super().write(filename, verbose=verbose, **{"reverse_indexing": False, **kwargs})
