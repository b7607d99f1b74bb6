"""Transforms: from any source to a tensor, the modality pipelines, and the writers."""

from __future__ import annotations

from monai_tpseg.io.errors import ReadError, find_read_error
from monai_tpseg.transforms.each_task import ForEachTask
from monai_tpseg.transforms.load import LoadMedicalImage, LoadMedicalImaged, match_label
from monai_tpseg.transforms.overlay import draw_overlay
from monai_tpseg.transforms.picture_writer import PictureWriter
from monai_tpseg.transforms.pipelines import (
    InvertMonochrome1d,
    NormalizeByModalityd,
    load_pipeline,
    pipeline_path,
    pipelines_hash,
)
from monai_tpseg.transforms.postprocess import RemoveSmallLesionsd
from monai_tpseg.transforms.regions import CropToRegiond, PasteRegiond, crop_to_region, paste_region
from monai_tpseg.transforms.resize import ResizePictured
from monai_tpseg.transforms.split_rounds import SplitRoundsd
from monai_tpseg.transforms.task_index import TaskToIndexd
from monai_tpseg.transforms.writers import MaskWriter, SaveMaskd

__all__ = [
    "CropToRegiond",
    "ForEachTask",
    "InvertMonochrome1d",
    "LoadMedicalImage",
    "LoadMedicalImaged",
    "MaskWriter",
    "NormalizeByModalityd",
    "PasteRegiond",
    "PictureWriter",
    "ReadError",
    "RemoveSmallLesionsd",
    "ResizePictured",
    "SaveMaskd",
    "SplitRoundsd",
    "TaskToIndexd",
    "crop_to_region",
    "draw_overlay",
    "find_read_error",
    "load_pipeline",
    "match_label",
    "paste_region",
    "pipeline_path",
    "pipelines_hash",
]
