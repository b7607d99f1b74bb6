"""From stored to modality values by the modality LUT, or slope and intercept (PS3.3 C.11.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.dicom.attributes import modality_lut, rescale
from monai_tpseg.io.errors import ReadError

__all__ = ["modality_values"]

_ENTRIES = 2**16  # the number of entries that 0 means


def modality_values(stored: NDArray[Any], header: Any, name: object) -> NDArray[np.float64]:
    """Return the values of the modality, e.g. HU.

    A modality LUT takes precedence over slope and intercept, which default to 1 and 0.

    Args:
        stored: stored values of any shape.
        header: header of the object or of the frame, see `frames_of`.
        name: name used in error messages.

    Raises:
        ReadError: `E_FORMAT` or `E_DECODE`, the header's numbers or its LUT cannot be used.
    """
    item = modality_lut(header)
    if item is None:
        slope, intercept = rescale(header, name)
        values: NDArray[np.float64] = stored.astype(np.float64)
        return values * slope + intercept if (slope, intercept) != (1, 0) else values
    count, first, bits = _descriptor(item, header, name)
    table = _table(item, count, bits, name)
    looked_up: NDArray[np.float64] = table[np.clip(stored.astype(np.int64) - first, 0, count - 1)]
    return looked_up


def _descriptor(item: Any, header: Any, name: object) -> tuple[int, int, int]:
    """Number of entries, stored value of the first, bits per entry; the first value may be signed or unsigned."""
    try:
        count, first, bits = (int(x) for x in item.LUTDescriptor)
    except (TypeError, ValueError) as error:
        raise ReadError("E_DECODE", f"{name} has a modality LUT without a description; export it again.") from error
    if not 1 <= bits <= 16:
        raise ReadError("E_FORMAT", f"{name} has a modality LUT of {bits} bits; convert it.")
    first %= _ENTRIES
    if int(header.get("PixelRepresentation") or 0) and first >= _ENTRIES // 2:
        first -= _ENTRIES
    return count % _ENTRIES or _ENTRIES, first, bits


def _table(item: Any, count: int, bits: int, name: object) -> NDArray[np.float64]:
    """The entries: 16 bits each, or two 8-bit entries per 16 bits."""
    data = item.LUTData
    if isinstance(data, bytes):
        little = item.original_encoding[1] is not False
        words = np.frombuffer(data[: len(data) // 2 * 2], dtype="<u2" if little else ">u2")
    else:
        words = np.atleast_1d(np.asarray(data, dtype=np.int64)).astype(np.uint16)
    entries = words
    if bits <= 8 and len(words) == (count + 1) // 2 and count > 1:
        entries = words.astype("<u2").view(np.uint8)
    if len(entries) < count:
        raise ReadError(
            "E_DECODE", f"{name} declares a modality LUT of {count} entries but has fewer; export it again."
        )
    table: NDArray[np.float64] = (entries[:count] & (2**bits - 1)).astype(np.float64)
    return table
