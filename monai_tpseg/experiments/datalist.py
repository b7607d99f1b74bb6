"""The datalist of one run: fewer tasks, or a part of the training list in place of the validation list."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_tpseg.experiments.suite import SuiteError
from monai_tpseg.files import write_atomically
from monai_tpseg.parsing import ParseError, read_json

__all__ = ["write_datalist"]


def write_datalist(source: Path, target: Path, tasks: Sequence[str], holdout: int) -> None:
    """Write the datalist that a run trains and is validated on.

    Args:
        source: datalist with `training` and `validation`.
        target: the file to write.
        tasks: entries of other tasks are left out.
        holdout: 0 keeps both lists; n cuts the training list of each task into n runs of neighbours (which often share
            a patient), trains on all but the last and validates on that.

    Raises:
        SuiteError: the datalist is missing, or has no entry for a task.
    """
    if not source.is_file():
        raise SuiteError(f"No datalist at '{source}'; give the folder that holds datalist.json with --data.")
    try:
        content = read_json(source)
    except ParseError as error:
        raise SuiteError(f"'{source}' is not JSON ({error}).") from error
    lists = {name: [e for e in content.get(name, []) if e["task"] in tasks] for name in ("training", "validation")}
    if holdout:
        lists = _held_out(lists["training"], holdout)
    for name, entries in lists.items():
        counts = Counter(entry["task"] for entry in entries)
        if missing := [task for task in tasks if not counts[task]]:
            raise SuiteError(f"'{source}' has no entry of {missing[0]} in '{name}'; choose other tasks.")
    write_atomically(target, (json.dumps(lists, indent=0) + "\n").encode())


def _held_out(entries: Sequence[dict[str, Any]], parts: int) -> dict[str, list[dict[str, Any]]]:
    totals, seen = Counter(entry["task"] for entry in entries), Counter[str]()
    lists: dict[str, list[dict[str, Any]]] = {"training": [], "validation": []}
    for entry in entries:
        seen[entry["task"]] += 1
        kept = seen[entry["task"]] <= totals[entry["task"]] * (parts - 1) // parts
        lists["training" if kept else "validation"].append(entry)
    return lists
