"""What lies in a folder, and the task that its headers propose. Nothing is decoded."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from monai_tpseg.studies.manifest import Entry, new_salt
from monai_tpseg.transforms.cases import OUTPUT_ENDINGS, READABLE_SUFFIXES, is_series_folder, list_cases, stem
from monai_tpseg.transforms.dicom import frame_count, is_dicom, is_image, read_dataset
from monai_tpseg.transforms.errors import ReadError
from monai_tpseg.transforms.guard import guarded

__all__ = ["PROPOSED_TASKS", "find_cases", "find_entries", "scan"]

PROPOSED_TASKS: dict[str, str] = {
    "CT": "lung_infection",
    "MR": "brain_tumor",
    "OPT": "wet_amd",
    "ES": "colon_polyp",
    "SM": "adenocarcinoma",
    "GM": "adenocarcinoma",
    "DMS": "skin_lesion",
}
"""DICOM modality -> the only task of the catalogue that fits. US shows thyroid or breast, and XC any skin or wound:
those are not guessed."""

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


def scan(source: str | Path) -> list[Entry]:
    """Return the cases below `source`, each with the task that its modality proposes, or none and a note.

    Args:
        source: a file, a DICOM series, or a folder of files, series and folders.

    Raises:
        ReadError: `E_NOT_FOUND`, or `E_EMPTY`, nothing that could be a case.
    """
    return [_propose(entry) for entry in find_entries(source)]


def find_entries(source: str | Path, task: str = "", salt: str = "") -> list[Entry]:
    """Return the cases below `source` for one task.

    Args:
        source: see `scan`.
        task: name of the task of all of them.
        salt: of their ids; a new one by default.

    Raises:
        ReadError: see `scan`.
    """
    # not resolved: links inside the folder keep the names that people see
    path, salt = Path(source).absolute(), salt or new_salt()
    root = path if path.is_dir() and not is_series_folder(path) else path.parent
    return [Entry(case.relative_to(root).as_posix(), root, task, salt) for case in find_cases(path)]


def find_cases(path: Path) -> list[Path]:
    """Return the cases that `list_cases` finds, and what it leaves out or gives up on, so that all is accounted for.

    A folder with the slices of several series is one case, which then fails with its code. DICOM objects that are no
    images are cases, which are then skipped.

    Raises:
        ReadError: see `scan`.
    """
    if not path.is_dir():
        return list_cases(path)
    cases = sorted(_tolerant(path))
    if not cases:
        return list_cases(path)  # says why
    return cases


def _tolerant(folder: Path) -> set[Path]:
    try:
        cases = set(list_cases(folder))
    except ReadError as error:
        if error.code == "E_EMPTY":
            cases = set()
        else:
            cases = _own(folder).union(*(_tolerant(path) for path in _visible(folder) if path.is_dir()))
    return cases | {path for path in _left_out(folder) if path not in cases and path.parent not in cases}


def _own(folder: Path) -> set[Path]:
    """The cases among the files of a folder, apart from its sub-folders."""
    files = [path for path in _visible(folder) if path.is_file()]
    pictures = {path for path in files if path.name.lower().endswith(READABLE_SUFFIXES)}
    dicom = {path: _series(path) for path in files if path not in pictures and _is_dicom(path)}
    slices = Counter(series for series in dicom.values() if series)
    mixed = any(count > 1 for count in slices.values())
    kept = {path for path in pictures if not stem(path).endswith(OUTPUT_ENDINGS)}
    return kept | ({folder} if mixed else set(dicom))


def _left_out(folder: Path) -> list[Path]:
    """Files that are, or by their name should be, DICOM objects."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "DICOMDIR"]
    hidden = ("__MACOSX", ".")
    shown = [path for path in files if not any(part.startswith(hidden) for part in path.relative_to(folder).parts)]
    return [path for path in shown if path.name.lower().endswith(_DICOM_SUFFIXES) or _is_dicom(path)]


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name[0] != "." and path.name != "__MACOSX"]


def _is_dicom(path: Path) -> bool:
    try:
        return guarded(lambda: is_dicom(path), "A file")
    except ReadError:
        return False  # not to be opened at all: it has no content to go by


def _series(path: Path) -> str:
    """The series of a placed slice; "" for everything else."""
    try:
        header = guarded(lambda: read_dataset(path, pixels=False), "A file")
        placed = is_image(header) and frame_count(header) == 1 and header.get("ImagePositionPatient") is not None
    except ReadError:
        return ""
    return str(header.get("SeriesInstanceUID")) if placed else ""


def _propose(entry: Entry) -> Entry:
    path = entry.root / entry.path
    files = sorted(_visible(path)) if path.is_dir() else [path]
    headers = (_header(file) for file in files if file.is_file() and _is_dicom(file))
    modality, code = next((found for found in headers if found != ("", "no image")), ("", "no image"))
    if not any(file.is_file() and _is_dicom(file) for file in files):
        return replace(entry, note="the file does not say what it shows; name the task")
    if code:
        return replace(entry, modality=modality, note=code)
    task = PROPOSED_TASKS.get(modality, "")
    return replace(
        entry, task=task, modality=modality, note="" if task else "the modality may show several things; name the task"
    )


def _header(path: Path) -> tuple[str, str]:
    """Return the modality, and what is wrong: a code, `no image`, or nothing."""
    try:
        header = guarded(lambda: read_dataset(path, pixels=False), "A file")
    except ReadError as error:
        return "", error.code
    return (str(header.get("Modality") or ""), "") if is_image(header) else ("", "no image")
