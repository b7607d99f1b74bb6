"""Segmentation of an image as read, shared by studies, bundles, slides, viewer and Python."""

from __future__ import annotations

from monai_tpseg.segment.finish import Finish, find_lesions
from monai_tpseg.segment.prepare_image import PrepareImage
from monai_tpseg.segment.result import Segmentation
from monai_tpseg.segment.segmenter import Segmenter
from monai_tpseg.segment.transform import FinishMaskd
from monai_tpseg.segment.trust_inferer import TrustInferer

__all__ = ["Finish", "FinishMaskd", "PrepareImage", "Segmentation", "Segmenter", "TrustInferer", "find_lesions"]
