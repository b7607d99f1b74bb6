"""Prompts of an inference from files: clicks from JSON, exemplars from a list of pictures with labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Transform
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_tpseg.data.datalists import DatalistError
from monai_tpseg.io import meta_keys
from monai_tpseg.keys import CLICKS, EXEMPLAR_IMAGE, EXEMPLAR_LABEL, IMAGE, LABEL, TASK
from monai_tpseg.parsing import ParseError, read_json

__all__ = ["AddExemplarsd", "ClicksToTensord", "clicks_of", "read_clicks", "read_exemplars"]


def read_clicks(path: str | os.PathLike[str]) -> dict[str, list[list[float]]]:
    """Read the clicks of pictures.

    Args:
        path: JSON file `{"picture.png": [[row, column, 1], [row, column, -1], ...], ...}` with the names of the
            pictures, or one such list for the only picture. Rows and columns count from 0 in pixels of the picture as
            displayed; 1 is inside, -1 outside.

    Returns:
        clicks by file name; the name is "" for a bare list.

    Raises:
        DatalistError: the file is missing or not of that form; one line with the place.
    """
    content = _read_json(path, "--clicks")
    named = {"": content} if isinstance(content, list) else content
    if not isinstance(named, dict) or not named:
        raise DatalistError(f"'{path}' must hold clicks [[row, column, 1 or -1], ...], or those of pictures by name.")
    for name, clicks in named.items():
        where = f"'{path}'" + (f", '{name}'" if name else "")
        if not isinstance(clicks, list) or not clicks:
            raise DatalistError(f"{where} must be a list of clicks [row, column, 1 or -1], got {clicks!r}.")
        for click in clicks:
            if not _is_click(click):
                raise DatalistError(f"{where}: a click is [row, column, 1 or -1], got {click!r}.")
    return named


def _is_click(click: Any) -> bool:
    numbers = isinstance(click, list) and len(click) == 3 and all(type(x) in (int, float) for x in click)
    return numbers and click[2] in (1, -1) and min(click[:2]) >= 0


def clicks_of(clicks: Mapping[str, list[list[float]]], image: str | os.PathLike[str]) -> list[list[float]]:
    """Return the clicks of one picture.

    Raises:
        DatalistError: there are none for it.
    """
    name = Path(image).name
    if "" in clicks:
        return clicks[""]
    if name not in clicks:
        raise DatalistError(f"The file has no clicks for '{name}', only for {', '.join(clicks)}.")
    return clicks[name]


def read_exemplars(path: str | os.PathLike[str], task: str) -> list[dict[str, Any]]:
    """Read a list of exemplars.

    Args:
        path: JSON file `[{"image": "a.png", "label": "a_mask.png"}, ...]`, paths relative to the file's folder.
        task: name of the task, which says how their pixels become input.

    Returns:
        cases with absolute paths.

    Raises:
        DatalistError: the file is missing or not of that form, or a picture is not there; one line with its place.
    """
    content = _read_json(path, "--exemplars")
    if not isinstance(content, list) or not content:
        raise DatalistError(f"'{path}' must be a list of exemplars {{'image': ..., 'label': ...}}.")
    cases: list[dict[str, Any]] = []
    for i, entry in enumerate(content):
        case: dict[str, Any] = {TASK: task}
        for key in (IMAGE, LABEL):
            if not isinstance(entry, dict) or not entry.get(key):
                raise DatalistError(f"'{path}', [{i}] has no '{key}'; every exemplar needs image and label.")
            file = Path(path).absolute().parent / str(entry[key])
            if not file.exists():
                raise DatalistError(f"'{path}', [{i}]: no {key} at '{file}'.")
            case[key] = str(file)
        cases.append(case)
    return cases


def _read_json(path: str | os.PathLike[str], option: str) -> Any:
    if not Path(path).is_file():
        raise DatalistError(f"No file at '{path}'; correct {option}.")
    try:
        return read_json(path)
    except ParseError as error:
        raise DatalistError(f"'{path}' is not JSON ({error}).") from error


class AddExemplarsd(Transform):
    """Add the same exemplars to every case; they are read when the first case is.

    Args:
        cases: from `read_exemplars`; an empty list adds nothing.
        transform: transform of an exemplar; must return pictures of one size under `image` and `label`.
    """

    def __init__(self, cases: Sequence[dict[str, Any]], transform: Callable[[dict[str, Any]], Any]) -> None:
        self.cases, self.transform = list(cases), transform
        self._shown: dict[Hashable, Tensor] = {}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` with `exemplar_image` (K, 3, H, W) and `exemplar_label` (K, 1, H, W)."""
        if self.cases and not self._shown:
            shown = [self.transform(dict(case)) for case in self.cases]
            for key, source in ((EXEMPLAR_IMAGE, IMAGE), (EXEMPLAR_LABEL, LABEL)):
                self._shown[key] = torch.stack([convert_to_tensor(s[source], track_meta=False) for s in shown])
        return {**data, **self._shown}


class ClicksToTensord(Transform):
    """Turn the clicks of a case into pixels of its image, which may be cropped to an ultrasound region.

    It stands after `CropToRegiond`. A case without clicks passes.

    Raises:
        DatalistError: a volume, or a click outside of the picture or of its region.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` with `clicks` (N, 3) float32."""
        if not data.get(CLICKS):
            return dict(data)
        image, name = data[IMAGE], Path(str(data[IMAGE].meta.get(meta_keys.FILENAME, "the image"))).name
        if image.ndim != 3:
            raise DatalistError(f"Clicks are for pictures, and '{name}' is a volume; give a task or exemplars.")
        top, left = (int(n) for n in image.meta[meta_keys.REGION][:2]) if meta_keys.REGION in image.meta else (0, 0)
        clicks = torch.tensor(data[CLICKS], dtype=torch.float32)
        place = clicks[:, :2] - torch.tensor([top, left])
        height, width = image.shape[1:]
        outside = ((place < 0) | (place > torch.tensor([height - 1, width - 1]))).any(1)
        if bool(outside.any()):
            row, column, _ = clicks[outside][0].tolist()
            area = f"{height} x {width} pixels" + (f" from row {top}, column {left}" if (top, left) != (0, 0) else "")
            raise DatalistError(f"The click at row {row:g}, column {column:g} lies outside '{name}' ({area}).")
        return {**data, CLICKS: torch.cat([place, clicks[:, 2:]], dim=1)}
