"""From an image as read to mask, probabilities and lesions: one way for studies, bundles, slides, viewer and Python."""

from __future__ import annotations

from monai_tpseg.segment.finish import Finish, find_lesions
from monai_tpseg.segment.prepare import PrepareImage
from monai_tpseg.segment.result import Segmentation
from monai_tpseg.segment.segmenter import Segmenter
from monai_tpseg.segment.transform import FinishMaskd

__all__ = ["Finish", "FinishMaskd", "PrepareImage", "Segmentation", "Segmenter", "find_lesions"]
