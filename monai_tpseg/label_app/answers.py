"""Answers to the inference requests of a viewer: a mask file, and what the viewer is told about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_tpseg.annotate.session import Session
from monai_tpseg.annotate.session.prompt_model import PromptModel
from monai_tpseg.catalogue import get_title
from monai_tpseg.label_app.mask_format import in_asked_format
from monai_tpseg.label_app.places import places_of
from monai_tpseg.results.measurements import measure_lesions
from monai_tpseg.studies import Model
from monai_tpseg.transforms import MaskWriter

__all__ = ["answer_clicks", "answer_task"]

_CASE = "case"


def answer_task(
    model: Model, image: Path, task: str, request: Mapping[str, Any], folder: Path
) -> tuple[Path, dict[str, Any]]:
    """Segment an image for a task.

    Args:
        model: TP-Seg.
        image: a file, or the folder of one DICOM series.
        task: a task of the weights.
        request: request with the format of the file, see `in_asked_format`.
        folder: an empty one, that the mask goes to.

    Returns:
        the mask on the image's own grid, 1 where lesion is, and what a viewer is told.

    Raises:
        ReadError: the image cannot be read.
        ValueError: a kind of file that no mask is written as.
    """
    found = model.segment(image, task)
    meta, prob = found.image.meta, found.prob[0].numpy()
    written = MaskWriter(folder, save_overlay=False).write(found.mask, None, meta, task, _CASE)
    lesions = measure_lesions(found.lesions, prob, meta, task, _CASE)
    dice = found.trust.dice
    return in_asked_format(written["mask"], request), {
        "label_names": {get_title(task): 1},
        "task": task,
        "weights_sha256": model.info.sha256,
        "lesions": [
            {"size": one.size, "size_unit": one.size_unit, "mean_probability": one.mean_probability} for one in lesions
        ],
        "expected_dice": None if dice is None else round(dice.value, 3),
        "not_this_task": found.trust.refused,
    }


def answer_clicks(
    model: PromptModel, image: Path, task: str, request: Mapping[str, Any], folder: Path
) -> tuple[Path, dict[str, Any]]:
    """Segment what clicks mark, each slice by its own.

    Args:
        model: K-Prism.
        image: a file, or the folder of one DICOM series.
        task: a task of the weights, which determines preprocessing and class.
        request: `foreground` and `background`, lists of points as `places_of` takes them; `propagate`: go on from the
            clicked slices to their neighbours until the lesion is lost; what kind of file is asked for.
        folder: an empty one, that the mask goes to.

    Returns:
        as `answer_task`.

    Raises:
        ReadError: the image cannot be read.
        SessionError: a click outside of the image, or an unknown task.
        ValueError: a point is none; no point at all; a kind of file that no mask is written as.
    """
    session = Session(image, model, task)
    clicks = [
        (place, inside)
        for kind, inside in (("foreground", True), ("background", False))
        for place in places_of(request.get(kind) or [], session.meta)
    ]
    if not any(inside for _, inside in clicks):
        raise ValueError("No point inside a lesion: click on one first.")
    for (row, column, index), inside in clicks:
        session.click(row, column, inside, index)
    slices = sorted({place[2] for place, inside in clicks if inside})
    if request.get("propagate"):
        _propagate(session, slices)
    files = session.export(folder, _CASE)
    return in_asked_format(files["mask"], request), {
        "label_names": {get_title(task): 1},
        "task": task,
        "weights_sha256": model.info.sha256,
        "slices": [index for index, state in enumerate(session.states()) if state != "empty"],
        "voxels": int(session.volume_mask().sum()),
    }


def _propagate(session: Session, slices: list[int]) -> None:
    """From the lowest clicked slice down and from the highest up, and between them from each to the next."""
    depth = session.shape[2]
    for start, end, direction in ((slices[0], -1, -1), *((one, depth, 1) for one in slices)):
        if session.mask(start).any():
            session.propagate(start, abs(end - start) - 1, direction)
