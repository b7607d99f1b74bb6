"""Conversion of saved masks to {0, 1}, without guessing."""

from __future__ import annotations

import numpy as np

from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.loaded import Array

__all__ = ["binary_picture", "binary_volume"]

_HALF = 127  # of 255; values near 0 and 255 in a JPEG are assigned to them
_NOISE = 32  # tolerated difference between the channels of a grey mask saved as JPEG


def binary_picture(values: Array, name: object) -> Array:
    """Return a picture label as {0, 1}.

    Args:
        values: (1, H, W), or (3, H, W) with equal colours; in {0, 1}, or 0 to 255 with 255 as the lesion.
        name: name used in error messages.

    Returns:
        (1, H, W) float32.

    Raises:
        ReadError: `E_LABEL_VALUES`, the label is in colour or contains other values.
    """
    if len(values) == 3:
        if np.abs(values - values[:1]).max() > _NOISE:
            raise ReadError("E_LABEL_VALUES", f"Label {name} is in colour; save it as one channel of 0 and 255.")
        values = values[:1]
    if np.isin(values, (0, 1)).all():
        return values.astype(np.float32)
    if values.min() >= 0 and _HALF < values.max() <= 255:
        return (values > _HALF).astype(np.float32)
    found = ", ".join(f"{value:g}" for value in np.unique(values)[:8])
    raise ReadError("E_LABEL_VALUES", f"Label {name} holds the values {found}; save it as 0 and 1 or 0 and 255.")


def binary_volume(values: Array, name: object) -> Array:
    """Return a volume label as {0, 1}: every value above 0 is lesion.

    Args:
        values: (1, x, y, z).
        name: name used in error messages.

    Raises:
        ReadError: `E_LABEL_VALUES`, the label has several channels.
    """
    if len(values) != 1:
        raise ReadError("E_LABEL_VALUES", f"Label {name} is in colour; save it as one number per voxel.")
    return (values > 0).astype(np.float32)
