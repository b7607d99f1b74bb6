"""Results of a case: masks, measurements, DICOM objects, overlays and the record of its outcome."""

from __future__ import annotations

from monai_tpseg.results.codes import ExitStatus, Outcome, Status, StudyError
from monai_tpseg.results.save import SaveResultd

__all__ = ["ExitStatus", "Outcome", "SaveResultd", "Status", "StudyError"]
