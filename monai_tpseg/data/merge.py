"""Several datalists as one, each path relative to the new file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_tpseg.data.datalists import DatalistError, read_lists
from monai_tpseg.data.findings import TRAINING, VALIDATION, Finding, list_findings
from monai_tpseg.data.prepare import relative_to
from monai_tpseg.files import write_atomically
from monai_tpseg.keys import IMAGE, LABEL, TASK

__all__ = ["merge_datalists"]


def merge_datalists(sources: Sequence[Path], out: Path) -> tuple[dict[str, int], list[Finding]]:
    """Write the entries of several datalists into one, and return its list sizes and what its entries say.

    An entry that stands in two sources is written once.

    Args:
        sources: datalists whose paths are relative to their own folders.
        out: the JSON file to write.

    Raises:
        DatalistError: a source is no datalist, or an entry has no image or task.
    """
    seen: dict[str, dict[str, dict[str, Any]]] = {}
    for source in sources:
        for section, entries in read_lists(source).items():
            if section in (TRAINING, VALIDATION) and not isinstance(entries, list | None):
                raise DatalistError(f"'{section}' of '{source}' is not a list of entries.")
            if isinstance(entries, list):
                moved = [_moved(entry, source, f"{section}[{n}]", out.parent) for n, entry in enumerate(entries)]
                seen.setdefault(section, {}).update((json.dumps(entry, sort_keys=True), entry) for entry in moved)
    lists = {section: list(entries.values()) for section, entries in seen.items()}
    if not any(lists.values()):
        raise DatalistError(f"No entry in {', '.join(map(str, sources))}.")
    write_atomically(out, (json.dumps(lists, indent=1) + "\n").encode())
    tasks = sorted({str(entry[TASK]) for entries in lists.values() for entry in entries})
    return {name: len(entries) for name, entries in lists.items()}, list_findings(lists, tasks)


def _moved(entry: Any, source: Path, where: str, folder: Path) -> dict[str, Any]:
    named = isinstance(entry, dict) and isinstance(entry.get(IMAGE), str) and isinstance(entry.get(TASK), str | int)
    if not named or not entry[IMAGE] or isinstance(entry[TASK], bool):
        raise DatalistError(f"'{source}', {where} must be an object with image and task, got {entry!r}.")
    files = {key: relative_to(folder, source.parent / str(entry[key])) for key in (IMAGE, LABEL) if entry.get(key)}
    return {**entry, **files}
