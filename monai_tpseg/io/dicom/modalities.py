"""Supported values of (0008,0060) Modality."""

from __future__ import annotations

from itertools import chain

from pydicom.sr.codedict import codes

from monai_tpseg.catalogue import Modality
from monai_tpseg.io.dicom.values import DISPLAY_MODALITIES

__all__ = ["MODALITIES"]

MODALITIES = (
    frozenset(code.value for code in codes.cid29.concepts.values())
    | DISPLAY_MODALITIES
    | frozenset(chain.from_iterable(modality.dicom for modality in Modality))
    | {"OT"}
)
"""Acquisition modalities (PS3.16 CID 29), modalities with their own reader, and OT (other)."""
