"""What an inference is asked to segment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_tpseg.data.datalists import read_datalist
from monai_tpseg.keys import IMAGE, TASK
from monai_tpseg.tasks import TASK_NAMES
from monai_tpseg.transforms import list_cases

__all__ = ["data_root", "inference_cases"]


def inference_cases(
    dataset_dir: str, datalist: str | None, task: str | int | None, tasks: Sequence[str] = TASK_NAMES
) -> list[dict[str, Any]]:
    """Return `{"image", "task"}` of everything to segment.

    Args:
        dataset_dir: a file, a folder of files, a DICOM series or folders of them; with `datalist`, where its relative
            paths start. An empty string without `datalist` means that nothing has been named yet.
        datalist: a MONAI datalist; its "validation" (or "testing") entries are segmented for their own task, or for
            `task` where it is given.
        task: name or row of the task.
        tasks: names in row order.

    Raises:
        DatalistError, ReadError: something named is not there.
    """
    if datalist:
        entries = _listed(datalist, dataset_dir or str(Path(datalist).parent), tasks)
        return [{**entry, "task": entry["task"] if task is None else task} for entry in entries]
    if not dataset_dir:
        return []
    return [{"image": str(path), "task": task} for path in list_cases(dataset_dir)]


def data_root(dataset_dir: str, datalist: str | None) -> str | None:
    """Return the folder whose sub-folders an inference repeats in its output, or None for a single input."""
    if datalist:
        return dataset_dir or str(Path(datalist).parent)
    return dataset_dir if dataset_dir and Path(dataset_dir).is_dir() else None


def _listed(datalist: str, base_dir: str, tasks: Sequence[str]) -> list[dict[str, Any]]:
    content = ConfigParser.load_config_file(datalist) if Path(datalist).is_file() else None
    section = "testing" if content and "testing" in content else "validation"
    cases = read_datalist(datalist, section, base_dir, tasks, label=False)
    return [{IMAGE: case[IMAGE], TASK: case[TASK]} for case in cases]
