"""The masks of a run as initial masks of sessions: TP-Seg segments a folder, a user corrects each case."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from monai_tpseg.results.codes import StudyError
from monai_tpseg.results.folder import read_result
from monai_tpseg.studies.case import CASES
from monai_tpseg.studies.manifest import MANIFEST, Entry, read_manifest

__all__ = ["RunMask", "masks_of_run", "place_of"]


class RunMask(NamedTuple):
    """The mask of a source in a run.

    Attributes:
        task: name of the task.
        path: path of the mask, NIfTI or PNG, or of the DICOM segmentation if there is no other.
    """

    task: str
    path: Path


def place_of(entry: Entry) -> tuple[Path, str]:
    """Return the location of a case: its path, and the part of a folder."""
    return Path(entry.root / entry.path).absolute(), entry.part


def masks_of_run(run: Path, task: str | None = None) -> dict[tuple[Path, str], RunMask]:
    """Return the masks of an output folder of `tpseg run` by source, see `place_of`.

    Args:
        run: the output folder.
        task: task of the masks; required if sources were segmented for several tasks.

    Raises:
        StudyError: the folder is not an output folder, or a source has several possible masks.
    """
    if not (run / MANIFEST).is_file():
        raise StudyError(f"'{run}' contains no results of tpseg run; give its --out.")
    found: dict[tuple[Path, str], RunMask] = {}
    for entry in read_manifest(run / MANIFEST):
        record = read_result(run / CASES / entry.case)
        if record is None or (task and record["task"] != task):
            continue
        files = record.get("files", {})
        name = files.get("mask") or files.get("seg")
        if name is None:
            continue
        if place_of(entry) in found:
            raise StudyError(f"'{run}' has masks of several tasks of one source; choose one with --task.")
        found[place_of(entry)] = RunMask(record["task"], run / CASES / entry.case / name)
    if not found:
        raise StudyError(f"'{run}' has no mask{f' of {task}' if task else ''}; give the --out of another run.")
    return found
