"""Quality of a mask beyond Dice: boundary, single lesions, calibration and size."""

from __future__ import annotations

from monai_tpseg.evaluation.calibration import calibration_bins, calibration_error
from monai_tpseg.evaluation.details import CaseDetails
from monai_tpseg.evaluation.lesion_wise import LesionCounts, match_lesions
from monai_tpseg.evaluation.surface import SurfaceMeasures, surface_measures

__all__ = [
    "CaseDetails",
    "LesionCounts",
    "SurfaceMeasures",
    "calibration_bins",
    "calibration_error",
    "match_lesions",
    "surface_measures",
]
