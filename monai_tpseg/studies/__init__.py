"""Many studies: discovery, reading ahead, and segmentation, on one machine or on a cluster."""

from __future__ import annotations

from monai_tpseg.studies.manifest import Entry, read_manifest, write_manifest
from monai_tpseg.studies.manifest_merge import merge_scan
from monai_tpseg.studies.model import Model, Settings
from monai_tpseg.studies.reading import Limits, Reader
from monai_tpseg.studies.run import Run, exit_status, known_salt, prepare_output
from monai_tpseg.studies.scan import find_entries, scan

__all__ = [
    "Entry",
    "Limits",
    "Model",
    "Reader",
    "Run",
    "Settings",
    "exit_status",
    "find_entries",
    "known_salt",
    "merge_scan",
    "prepare_output",
    "read_manifest",
    "scan",
    "write_manifest",
]
