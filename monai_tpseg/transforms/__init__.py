"""Transforms: one reading path, the modality pipelines, and the writers."""

from __future__ import annotations

from monai_tpseg.transforms.cases import CaseSource, is_screenshot, list_cases
from monai_tpseg.transforms.dicom_split import Stack, find_stacks
from monai_tpseg.transforms.each_task import ForEachTask
from monai_tpseg.transforms.errors import NEXT_ACTIONS, READ_CODES, ReadCode, ReadError, find_read_error
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
from monai_tpseg.transforms.rounds import SplitRoundsd
from monai_tpseg.transforms.task_index import TaskToIndexd
from monai_tpseg.transforms.views import files_of, source_of
from monai_tpseg.transforms.writers import MaskWriter, SaveMaskd

__all__ = [
    "NEXT_ACTIONS",
    "READ_CODES",
    "CaseSource",
    "CropToRegiond",
    "ForEachTask",
    "InvertMonochrome1d",
    "LoadMedicalImage",
    "LoadMedicalImaged",
    "MaskWriter",
    "NormalizeByModalityd",
    "PasteRegiond",
    "PictureWriter",
    "ReadCode",
    "ReadError",
    "RemoveSmallLesionsd",
    "ResizePictured",
    "SaveMaskd",
    "SplitRoundsd",
    "Stack",
    "TaskToIndexd",
    "crop_to_region",
    "draw_overlay",
    "files_of",
    "find_read_error",
    "find_stacks",
    "is_screenshot",
    "list_cases",
    "load_pipeline",
    "match_label",
    "paste_region",
    "pipeline_path",
    "pipelines_hash",
    "source_of",
]
