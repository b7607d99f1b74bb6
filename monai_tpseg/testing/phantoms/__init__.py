"""Synthetic sample data of all eight tasks: the data of the demo, the documentation and the tests.

`make_phantom` and `make_volume` make one case from a seed, the `write_...` functions put cases on disk, and
`python -m monai_tpseg.testing.phantoms OUT` writes a whole data set.
"""

from __future__ import annotations

from monai_tpseg.testing.phantoms.dicom import write_dicom_cine, write_dicom_picture, write_dicom_series
from monai_tpseg.testing.phantoms.scene import (
    LUNG_WINDOW,
    PARTNERS,
    Phantom,
    PhantomVolume,
    display,
    make_phantom,
    make_volume,
)
from monai_tpseg.testing.phantoms.studies import BROKEN, PhantomStudy, write_studies
from monai_tpseg.testing.phantoms.write import (
    DemoCases,
    phantom_seed,
    write_dataset,
    write_demo_cases,
    write_nifti,
    write_png,
)

__all__ = [
    "BROKEN",
    "LUNG_WINDOW",
    "PARTNERS",
    "DemoCases",
    "Phantom",
    "PhantomStudy",
    "PhantomVolume",
    "display",
    "make_phantom",
    "make_volume",
    "phantom_seed",
    "write_dataset",
    "write_demo_cases",
    "write_dicom_cine",
    "write_dicom_picture",
    "write_dicom_series",
    "write_nifti",
    "write_png",
    "write_studies",
]
