"""Inputs of an inference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

from monai_tpseg.catalogue import TASK_NAMES, get_task, resolve_task
from monai_tpseg.data.datalists import read_datalist, read_lists
from monai_tpseg.io import CaseSource, list_cases
from monai_tpseg.io.probing import IsolatedFileAccess
from monai_tpseg.io.safety import base_name
from monai_tpseg.keys import IMAGE, TASK
from monai_tpseg.subprocesses import CallLost, ChildProcess, available_memory, warm_up
from monai_tpseg.transforms import LoadMedicalImage

__all__ = [
    "READS",
    "Image",
    "SourceLost",
    "check_readable",
    "data_root",
    "inference_cases",
    "listed_tasks",
    "try_reading",
]

READS = f"{__name__}:try_reading"
"""`try_reading` by name, for `monai_tpseg.subprocesses`."""

_LOST = {
    "timeout": "did not answer within {:g} s",
    "memory": "takes more memory to read than there is",
    "crash": "ends the process that reads it",
}

Image = str | tuple[str, ...]
"""Input of `LoadMedicalImaged`: a path, or the files of one stack of a folder with several."""

Asked = str | int | Sequence[str | int] | None


class SourceLost(ValueError):
    """A source whose reading process has ended.

    Args:
        name: displayable name of the source.
        error: reason of the loss.
        seconds: time limit in s.
    """

    def __init__(self, name: str, error: CallLost, seconds: float) -> None:
        super().__init__(f"{name} {_LOST[error.reason].format(seconds)}; leave it out.")


def inference_cases(
    dataset_dir: str,
    datalist: str | None,
    task: Asked,
    tasks: Sequence[str] = TASK_NAMES,
    modalities: Mapping[str, str] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Return `{"image", "task"}` of everything to segment.

    Tasks of one image that follow each other and are of one modality become one case, whose task is their list: it is
    read once, and what they share runs once.

    Args:
        dataset_dir: a file, a folder of files, a DICOM series or folders of them; with `datalist`, where its relative
            paths start. An empty string without `datalist` means that nothing has been named yet.
        datalist: a MONAI datalist; its "validation" (or "testing") entries are segmented for their own task, or for
            `task` where it is given.
        task: name or row of the task, or several of them.
        tasks: names in row order.
        modalities: modalities of tasks beyond the catalogue, by name.

    Raises:
        DatalistError, ReadError: something named is not there.
        ValueError: a task that does not exist.
    """
    asked = listed_tasks(task)
    if datalist:
        entries = _listed(datalist, dataset_dir or str(Path(datalist).parent), tasks)
        images = list(dict.fromkeys(entry[IMAGE] for entry in entries))
        wanted: list[tuple[Image, str | int | None]] = [(image, one) for image in images for one in asked]
        return _joined(wanted or [(entry[IMAGE], entry[TASK]) for entry in entries], tasks, modalities)
    if not dataset_dir:
        return []
    each: list[str | int | None] = [*asked] or [None]
    warm_up(READS)
    with IsolatedFileAccess() as access:
        sources = list_cases(dataset_dir, access)
    return _joined([(_named(source), one) for source in sources for one in each], tasks, modalities)


def check_readable(images: Iterable[Image], seconds: float = 300.0) -> None:
    """Read each image in a process that may be ended, and drop it.

    Args:
        images: see `inference_cases`.
        seconds: for one of them.

    Raises:
        ReadError: one cannot be read.
        SourceLost: one does not answer, or ends the process that reads it.
    """
    process = ChildProcess(READS, seconds, available_memory() // 2)
    try:
        for image in images:
            process.send(image)
            try:
                process.receive()
            except CallLost as error:
                name = base_name(Path(image if isinstance(image, str) else image[0]))
                raise SourceLost(name, error, seconds) from None
    finally:
        process.close()


def try_reading(image: Image) -> None:
    """Read an image and drop it."""
    LoadMedicalImage(irregular="slices")(image)


def listed_tasks(task: Asked) -> list[str | int]:
    """Return the tasks that an inference asks for, none where it leaves them to a datalist.

    Raises:
        ValueError: neither names nor rows.
    """
    if task is None or task == "":
        return []
    if not isinstance(task, str | int | Sequence):
        raise ValueError(f"task must be a name, a row or a list of them, got {task!r}.")
    return [task] if isinstance(task, str | int) else list(task)


def _named(source: CaseSource) -> Image:
    return tuple(map(str, source)) if isinstance(source, tuple) else str(source)


def _joined(
    wanted: Sequence[tuple[Image, str | int | None]], tasks: Sequence[str], modalities: Mapping[str, str]
) -> list[dict[str, Any]]:
    def kind(pair: tuple[Image, str | int | None]) -> tuple[Image, Any]:
        image, task = pair
        return image, None if task is None else get_task(tasks[resolve_task(task, tasks)], modalities).modality

    wanted = list(dict.fromkeys(wanted))  # what is listed twice is segmented once
    groups = [(image, [task for _, task in pairs]) for (image, _), pairs in groupby(wanted, kind)]
    return [{IMAGE: image, TASK: asked[0] if len(asked) == 1 else asked} for image, asked in groups]


def data_root(dataset_dir: str, datalist: str | None) -> str | None:
    """Return the folder whose sub-folders an inference repeats in its output, or None for a single input."""
    if datalist:
        return dataset_dir or str(Path(datalist).parent)
    if not dataset_dir:
        return None
    warm_up(READS)
    with IsolatedFileAccess() as files:
        return dataset_dir if files.place(Path(dataset_dir)) == "folder" else None


def _listed(datalist: str, base_dir: str, tasks: Sequence[str]) -> list[dict[str, Any]]:
    content = read_lists(datalist) if Path(datalist).is_file() else None
    section = "testing" if content and "testing" in content else "validation"
    cases = read_datalist(datalist, section, base_dir, tasks, label=False)
    return [{IMAGE: case[IMAGE], TASK: case[TASK]} for case in cases]
