"""MONAI datalists: reading them, checking them before anything runs, and the inputs of an inference."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from monai_tpseg.catalogue import resolve_task
from monai_tpseg.keys import IMAGE, LABEL, SOURCE, TASK
from monai_tpseg.parsing import ParseError, read_json

__all__ = ["Case", "DatalistError", "checked_entry", "read_datalist", "read_lists", "task_rows"]

_PATIENCE = 60.0  # seconds to wait for a disc

Case = dict[str, Any]
"""One entry of a datalist: `image`, `label`, `task`, and what else it holds."""


_KINDS = {list: "a list", str: "a text", bool: "a truth value", int: "a number", float: "a number"}


class DatalistError(ValueError):
    """A datalist that is missing, damaged or names things that are not there; the message is one line."""


def read_datalist(
    path: str | os.PathLike[str],
    section: str,
    base_dir: str | os.PathLike[str],
    tasks: Sequence[str],
    label: bool = True,
) -> list[Case]:
    """Read one section of a datalist with absolute paths, and check every entry.

    Args:
        path: JSON file `{"training": [{"image", "label", "task"}, ...], "validation": [...]}`; an empty string means
            that no data has been named yet and gives an empty list.
        section: name of the list, e.g. "training".
        base_dir: folder that relative paths start from.
        tasks: names that entries may ask for, in row order.
        label: whether every entry needs a label.

    Returns:
        dictionaries with absolute `image` and `label` paths, the `task` name, and the path of the image once more under
        `source`, which is still there when the image has been loaded.

    Raises:
        DatalistError: the file, the section, a key, a file on disk or a task is missing; one line with its place.
    """
    if not str(path):
        return []
    content = read_lists(path)
    if section in content and not isinstance(content[section], list):
        raise DatalistError(f"'{section}' of '{path}' is not a list of entries.")
    if section not in content:
        raise DatalistError(f"'{path}' has no list '{section}'; it has {', '.join(map(str, content)) or 'nothing'}.")
    entries = content[section]
    if not entries:
        raise DatalistError(f"'{path}' has an empty list '{section}'.")
    keys = (IMAGE, LABEL) if label else (IMAGE,)
    cases = [
        checked_entry(entry, keys, f"'{path}', {section}[{i}]", Path(base_dir), tasks)
        for i, entry in enumerate(entries)
    ]
    return [{**case, SOURCE: case[IMAGE]} for case in cases]


def task_rows(cases: Sequence[Case], tasks: Sequence[str]) -> list[int]:
    """Return the row of each case's task in `tasks`."""
    return [resolve_task(case[TASK], tasks) for case in cases]


def read_lists(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of a datalist: an object whose lists are not checked yet.

    Raises:
        DatalistError: there is no such file, or it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        inside = f"'{path}' is a folder; give the JSON file, e.g. {path / 'datalist.json'}."
        raise DatalistError(inside if path.is_dir() else f"No datalist at '{path}'; check the path of the JSON file.")
    try:
        content = read_json(path)
    except ParseError as error:
        raise DatalistError(f"'{path}' is not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise DatalistError(
            f"'{path}' must hold an object with lists such as 'training', not {_KINDS.get(type(content), 'a value')}."
        )
    return content


def checked_entry(entry: Any, keys: Sequence[str], where: str, base_dir: Path, tasks: Sequence[str]) -> Case:
    """Return an entry with absolute paths and the name of its task.

    Args:
        entry: as the JSON holds it.
        keys: keys of files that it needs.
        where: name of the entry in messages.
        base_dir: folder that relative paths start from.
        tasks: names in row order.

    Raises:
        DatalistError: a key, a file or the task is missing.
    """
    if not isinstance(entry, dict):
        raise DatalistError(f"{where} must be an object with image, label and task, got {entry!r}.")
    case = dict(entry)
    for key in keys:
        if not entry.get(key):
            raise DatalistError(f"{where} has no '{key}'; every entry needs {', '.join(keys)} and task.")
        file = base_dir / str(entry[key])
        if not _is_there(file, where):
            raise DatalistError(f"{where}: no {key} at '{file}'.")
        case[key] = str(file)
    if TASK not in entry:
        raise DatalistError(f"{where} has no 'task'; choose one of {', '.join(tasks)}.")
    try:
        case[TASK] = tasks[resolve_task(entry[TASK], tasks)]
    except ValueError as error:
        raise DatalistError(f"{where}: {error}") from error
    return case


def _is_there(file: Path, where: str) -> bool:
    """Return whether a file exists; an unresponsive disk is reported in one line instead of blocking the process.

    A thread suffices, unlike `IsolatedFileAccess` for sources: no content is read, and it starts at once.
    """
    found: Queue[bool] = Queue(1)
    Thread(target=lambda: found.put(file.exists()), daemon=True).start()
    try:
        return found.get(timeout=_PATIENCE)
    except Empty:
        raise DatalistError(f"{where}: '{file}' does not answer; check its disk.") from None
