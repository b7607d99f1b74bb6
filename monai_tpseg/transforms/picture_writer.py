"""Pictures as MONAI's `SaveImaged` writes them, with rows first."""

from __future__ import annotations

import os
from typing import Any

from monai.data import PILWriter

__all__ = ["PictureWriter"]


class PictureWriter(PILWriter):
    """Writer of `SaveImaged` for pictures from `LoadMedicalImaged`, whose tensors are (C, rows, columns).

    MONAI's own takes the first axis for columns, as its own reader gives it, and would write them transposed.

    >>> from monai.transforms import SaveImaged
    >>> save = SaveImaged("pred", output_ext=".png", output_dtype="uint8", scale=255, writer=PictureWriter)
    """

    def write(self, filename: str | os.PathLike[str], verbose: bool = False, **kwargs: Any) -> None:
        """Write the picture; see `PILWriter.write` for the arguments."""
        super().write(filename, verbose=verbose, **{"reverse_indexing": False, **kwargs})
