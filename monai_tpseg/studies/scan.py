"""What lies in a folder, and the task that its headers propose. Nothing is decoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from monai_tpseg.studies.manifest import Entry, files_of_source, new_salt, parts_of
from monai_tpseg.transforms.cases import OUTPUT_ENDINGS, READABLE_SUFFIXES, CaseSource, is_results, is_screenshot, stem
from monai_tpseg.transforms.dicom import is_dicom, is_image, read_dataset
from monai_tpseg.transforms.dicom_split import find_stacks
from monai_tpseg.transforms.errors import ReadError
from monai_tpseg.transforms.guard import base_name, guarded
from monai_tpseg.transforms.slides import SLIDE_SUFFIXES

__all__ = ["PROPOSED_TASKS", "Case", "find_cases", "find_entries", "scan"]

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


def find_entries(
    source: str | Path, task: str = "", salt: str = "", leave_out: str | Path | None = None
) -> list[Entry]:
    """Return the cases below `source` for one task.

    Args:
        source: see `scan`.
        task: name of the task of all of them.
        salt: of their ids; a new one by default.
        leave_out: a folder whose content is no input, as that of the results.

    Raises:
        ReadError: see `scan`.
    """
    # not resolved: links inside the folder keep the names that people see
    path, salt = Path(source).absolute(), salt or new_salt()
    apart = None if leave_out is None else Path(leave_out).resolve()
    if apart is not None and path.resolve().is_relative_to(apart):
        apart /= "cases"  # sources beside the results
    cases = [case for case in find_cases(path) if apart is None or not case.path.resolve().is_relative_to(apart)]
    if not cases:
        raise ReadError("E_EMPTY", f"{base_name(path)} holds nothing but results; check the path.")
    root = path if path.is_dir() and [case.path for case in cases] != [path] else path.parent
    return [
        Entry(case.path.relative_to(root).as_posix(), root, task, salt, note=case.note, part=case.part)
        for case in cases
    ]


class Case(NamedTuple):
    """A case of a folder.

    Attributes:
        path: a file, or a folder of DICOM slices.
        part: `i/n` where the folder holds n stacks.
        note: why it was split, or "".
    """

    path: Path
    part: str = ""
    note: str = ""


def find_cases(path: Path) -> list[Case]:
    """Return everything that could be a case, so that all is accounted for.

    A folder with several series, echoes, phases or copies gives each stack of `find_stacks` as a part, and so does the
    index of a disc (DICOMDIR) that is named itself. DICOM objects that are no images are cases too, which are skipped.

    Raises:
        ReadError: see `scan`.
    """
    if not path.exists():
        raise ReadError("E_NOT_FOUND", f"{base_name(path)} does not exist; check the path.")
    if not path.is_dir():
        parts = parts_of(path) if path.name == "DICOMDIR" else ((path,),)
        return [Case(path)] if len(parts) < 2 else [Case(path, f"{i}/{len(parts)}") for i in range(1, len(parts) + 1)]
    cases = sorted(_walk(path, frozenset()))
    if not cases:
        raise ReadError("E_EMPTY", f"{base_name(path)} holds nothing that could be a case; check the path.")
    return cases


def _walk(folder: Path, above: frozenset[Path]) -> list[Case]:
    above |= {folder.resolve()}
    visible = [path for path in sorted(folder.iterdir()) if path.name[0] != "." and path.name != "__MACOSX"]
    files = [path for path in visible if path.is_file() and path.name != "DICOMDIR"]
    # a link to a folder above would be followed without end; slices of our own results are no inputs
    folders = [path for path in visible if path.is_dir() and path.resolve() not in above]
    folders = [path for path in folders if not (path.name.endswith(OUTPUT_ENDINGS) or is_results(path))]
    return _own(folder, files) + [case for child in folders for case in _walk(child, above)]


def _own(folder: Path, files: list[Path]) -> list[Case]:
    """The cases among the files of a folder, apart from its sub-folders."""
    dicom = {path for path in files if _is_dicom(path)}
    others = [path for path in files if path not in dicom and path.name.lower().endswith(READABLE_SUFFIXES)]
    others = [path for path in others if not stem(path).endswith(OUTPUT_ENDINGS)]
    named = [path for path in files if path not in dicom and path.name.lower().endswith(_DICOM_SUFFIXES)]
    stacks = find_stacks(folder) if dicom else []
    if len(stacks) == 1 and (len(stacks[0].files) > 1 or not (others or named)):
        return [Case(folder), *map(Case, others + named)]
    used = {path for stack in stacks for path in stack.files}
    alone = [Case(stack.files[0], note=stack.reason) for stack in stacks if len(stack.files) == 1]
    parts = [
        Case(folder, f"{number}/{len(stacks)}", stack.reason)
        for number, stack in enumerate(stacks, start=1)
        if len(stack.files) > 1
    ]
    return [*parts, *alone, *map(Case, others + named + sorted(dicom - used))]


def _is_dicom(path: Path) -> bool:
    try:
        return guarded(lambda: is_dicom(path), "A file")
    except ReadError:
        return False  # not to be opened at all: it has no content to go by


def _propose(entry: Entry) -> Entry:
    path = entry.root / entry.path
    if path.suffix.lower() in SLIDE_SUFFIXES:
        return replace(entry, modality="SM", task=PROPOSED_TASKS["SM"])
    source = parts_of(path)[int(entry.part.partition("/")[0]) - 1] if entry.part else path
    files = [file for file in sorted(files_of_source(source)) if _is_dicom(file)]
    if not files:
        return replace(entry, note="the file does not say what it shows; name the task")
    headers = (_header(file) for file in files)
    modality, code = next((found for found in headers if found[1] != "no image"), ("", "no image"))
    note, task = entry.note, PROPOSED_TASKS.get(modality, "")
    if code:
        task, note = "", code
    elif "localizer" in note.split(", "):
        task = ""  # it shows where the slices of another stack lie
    elif _is_screenshot(source):
        task, note = "", "a picture of a screen (secondary capture); name the task, and allow it to tpseg run"
    elif not task:
        note = "; ".join(filter(None, (note, "the modality may show several things; name the task")))
    return replace(entry, task=task, modality=modality, note=note)


def _is_screenshot(source: CaseSource) -> bool:
    try:
        return is_screenshot(source)
    except ReadError:
        return False  # reading says what is wrong


def _header(path: Path) -> tuple[str, str]:
    """Return the modality, and what is wrong: a code, `no image`, or nothing."""
    try:
        header = guarded(lambda: read_dataset(path, pixels=False), "A file")
    except ReadError as error:
        return "", error.code
    return (str(header.get("Modality") or ""), "") if is_image(header) else ("", "no image")
