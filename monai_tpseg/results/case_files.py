"""Files of a segmented case: mask, DICOM segmentation, lesions and overlay, for studies and bundles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from monai_tpseg.catalogue import get_task
from monai_tpseg.files import complete, file_sha256, write_atomically
from monai_tpseg.io import meta_keys
from monai_tpseg.io.output_names import base_path
from monai_tpseg.results.codes import RUN_ACTIONS, Outcome, Status
from monai_tpseg.results.folder import decisions
from monai_tpseg.results.label_maps import write_label_maps
from monai_tpseg.results.measurements import flags_of, lesions_csv, measure_lesions, outcome_with, with_range
from monai_tpseg.results.outputs import Outputs
from monai_tpseg.segment import Segmentation
from monai_tpseg.transforms import MaskWriter, NormalizeByModalityd
from monai_tpseg.transforms.figure import draw_case
from monai_tpseg.trust import Trust

__all__ = ["refusal_outcome", "write_segmented"]


def write_segmented(
    found: Segmentation, task: str, name: str, folder: Path, made_by: Mapping[str, Any], outputs: Outputs | None = None
) -> tuple[Outcome, dict[str, Any]]:
    """Write all files of a case except its `result.json`.

    Args:
        found: image as read, mask, probabilities and lesions.
        task: name of the task.
        name: name of the case; may contain sub-folders.
        folder: output folder.
        made_by: see `provenance`.
        outputs: optional files to write.

    Returns:
        the outcome of the case, and its fields of `result.json`: `files`, `sha256`, `lesions`, `voxels`, `decisions`,
        `trust`.
    """
    outputs = outputs or Outputs()
    modalities = made_by["model"].get("modalities", {})
    mask, prob, meta = found.mask[0].numpy(), found.prob[0].numpy(), found.image.meta
    contours = found.trust.contours
    measured = measure_lesions(found.lesions, prob, meta, task, name, outputs.names)
    lesions = with_range(measured, found.lesions, contours, meta)
    known = get_task(task, modalities)
    base, flags = base_path(folder, name, task), set(flags_of(mask, lesions, meta, known.modality))
    flags |= {"not_this_task"} if found.trust.refused else set()
    files = MaskWriter(folder, save_probabilities=outputs.probabilities, save_overlay=False).write(
        found.mask, found.prob, meta, task, name
    )
    if contours is not None:
        for kind, one in (("inner", contours.inner), ("outer", contours.outer)):
            writer = MaskWriter(folder, save_overlay=False, kind=kind)
            files[kind] = writer.write(one, None, meta, task, name)["mask"]
    files["lesions"] = base.with_name(f"{base.name}_lesions.csv") if outputs.prefix else base.with_name("lesions.csv")
    write_atomically(files["lesions"], lesions_csv(lesions))
    files |= write_label_maps(base, found.lesions, meta, known, outputs.label_maps) if outputs.label_maps else {}
    why_no_object = ""
    with ExitStack() as beside:
        overlay = beside.enter_context(_drawn_beside(base, found, task, modalities)) if outputs.overlay else {}
        if str(meta[meta_keys.FORMAT]) == "dicom":
            from monai_tpseg.results.dicom_objects import write_dicom_objects  # late: needs highdicom

            objects, why_no_object = write_dicom_objects(found, lesions, known, name, base, made_by, outputs)
            files |= objects
            flags |= {"no_seg"} if why_no_object else set()
    files |= overlay
    more = {
        "files": {kind: path.relative_to(base.parent).as_posix() for kind, path in files.items()},
        "sha256": {path.relative_to(base.parent).as_posix(): file_sha256(path) for path in _each(files)},
        "lesions": len(lesions),
        "voxels": sum(lesion.voxels for lesion in lesions),
        "decisions": decisions(meta),
        "trust": found.trust.record(),
    }
    return outcome_with(flags, len(lesions), why_no_object), more


def refusal_outcome(trust: Trust) -> tuple[Outcome, dict[str, Any]]:
    """Return outcome and record of a case that gets no mask because its picture does not belong to the task."""
    code = "S_NOT_THIS_TASK"
    return Outcome(Status.SKIPPED, code, RUN_ACTIONS[code]), {"trust": trust.record()}


@contextmanager
def _drawn_beside(
    base: Path, found: Segmentation, task: str, modalities: Mapping[str, str]
) -> Iterator[dict[str, Path]]:
    """Draw the lesions on the picture; it is compressed while other files are written, and complete on exit."""
    path, contours = base.with_name(f"{base.name}_overlay.png"), found.trust.contours
    outlines = () if contours is None else (contours.inner[0].numpy(), contours.outer[0].numpy())
    display = _display(tuple(modalities.items()))
    drawn = draw_case(found.image, found.mask[0], task, display, found.lesions, outlines, found.trust.caption)
    with ThreadPoolExecutor(1) as beside:  # Pillow releases the GIL while compressing
        saved = beside.submit(_save_png, path, drawn)
        yield {"overlay": path}
        saved.result()


def _save_png(path: Path, picture: Image.Image) -> None:
    with complete(path) as file:
        picture.save(file, format="PNG")


def _each(files: Mapping[str, Path]) -> Iterator[Path]:
    for path in files.values():
        yield from sorted(path.iterdir()) if path.is_dir() else [path]


@cache
def _display(modalities: tuple[tuple[str, str], ...]) -> NormalizeByModalityd:
    """The pipelines without their last step; read once."""
    return NormalizeByModalityd(network=False, modalities=dict(modalities))
