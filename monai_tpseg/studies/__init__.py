"""Many studies: find them, segment them, write what was found, report."""

from __future__ import annotations

from monai_tpseg.studies.codes import ExitStatus, Outcome, Status, StudyError
from monai_tpseg.studies.manifest import Entry, read_manifest, write_manifest
from monai_tpseg.studies.merge import merge_scan
from monai_tpseg.studies.model import Model, Settings
from monai_tpseg.studies.reading import Limits, Reader
from monai_tpseg.studies.report import write_report
from monai_tpseg.studies.run import Run, exit_status, known_salt, prepare_output
from monai_tpseg.studies.save import SaveResultd
from monai_tpseg.studies.scan import find_entries, scan

__all__ = [
    "Entry",
    "ExitStatus",
    "Limits",
    "Model",
    "Outcome",
    "Reader",
    "Run",
    "SaveResultd",
    "Settings",
    "Status",
    "StudyError",
    "exit_status",
    "find_entries",
    "known_salt",
    "merge_scan",
    "prepare_output",
    "read_manifest",
    "scan",
    "write_manifest",
    "write_report",
]
