"""The labels that people have saved, as the datalist of a training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_tpseg.catalogue import get_title
from monai_tpseg.files import write_atomically
from monai_tpseg.keys import IMAGE, LABEL, TASK

__all__ = ["Corrected", "write_corrected"]

Corrected = tuple[str, str, Mapping[str, Any]]
"""Image, label, and what was saved about the label."""


def write_corrected(entries: Iterable[Corrected], task: str, path: Path) -> int:
    """Write a datalist for `monai_tpseg.training` and return how many images it holds.

    A label whose segments are named counts where one is called like the task; one without names counts as well.

    Args:
        entries: the labels.
        task: task of the lesions.
        path: the datalist.

    Raises:
        ValueError: a label has several segments, so that it is no mask of one task; too few to hold some out.
    """
    listed = []
    for image, label, info in entries:
        names = _names(info)
        if names and not {task, get_title(task)} & set(names):
            continue
        if len(names) > 1:
            raise ValueError(
                f"A label has the segments {', '.join(names)}: save '{get_title(task)}' alone, as training requires."
            )
        listed.append({IMAGE: image, LABEL: label, TASK: task})
    if len(listed) < 2:
        raise ValueError(f"{len(listed)} of the saved labels show '{get_title(task)}'; training needs two or more.")
    write_atomically(path, (json.dumps({"training": listed}, indent=1) + "\n").encode())
    return len(listed)


def _names(info: Mapping[str, Any]) -> list[str]:
    """Names of segments: 3D Slicer and OHIF send them with a label as `label_info`."""
    params = info.get("params") or info
    return [str(one.get("name", "")) for one in params.get("label_info") or [] if isinstance(one, Mapping)]
