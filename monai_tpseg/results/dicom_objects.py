"""What a case of a DICOM source gets besides: segmentation and structured report; no other source needs highdicom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tpseg.catalogue import Task
from monai_tpseg.io.dicom.segmentation import Algorithm, SegmentationError, write_segmentation
from monai_tpseg.results.measurements import Lesion
from monai_tpseg.results.structured_report import write_structured_report
from monai_tpseg.segment import Segmentation

if TYPE_CHECKING:
    from monai_tpseg.results.case_files import Outputs

__all__ = ["algorithm", "write_dicom_objects"]


def algorithm(made_by: Mapping[str, Any], outputs: Outputs) -> Algorithm:
    """Return what a DICOM segmentation says about what made it, out of `provenance`."""
    version, model = made_by["versions"]["monai_tpseg"], made_by["model"]
    digests = model["weights_sha256"], made_by["config_sha256"]
    return Algorithm(version, *digests, outputs.method, outputs.semi_automatic, model.get("weights", ""))


def write_dicom_objects(
    found: Segmentation,
    lesions: Sequence[Lesion],
    task: Task,
    name: str,
    base: Path,
    made_by: Mapping[str, Any],
    outputs: Outputs,
) -> tuple[dict[str, Path], bool]:
    """Write the objects that `outputs` asks for.

    Args:
        found: of a DICOM source.
        lesions: as measured.
        task: the task.
        name: of the case.
        base: path of the files, without what follows the task's name.
        made_by: see `provenance`.
        outputs: what is written.

    Returns:
        the files, and whether the source has what each of them refers to.
    """
    files: dict[str, Path] = {}
    meta, made, complete = found.image.meta, algorithm(made_by, outputs), True
    if outputs.seg and lesions:
        seg = base.with_name(f"{base.name}_seg.dcm")
        if _made(lambda: write_segmentation(seg, found.lesions, meta, task, name, made)):
            files["seg"] = seg
        else:
            complete = False
    if outputs.sr:
        sr = base.with_name(f"{base.name}_sr.dcm")
        dice = None if found.trust.dice is None else round(found.trust.dice.value, 3)
        if _made(lambda: write_structured_report(sr, list(lesions), meta, task, name, made, files.get("seg"), dice)):
            files["sr"] = sr
        else:
            complete = False
    return files, complete


def _made(write: Callable[[], None]) -> bool:
    """Say whether the source has what a DICOM object refers to, and write it then."""
    try:
        write()
    except SegmentationError:
        return False
    return True
