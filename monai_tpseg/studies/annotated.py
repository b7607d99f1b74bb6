"""Results of `tpseg annotate` as a datalist: source, mask, task, and reviewed slices."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from monai_tpseg.files import write_atomically
from monai_tpseg.keys import IMAGE, LABEL, PATIENT, TASK
from monai_tpseg.results.codes import StudyError
from monai_tpseg.results.folder import read_result
from monai_tpseg.studies.case import CASES
from monai_tpseg.studies.manifest import MANIFEST, Entry, read_manifest
from monai_tpseg.studies.run import SESSIONS

__all__ = ["DONE", "SLICES", "Annotated", "annotated_cases", "holds_annotations", "write_annotated"]

DONE = "done"
"""Name of an empty file in the folder of a session: a person has marked the case as done, and its masks are saved."""

SLICES = "slices"
"""Key of an entry: numbers of the slices, from 0, whose masks a person has drawn, corrected or accepted."""

_LOOKED_AT = ("edited", "accepted")


class Annotated(NamedTuple):
    """Content of an output folder of `tpseg annotate`.

    Args:
        entries: entries with absolute paths under `image` and `label`, `task`, `patient` and, for volumes, `slices`.
        left_out: names of cases that cannot be entries, with the reason.
        modalities: modalities of tasks outside the catalogue, by name.
    """

    entries: list[dict[str, Any]]
    left_out: list[tuple[str, str]]
    modalities: dict[str, str]


def holds_annotations(folder: Path) -> bool:
    """Return whether a folder is an output folder of `tpseg annotate`."""
    return (folder / SESSIONS).is_dir() and (folder / MANIFEST).is_file()


def annotated_cases(out: Path, done: bool = False) -> Annotated:
    """Return the saved masks of an output folder of `tpseg annotate` as entries of a datalist.

    Slices that were not reviewed are not used: for a volume, the numbers of reviewed slices are listed, and a case
    with only proposed masks is left out. All slices of a case marked as done count as reviewed.

    Args:
        out: the output folder (`--out`).
        done: whether to return only cases marked as done.

    Raises:
        StudyError: the folder is not an output folder of `tpseg annotate`, or nothing was saved.
    """
    if not holds_annotations(out):
        raise StudyError(f"'{out}' contains no sessions of tpseg annotate; give its --out.")
    found = Annotated([], [], {})
    for entry in read_manifest(out / MANIFEST):
        for folder, record in _saved(out / CASES, entry.case):
            whole = (out / SESSIONS / entry.case / DONE).is_file()
            why = "it is not marked as done" if done and not whole else _add(found, entry, folder, record, whole)
            if why:
                found.left_out.append((folder.name, why))
    if not found.entries:
        reasons = "; ".join(f"{name}: {why}" for name, why in found.left_out) or "save cases in the viewer first"
        raise StudyError(f"No saved mask in '{out}' is usable for training ({reasons}).")
    return found


def write_annotated(out: Path, datalist: Path, done: bool = False) -> Annotated:
    """Write the entries of `annotated_cases` under `training` of a datalist, and return them.

    Args:
        out: the output folder (`--out`) of `tpseg annotate`.
        datalist: JSON file to write or replace; paths are relative to its folder.
        done: see `annotated_cases`.

    Raises:
        StudyError: see `annotated_cases`.
    """
    found = annotated_cases(out, done)
    folder = datalist.absolute().parent
    entries = [
        {**entry, **{key: Path(os.path.relpath(entry[key], folder)).as_posix() for key in (IMAGE, LABEL)}}
        for entry in found.entries
    ]
    head = {"modalities": found.modalities} if found.modalities else {}
    write_atomically(datalist, (json.dumps({**head, "training": entries}, indent=1) + "\n").encode())
    return found


def _saved(cases: Path, name: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for folder in sorted(cases.glob(f"{name}_*")):
        record = read_result(folder)
        if record is not None and record["case"] == name:
            yield folder, record


def _add(found: Annotated, entry: Entry, folder: Path, record: dict[str, Any], whole: bool) -> str:
    """Add the saved masks of a case, all slices if `whole`; return the reason if impossible, or ""."""
    source, label = entry.root / entry.path, folder / record.get("files", {}).get("mask", "-")
    looked_at = _looked_at(record)
    if entry.part:
        return "its source is a part of a folder"
    if not source.exists():
        return "its source is not where it was"
    if not label.is_file():
        return "it is an irregular series"
    if not looked_at and not whole:
        return "nobody has accepted or drawn a mask in it"
    more = {SLICES: looked_at} if label.name.endswith(".nii.gz") and not whole else {}
    task = record["task"]
    found.entries.append(
        {IMAGE: str(source.absolute()), LABEL: str(label.absolute()), TASK: task, PATIENT: entry.source_id, **more}
    )
    known = record["provenance"]["model"].get("modalities", {})
    found.modalities.update({task: known[task]} if task in known else {})
    return ""


def _looked_at(record: dict[str, Any]) -> list[int]:
    slices = record["provenance"]["config"].get("slices", [])
    return [int(one["slice"]) for one in slices if one["status"] in _LOOKED_AT]
