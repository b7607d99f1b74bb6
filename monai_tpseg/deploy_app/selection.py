"""Selection rules of MONAI Deploy's series selector, in which the name of a selection is a task."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword

from monai_tpseg.parsing import ParseError, read_json
from monai_tpseg.words import choose

__all__ = ["SelectionError", "read_selection"]


class SelectionError(ValueError):
    """Rules that cannot be used: one line that says which, and the way out."""


def read_selection(path: str | Path, tasks: Collection[str]) -> str:
    """Return the text of a file of selection rules, once it is sure that each of them says what it does.

    Args:
        path: JSON with a list under `selections`; each has a `name`, which is a task, and `conditions`, by keywords of
            DICOM.
        tasks: names that the weights know.

    Raises:
        SelectionError: no such file, no JSON, or a rule that the selector would pass over or that names no task.
    """
    try:
        content = read_json(path)
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SelectionError(f"'{path}' cannot be read ({error.strerror}); write the selections there.") from error
    except ParseError as error:
        raise SelectionError(f"'{path}' is not JSON ({error}); see docs/deploy-app.md for an example.") from error
    listed = content.get("selections") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise SelectionError(f"'{path}' must hold a list 'selections'; see docs/deploy-app.md for an example.")
    for number, one in enumerate(listed, start=1):
        _check(number, one, tasks)
    return text


def _check(number: int, read: Any, tasks: Collection[str]) -> None:
    name = read.get("name") if isinstance(read, dict) else None
    if name not in tasks:
        raise SelectionError(f"Selection {number}: the weights do not know the task {name!r}; {choose(name, tasks)}.")
    conditions = read.get("conditions")
    if not isinstance(conditions, dict) or not conditions:
        raise SelectionError(f"Selection {number} has no conditions, so that it selects nothing; name a Modality.")
    for keyword, value in conditions.items():
        if tag_for_keyword(keyword) is None:
            raise SelectionError(f"Selection {number}: {keyword!r} is not a DICOM keyword; write e.g. 'Modality'.")
        if not value:
            raise SelectionError(f"Selection {number}: {keyword} has no value; write one or leave the condition out.")
