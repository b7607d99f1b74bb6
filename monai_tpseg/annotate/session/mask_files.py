"""Export of the masks of a session, on the grid of the source, as in `tpseg run`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from monai_tpseg.annotate.session.history import History
from monai_tpseg.annotate.session.lesion_names import named_lesions
from monai_tpseg.annotate.session.pixels import Pixels
from monai_tpseg.annotate.session.predictor import Result
from monai_tpseg.annotate.session.prompt_model import PromptModel
from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.io.output_names import OutputNames
from monai_tpseg.results.case_files import write_segmented
from monai_tpseg.results.folder import RESULT, case_folder, provenance, read_result, write_result
from monai_tpseg.results.outputs import Outputs
from monai_tpseg.segment import Segmentation, find_lesions
from monai_tpseg.transforms import pipelines_hash
from monai_tpseg.version import __version__

__all__ = ["write_session"]


def write_session(
    pixels: Pixels,
    model: PromptModel,
    history: History,
    results: dict[int, Result],
    out: Path,
    name: str | None = None,
) -> dict[str, Path]:
    """Write mask, DICOM segmentation, table of lesions, overlay and record into a subfolder of `out`.

    The folder is written atomically; an earlier export of the same name and task is replaced.

    Args:
        pixels: the case.
        model: the model of the masks.
        history: history of the session; its setup contains the task.
        results: results by number.
        out: parent folder, created if necessary.
        name: name of the case; by default that of its source.

    Returns:
        kind (`mask`, `lesions`, `overlay`, `result`, and `seg` for DICOM with a lesion) -> file or folder.

    Raises:
        SessionError: there is no task, the name is invalid, or the folder has other content or is not writable.
    """
    task = history.setup.task
    if task is None:
        raise SessionError("An export needs a task for its codes and names; choose one first.")
    name = OutputNames()(pixels.meta).as_posix() if name is None else _checked(name)
    folder = out / f"{name}_{task}"
    if folder.exists() and read_result(folder) is None:
        raise SessionError(f"'{folder}' exists and is not a result of this program; give another name or folder.")
    segmented = _segmented(pixels, history, results)
    names = _names(segmented.lesions, history)
    made_by = provenance(model.info, _config(model, history, results, names))
    outputs = Outputs(method="K-Prism", semi_automatic=True, names=names)
    try:
        with case_folder(folder, str(os.getpid())) as part:
            outcome, more = write_segmented(segmented, task, name, part, made_by, outputs)
            write_result(part, name, task, outcome, "", made_by, **more)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise SessionError(f"'{out}' cannot be written ({why}); free space or give another folder.") from error
    return {kind: folder / file for kind, file in more["files"].items()} | {"result": folder / RESULT}


def _checked(name: str) -> str:
    if not name or name[0] == "." or Path(name).name != name or "\0" in name or "\\" in name:
        raise SessionError(f"{name!r} is not a file name; give one without folders and without a leading dot.")
    return name


def _segmented(pixels: Pixels, history: History, results: dict[int, Result]) -> Segmentation:
    height, width, depth = pixels.shape
    prob, mask = (np.zeros((1, height, width, depth), np.float32) for _ in range(2))
    for index, state in history.slices.items():
        if state.result is not None:
            found = results[state.result].found
            prob[0, ..., index], mask[0, ..., index] = found.prob(), found.mask()
    image = pixels.image
    if image.ndim == 3:
        prob, mask = prob[..., 0], mask[..., 0]
    lesions = find_lesions(mask[0], image.meta)
    return Segmentation(image, torch.from_numpy(prob), torch.from_numpy(mask), lesions)


def _names(lesions: NDArray[np.int32], history: History) -> dict[int, str]:
    """Return the user-defined names of lesions by number."""
    whole = lesions[..., None] if lesions.ndim == 2 else lesions
    return named_lesions(history.setup.names, lambda index, row, column: int(whole[row, column, index]))


def _config(model: PromptModel, history: History, results: dict[int, Result], names: dict[int, str]) -> dict[str, Any]:
    """Return all settings that affect the masks in addition to weights, task and input, and the names of lesions."""
    called = {"names": {str(number): name for number, name in sorted(names.items())}} if names else {}
    return {
        "version": __version__,
        "preprocessing": pipelines_hash(),
        "image_size": list(model.image_size),
        "window": model.info.window,
        "threshold": model.finish.threshold,
        "min_lesion_area": model.finish.min_lesion_area,
        "slices": [
            {"slice": index, "status": state.status, "prompts": _prompts(index, state.result, results)}
            for index, state in sorted(history.slices.items())
        ],
        **called,
    }


def _prompts(index: int, number: int | None, results: dict[int, Result]) -> list[dict[str, Any]]:
    """Return the prompts of a slice since it was started; `from` is the slice with its initial mask."""
    asked: list[dict[str, Any]] = []
    while number is not None:
        recipe = results[number].recipe
        if recipe.index != index:
            asked[-1]["from"] = recipe.index
            break
        clicks = [list(click) for click in recipe.clicks]
        asked.append(
            {"drawn": recipe.drawn}
            if recipe.drawn
            else {"class": recipe.task, "clicks": clicks, "exemplars": len(recipe.exemplars)}
        )
        number = recipe.previous
    return asked[::-1]
