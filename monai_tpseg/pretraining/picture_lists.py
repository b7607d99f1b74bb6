"""All pictures of a pretraining: from datalists and from folders, volumes by their slices, each with its modality."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_tpseg.catalogue import Modality, get_task
from monai_tpseg.data.datalists import Case, DatalistError, checked_entry, read_lists
from monai_tpseg.data.findings import TRAINING
from monai_tpseg.data.layouts.base import write_picture
from monai_tpseg.data.prepare import relative_to
from monai_tpseg.files import write_atomically
from monai_tpseg.io import ReadError
from monai_tpseg.io.discovery import Case as FoundCase
from monai_tpseg.io.discovery import discover
from monai_tpseg.io.headers import Header
from monai_tpseg.io.meta_keys import INTENSITY
from monai_tpseg.keys import IMAGE, SOURCE, TASK
from monai_tpseg.parsing import read_record
from monai_tpseg.pretraining.pretrain_options import PretrainOptions
from monai_tpseg.suffixes import PICTURE_SUFFIXES
from monai_tpseg.training.train_options import TrainingError
from monai_tpseg.transforms import LoadMedicalImage, load_pipeline

__all__ = ["LISTED", "MODALITIES", "list_pictures"]

logger = logging.getLogger(__name__)

LISTED = "pictures.json"
"""The list of a pretraining, in its folder."""

MODALITIES = {modality.value: modality.value for modality in Modality}
"""Names of the "tasks" of such pictures: only how they were made counts."""

_DATALIST = "datalist.json"


def list_pictures(request: PretrainOptions, out: Path) -> list[Case]:
    """Write `out`/pictures.json unless it is there, and return its entries with absolute paths.

    Only the list `training` of a datalist is taken, so that what a network is judged by stays unseen. What cannot be
    read is left out and counted.

    Args:
        request: names the data.
        out: folder of the pretraining; slices of volumes are written below it, as their pipeline shows them.

    Raises:
        TrainingError: nothing there, fewer than two pictures, or one that does not say how it was made.
        DatalistError: a datalist that cannot be used.
    """
    path = out / LISTED
    if not path.is_file():
        found = [case for data in request.data for case in _of(Path(data), request, out / "slices")]
        unique = list({case[IMAGE]: case for case in found}.values())
        if len(unique) < 2:
            raise TrainingError(f"Fewer than two readable pictures in {', '.join(request.data)}; give more.")
        entries = [{**case, IMAGE: relative_to(out.absolute(), case[IMAGE])} for case in unique]
        write_atomically(path, (json.dumps({TRAINING: entries}, indent=1) + "\n").encode())
    listed = read_record(path, {TRAINING: list})[TRAINING]
    cases = [{**entry, IMAGE: str((out / entry[IMAGE]).absolute())} for entry in listed]
    return [{**case, SOURCE: case[IMAGE]} for case in cases]


def _of(data: Path, request: PretrainOptions, slices: Path) -> Iterator[Case]:
    datalist = data / _DATALIST if data.is_dir() else data
    if datalist.is_file() and datalist.suffix.lower() == ".json":
        yield from _listed(datalist, request, slices)
    elif data.exists():
        yield from _found(data, request, slices)
    else:
        raise TrainingError(f"No data at '{data}'; give a datalist, a picture, a series, or a folder of them.")


def _listed(path: Path, request: PretrainOptions, slices: Path) -> Iterator[Case]:
    content = read_lists(path)
    entries = content.get(TRAINING)
    if not isinstance(entries, list) or not entries:
        raise DatalistError(f"'{path}' has no list '{TRAINING}', the only list that pretraining uses.")
    known = {**MODALITIES, **(content.get("modalities") or {})}
    for number, entry in enumerate(entries):
        where = f"'{path}', {TRAINING}[{number}]"
        name = entry.get(TASK) if isinstance(entry, dict) else None
        task = name if isinstance(name, str) and name else request.modality
        if not task:
            raise DatalistError(f"{where} has no task, which determines its modality; add it, or give --modality.")
        case = checked_entry({**entry, TASK: task}, (IMAGE,), where, path.absolute().parent, (task,))
        yield from _pictures(Path(case[IMAGE]), _modality_of(task, known, request), request, slices)


def _modality_of(task: str, known: Mapping[str, str], request: PretrainOptions) -> str:
    try:
        return get_task(task, known).modality.value
    except ValueError:
        if request.modality:
            return request.modality
        raise TrainingError(
            f"How pictures of task '{task}' were made is not known; give --modality, one of {', '.join(MODALITIES)}."
        ) from None


def _found(data: Path, request: PretrainOptions, slices: Path) -> Iterator[Case]:
    left_out: Counter[str] = Counter()
    for case in discover(data).cases:
        why = case.skip or ("" if case.header is None else _why_not(case.header))
        if why:
            left_out[why] += 1
            continue
        try:
            yield from _pictures(case.source, _modality_of_found(case, request), request, slices)
        except ReadError as error:
            left_out[error.code] += 1
    if left_out:
        told = ", ".join(f"{why} {number}" for why, number in left_out.most_common())
        logger.warning("Left out of '%s': %s.", data, told)


def _why_not(header: Header) -> str:
    """Why a file gives no picture, as far as its header tells; whole slides are too large to be one."""
    return "whole slide" if header.slide or header.kind == "slide" else header.code


def _modality_of_found(case: FoundCase, request: PretrainOptions) -> str:
    said = case.header.modality if case.header is not None else ""
    fitting = [modality.value for modality in Modality if said and said in modality.dicom]
    if len(fitting) == 1:
        return fitting[0]
    if request.modality:
        return request.modality
    raise TrainingError(f"'{case.path}' does not state its modality; give --modality, one of {', '.join(MODALITIES)}.")


def _pictures(source: Any, modality: str, request: PretrainOptions, slices: Path) -> Iterator[Case]:
    """A picture as it is; of a volume some slices, evenly spread, as files."""
    if isinstance(source, Path) and source.suffix.lower() in PICTURE_SUFFIXES:
        yield {IMAGE: str(source.absolute()), TASK: modality}
        return
    image = LoadMedicalImage()(source)
    shown = load_pipeline(modality, image.meta[INTENSITY], network=False)({IMAGE: image})[IMAGE].as_tensor().numpy()
    if shown.ndim == 3:
        shown = shown[..., None]
    stem = hashlib.sha256(f"{source} {modality}".encode()).hexdigest()[:16]
    depth = shown.shape[-1]
    number = min(request.slices, depth)
    for n in sorted({(2 * i + 1) * depth // (2 * number) for i in range(number)}):
        if np.ptp(shown[..., n]) > 0:
            yield {IMAGE: str(_written(shown[..., n], slices / f"{stem}_{n:04d}.png").absolute()), TASK: modality}


def _written(shown: Any, path: Path) -> Path:
    """Write (3, H, W) in [0, 1]: grey with 16 bits, or colour with 8."""
    if (shown == shown[:1]).all():
        return write_picture(shown[0], path)
    return write_picture(np.rint(shown.transpose(1, 2, 0) * 255).astype(np.uint8), path)
