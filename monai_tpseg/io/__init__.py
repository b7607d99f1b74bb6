"""Input files: case discovery, readers that keep the geometry of the pixels, and errors that state the next action."""

from __future__ import annotations

from monai_tpseg.io.cases import CaseSource, is_screenshot, list_cases
from monai_tpseg.io.dicom.split import Stack, find_stacks
from monai_tpseg.io.errors import NEXT_ACTIONS, READ_CODES, ReadCode, ReadError, find_read_error

__all__ = [
    "NEXT_ACTIONS",
    "READ_CODES",
    "CaseSource",
    "ReadCode",
    "ReadError",
    "Stack",
    "find_read_error",
    "find_stacks",
    "is_screenshot",
    "list_cases",
]
