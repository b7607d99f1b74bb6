"""Choice of the optional files of a case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monai_tpseg.io.dicom.segmentation import Encoding

__all__ = ["Outputs"]


@dataclass(frozen=True)
class Outputs:
    """Optional files of a case, in addition to its mask, `lesions.csv` and `result.json`.

    Attributes:
        seg: write a DICOM segmentation if the source is DICOM and a lesion was found.
        overlay: write the picture with the lesions drawn on it.
        probabilities: write the probabilities before thresholding.
        prefix: prefix table names with the name of the case, for several cases in one folder.
        method: name of the network in a DICOM segmentation.
        semi_automatic: whether a person guided the network, for a DICOM segmentation.
        sr: write a DICOM structured report of the measurements if the source is DICOM, even without lesions.
        encoding: encoding of the DICOM segmentation.
        names: names given to lesions by a person, by number.
        label_maps: label maps of volumes for other programs, from `monai_tpseg.results.label_maps.LABEL_MAPS`.
    """

    seg: bool = True
    overlay: bool = True
    probabilities: bool = False
    prefix: bool = False
    method: str = "TP-Seg"
    semi_automatic: bool = False
    sr: bool = True
    encoding: Encoding = "binary"
    label_maps: tuple[str, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
