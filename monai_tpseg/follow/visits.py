"""The segmented cases of run folders, with patient, date and frame of reference from their headers."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.cases import CaseSource
from monai_tpseg.io.dicom.object import open_dicom
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.locate import files_of_source
from monai_tpseg.lesions import label_lesions
from monai_tpseg.results.codes import RUN_ACTIONS, StudyError
from monai_tpseg.results.folder import RESULT, read_result
from monai_tpseg.studies.manifest import MANIFEST, Entry, read_manifest
from monai_tpseg.transforms import LoadMedicalImage

__all__ = ["Visit", "placed_lesions", "read_visits"]

_CASES = "cases"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Visit:
    """One segmented case.

    Attributes:
        run: number of the run folder on the command line, from 0.
        folder: folder of the case.
        record: content of its `result.json`.
        rows: rows of its `lesions.csv`.
        source: segmented source; None if it is no longer there.
        path: path of the source relative to the segmented folder; "" without a manifest.
        patient: Patient ID (0010,0020), or "". It is never written.
        day: date of the study, or None. It is never written.
        frame: Frame of Reference UID, or "". It is never written.
    """

    run: int
    folder: Path = field(repr=False)
    record: Mapping[str, Any] = field(repr=False)
    rows: tuple[Mapping[str, str], ...] = field(repr=False)
    source: CaseSource | None = field(default=None, repr=False)
    path: str = ""
    patient: str = ""
    day: date | None = None
    frame: str = field(default="", repr=False)

    @property
    def case(self) -> str:
        """The name of the case."""
        return str(self.record["case"])

    @property
    def task(self) -> str:
        """The name of the task."""
        return str(self.record["task"])

    @property
    def is_volume(self) -> bool:
        """Whether the case has a regular three-dimensional grid with known voxel size."""
        decisions = self.record["decisions"]
        regular = "irregular" not in decisions and "spacing" in decisions
        return decisions.get("source_kind") == "volume" and regular


def read_visits(out: str | Path, run: int) -> list[Visit]:
    """Return the cases of an output folder with a mask.

    Args:
        out: output folder of a run.
        run: number of the run.

    Raises:
        StudyError: there is no such case, or a table of lesions is damaged.
    """
    folders = sorted(path for path in (Path(out) / _CASES).glob("[!.]*") if path.is_dir())
    manifest = Path(out) / MANIFEST
    entries = {entry.case: entry for entry in read_manifest(manifest)} if manifest.is_file() else {}
    found = [_visit(run, folder, record, entries.get(folder.name)) for folder, record in _segmented(folders)]
    if not found:
        raise StudyError(f"'{out}' contains no masks; give the --out of tpseg run.")
    return found


def placed_lesions(visit: Visit) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the lesions of a volume (H, W, D) with the numbers of `lesions.csv`, and (4, 4): index -> RAS mm.

    Raises:
        StudyError: the mask does not contain the lesions of its table.
        ReadError: the mask cannot be read.
    """
    mask = LoadMedicalImage("label", visit.record["decisions"]["plane"])(visit.folder / visit.record["files"]["mask"])
    numbered = label_lesions(mask[0].numpy())
    voxels = np.bincount(numbered.ravel(), minlength=len(visit.rows) + 1)[1:].tolist()
    if voxels != [int(row["voxels"]) for row in visit.rows]:
        raise StudyError(f"Mask and lesions.csv of case '{visit.case}' differ; run it again.")
    return numbered, np.asarray(mask.affine, dtype=np.float64)


def _segmented(folders: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for folder in folders:
        record = read_result(folder)
        if record is None and (folder / RESULT).exists():
            logger.warning("Left out, %s is damaged: %s.", folder / RESULT, RUN_ACTIONS["E_RESULT"])
        if record is not None and {"mask", "lesions"} <= record.get("files", {}).keys():
            yield folder, record


def _visit(run: int, folder: Path, record: dict[str, Any], entry: Entry | None) -> Visit:
    source = _source(entry)
    header = _header(folder, record, source)
    patient, day, frame = (str(header.get(key) or "").strip() for key in _HEADER)
    return Visit(
        run, folder, record, _rows(folder, record), source, entry.path if entry else "", patient, _day(day), frame
    )


_HEADER = ("PatientID", "StudyDate", "FrameOfReferenceUID")


def _rows(folder: Path, record: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    path = folder / record["files"]["lesions"]
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = tuple(csv.DictReader(file))
        for row in rows:
            float(row["size"]), float(row["diameter"]), int(row["voxels"]), int(row["lesion"])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise StudyError(f"The table of lesions of case '{record['case']}' is damaged; run it again.") from error
    return rows


def _source(entry: Entry | None) -> CaseSource | None:
    try:
        return None if entry is None else entry.source()
    except ReadError:  # the source was moved
        return None


def _header(folder: Path, record: Mapping[str, Any], source: CaseSource | None) -> Any:
    """Return the header of the source, or of a DICOM object derived from it; {} for other formats."""
    made = [folder / record["files"][kind] for kind in ("seg", "sr") if kind in record["files"]]
    first = [] if source is None else sorted(files_of_source(source))[:1]
    for path in (*first, *made):
        try:
            found = open_dicom(path, pixels=False) if path.is_file() else None
        except ReadError:
            continue
        if found is not None:
            return found
    return {}


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None
