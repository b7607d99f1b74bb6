"""Datalists whose exemplars are wrong: of another task, with the mask turned inside out, with the mask moved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.files import complete, write_atomically

Mask = NDArray[np.uint8]


def inverted(mask: Mask) -> Mask:
    """(H, W) in {0, 255} -> the background marked in place of the lesion."""
    return (255 - mask).astype(np.uint8)


def shifted(mask: Mask) -> Mask:
    """(H, W) -> the mask moved by half of the height and of the width, what leaves coming in at the other side."""
    return np.roll(mask, (mask.shape[0] // 2, mask.shape[1] // 2), axis=(0, 1))


MASKS: dict[str, Callable[[Mask], Mask]] = {"inverted": inverted, "shifted": shifted}


def write_wrong(data: Path, folder: Path) -> dict[str, Path]:
    """Write one datalist for each way to be wrong; only the list that exemplars are drawn from differs.

    Args:
        data: folder of `datalist.json`, whose labels are {0, 255}.
        folder: of the datalists and masks.

    Returns:
        the datalist by what is shown: "right" (the one of `data`), "other_task" (the next task's pictures and masks go
        by the name of this one), "inverted" and "shifted" (the masks' ways).
    """
    source = data / "datalist.json"
    lists = json.loads(source.read_text())
    training = lists["training"]
    following = dict(zip((*TASK_NAMES[1:], TASK_NAMES[0]), TASK_NAMES, strict=True))
    shown: dict[str, list[dict[str, Any]]] = {"other_task": [{**e, "task": following[e["task"]]} for e in training]}
    for name, change in MASKS.items():
        shown[name] = [_changed(entry, data, folder / name / f"{i}.png", change) for i, entry in enumerate(training)]
    paths = {name: folder / f"{name}.json" for name in shown}
    for name, path in paths.items():
        write_atomically(path, json.dumps({**lists, "training": shown[name]}).encode())
    return {"right": source, **paths}


def _changed(entry: dict[str, Any], data: Path, target: Path, change: Callable[[Mask], Mask]) -> dict[str, Any]:
    """Write a changed mask unless it is there; return the entry with it."""
    if not target.is_file():
        mask = np.asarray(Image.open(data / entry["label"]).convert("L"))
        with complete(target) as part:
            Image.fromarray(change(mask)).save(part)
    return {**entry, "label": str(target.absolute())}
