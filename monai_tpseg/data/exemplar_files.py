"""Pictures with masks that show a new task: a folder of them, or a list."""

from __future__ import annotations

from pathlib import Path

from monai_tpseg.data.datalists import Case, DatalistError, checked_entry, read_lists
from monai_tpseg.data.findings import TRAINING
from monai_tpseg.data.layouts import own_layout
from monai_tpseg.keys import IMAGE, LABEL, TASK

__all__ = ["find_exemplars", "find_pictures_and_masks"]

_FOLDERS = (("images", "masks"), ("image", "label"), ("images", "labels"))  # names that people use


def find_exemplars(source: Path, task: str) -> list[Case]:
    """Return what shows a task.

    Args:
        source: a folder that holds `images` and `masks` (or `image` and `label`), a folder of pictures with their masks
            beside them (`a.png`, `a_mask.png`), or a datalist, whose entries of the task under "training" are taken.
        task: its name.

    Returns:
        cases with absolute paths under `image` and `label`, and the name under `task`.

    Raises:
        DatalistError: nothing there, a picture without a mask or a mask without a picture; one line.
    """
    if source.is_file():
        return _listed(source, task)
    if not source.is_dir():
        raise DatalistError(f"No exemplars at '{source}'; give a folder of pictures and masks, or a datalist.")
    found = own_layout(*find_pictures_and_masks(source), task).find(source)
    if found.unpaired:
        raise DatalistError(f"'{found.unpaired[0]}' has no partner; every exemplar needs a picture and a mask.")
    exemplars = [pair for one in found.sources for pair in one.read(source)]
    return [{IMAGE: str(pair.image.absolute()), LABEL: str(pair.label.absolute()), TASK: task} for pair in exemplars]


def find_pictures_and_masks(source: Path) -> tuple[Path, Path]:
    """Return the folders of pictures and of masks in `source`, or `source` twice where the masks lie beside."""
    pairs = [(source / a, source / b) for a, b in _FOLDERS if (source / a).is_dir() and (source / b).is_dir()]
    return pairs[0] if pairs else (source, source)


def _listed(path: Path, task: str) -> list[Case]:
    lists = read_lists(path)
    entries = lists.get(TRAINING)
    if TRAINING in lists and not isinstance(entries, list):
        raise DatalistError(f"'{TRAINING}' of '{path}' is not a list of entries.")
    if not isinstance(entries, list):
        raise DatalistError(f"'{path}' has no list '{TRAINING}'; it has {', '.join(map(str, lists)) or 'nothing'}.")
    own = [(i, entry) for i, entry in enumerate(entries) if isinstance(entry, dict) and entry.get(TASK) == task]
    if not own:
        raise DatalistError(f"'{path}' has no entry of task '{task}' under '{TRAINING}'; add one, or give a folder.")
    keys, folder = (IMAGE, LABEL), path.absolute().parent
    return [checked_entry(entry, keys, f"'{path}', {TRAINING}[{i}]", folder, (task,)) for i, entry in own]
