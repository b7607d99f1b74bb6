"""Additional results of DICOM sources: segmentation and structured report, written with highdicom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from monai_tpseg.catalogue import Task
from monai_tpseg.io.dicom.derived_object import Algorithm
from monai_tpseg.io.dicom.frames import source_frames
from monai_tpseg.io.dicom.segmentation import SegmentationError, write_contours, write_segmentation
from monai_tpseg.results.measurements import Lesion
from monai_tpseg.results.outputs import Outputs
from monai_tpseg.results.structured_report import write_structured_report
from monai_tpseg.segment import Segmentation
from monai_tpseg.trust import Contours
from monai_tpseg.words import count

__all__ = ["algorithm", "contour_segments", "write_dicom_objects"]


def algorithm(made_by: Mapping[str, Any], outputs: Outputs) -> Algorithm:
    """Return the algorithm identification of a DICOM segmentation from `provenance`."""
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
) -> tuple[dict[str, Path], str]:
    """Write the objects requested by `outputs`.

    Args:
        found: segmentation of a DICOM source.
        lesions: measured lesions.
        task: the task.
        name: name of the case.
        base: path of the files up to the task name.
        made_by: see `provenance`.
        outputs: optional files to write.

    Returns:
        the files, and the reason why one could not be written, or "".
    """
    files: dict[str, Path] = {}
    meta, made, why = found.image.meta, algorithm(made_by, outputs), ""
    frames = cache(partial(source_frames, meta))  # read once for all objects
    if outputs.seg and lesions:
        seg = base.with_name(f"{base.name}_seg.dcm")
        why = _obstacle(
            lambda: write_segmentation(
                seg, found.lesions, meta, task, name, made, outputs.encoding, outputs.names, frames
            )
        )
        files |= {} if why else {"seg": seg}
    if outputs.seg and found.trust.contours is not None and found.trust.contours.outer.any():
        seg = base.with_name(f"{base.name}_contours_seg.dcm")
        named = contour_segments(found.trust.contours, found.mask[0].numpy())
        obstacle = _obstacle(partial(write_contours, seg, named, meta, task, name, made, frames))
        files |= {} if obstacle else {"contours_seg": seg}
        why = why or obstacle
    if outputs.sr:
        sr = base.with_name(f"{base.name}_sr.dcm")
        dice = None if found.trust.dice is None else round(found.trust.dice.value, 3)
        report = partial(
            write_structured_report, sr, list(lesions), meta, task, name, made, files.get("seg"), dice, frames
        )
        obstacle = _obstacle(report)
        files |= {} if obstacle else {"sr": sr}
        why = why or obstacle
    return files, why


def contour_segments(contours: Contours, mask: NDArray[Any]) -> list[tuple[str, str, NDArray[Any]]]:
    """Return inner, best and outer mask with their descriptions, for `write_contours`.

    Args:
        contours: inner and outer contour.
        mask: (H, W) or (H, W, D) in {0, 1}.
    """
    inner, outer = (one[0].numpy() for one in (contours.inner, contours.outer))
    cuts = contours.cuts
    promised = f"in expectation, calibrated on {count(cuts.cases, 'case')}"
    return [
        ("inner", f"at most {cuts.false:.3g} of its pixels are no lesion, {promised}", inner),
        ("best", "the mask itself", mask),
        ("outer", f"at most {cuts.miss:.3g} of the lesion's pixels lie outside, {promised}", outer),
    ]


def _obstacle(write: Callable[[], None]) -> str:
    """Write a DICOM object; if the source does not allow it, return the reason, without header values."""
    try:
        write()
    except SegmentationError as error:
        return str(error)
    return ""
