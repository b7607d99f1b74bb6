"""`tpseg pretrain`: a trunk that has seen one's pictures before anyone has labelled them."""

from __future__ import annotations

from monai_tpseg.pretraining.pretrain_options import PretrainOptions
from monai_tpseg.pretraining.pretraining_run import Pretrained, pretrain

__all__ = ["PretrainOptions", "Pretrained", "pretrain"]
