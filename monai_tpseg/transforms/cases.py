"""What an input path means: one case, or a folder of them."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from monai_tpseg.transforms.dicom import frame_count, is_dicom, is_image, is_secondary_capture, read_dataset
from monai_tpseg.transforms.dicom_index import index_files, is_disc_index
from monai_tpseg.transforms.dicom_split import Stack, dicom_files, find_stacks, split_files
from monai_tpseg.transforms.errors import ReadError
from monai_tpseg.transforms.guard import base_name, guarded
from monai_tpseg.transforms.pictures import PICTURE_SUFFIXES
from monai_tpseg.transforms.slides import SLIDE_SUFFIXES
from monai_tpseg.transforms.volumes import ITK_SUFFIXES, NIFTI_SUFFIXES

logger = logging.getLogger(__name__)

__all__ = [
    "OUTPUT_ENDINGS",
    "READABLE_SUFFIXES",
    "CaseSource",
    "is_results",
    "is_screenshot",
    "is_series_folder",
    "list_cases",
    "list_sources",
    "stem",
]

CaseSource = Path | tuple[Path, ...]
"""What `LoadMedicalImage` reads as one case: a file, the folder of one series, or the files of one stack."""

READABLE_SUFFIXES = (*PICTURE_SUFFIXES, *NIFTI_SUFFIXES, *ITK_SUFFIXES, *SLIDE_SUFFIXES)
"""Suffixes of the sources that are known by name; DICOM is known by content."""

OUTPUT_ENDINGS = ("_mask", "_overlay", "_prob")
"""How the stems of our own results end; such files and folders are not taken for inputs of a folder."""

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


def stem(path: Path) -> str:
    """Return the name of a source without the suffixes of its format: `a.nii.gz` -> `a`, `1.2.840` -> `1.2.840`."""
    for suffix in sorted((*READABLE_SUFFIXES, *_DICOM_SUFFIXES), key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.name


def is_results(folder: Path) -> bool:
    """Say whether a folder is the output of `tpseg run` or `tpseg annotate`, which is never taken for input."""
    if not (folder / "cases").is_dir():
        return False
    return (folder / "sessions").is_dir() or any(folder.glob("events*.jsonl"))


def is_series_folder(path: Path) -> bool:
    """Say whether `path` is a folder whose DICOM images are one case: slices of one series, or one object alone."""
    if not path.is_dir():
        return False
    return _is_one_series({file: _header(file) for file in _visible(path) if file.is_file() and _is_dicom_file(file)})


def list_cases(path: str | Path) -> list[Path]:
    """Return the cases that an input path means.

    A file is one case, and so is the folder of one DICOM series. Any other folder stands for the pictures, volumes,
    DICOM objects and series in it and below it, sorted; hidden names and our own results are left out.

    Raises:
        ReadError: `E_NOT_FOUND`; `E_EMPTY`, nothing readable; `E_SERIES_MIXED`, slices of several series in one folder.
    """
    path = Path(path)
    if not path.exists():
        raise ReadError("E_NOT_FOUND", f"{base_name(path)} does not exist; check the path.")
    if path.is_file():
        return [path]
    cases = _below(path)
    if not cases:
        raise ReadError(
            "E_EMPTY", f"{base_name(path)} holds no DICOM, NIfTI, NRRD, PNG, JPEG, TIFF or BMP; check the path."
        )
    return cases


def list_sources(path: str | Path) -> list[CaseSource]:
    """Return the cases that an input path means; folders with several stacks are split.

    As `list_cases`, but a folder with several series, echoes or copies gives each stack of `find_stacks` as its files,
    or as its file where it is one, and the index of a disc (DICOMDIR) the stacks of the files that it lists. Localizers
    beside other images, and objects that are no images, are left out.

    Raises:
        ReadError: `E_NOT_FOUND`; `E_EMPTY`, nothing readable; `E_OUTSIDE`, an index that leads out of its folder.
    """
    path = Path(path)
    if not path.exists():
        raise ReadError("E_NOT_FOUND", f"{base_name(path)} does not exist; check the path.")
    sources: list[CaseSource] = [path]
    if path.is_dir():
        sources = _sources(path)
    elif guarded(lambda: path.is_file() and is_disc_index(path), base_name(path)):
        sources = sorted(map(_source_of, _without_localizers(split_files(index_files(path)))), key=_first)
    if not sources:
        raise ReadError(
            "E_EMPTY", f"{base_name(path)} holds no DICOM, NIfTI, NRRD, PNG, JPEG, TIFF or BMP; check the path."
        )
    return sources


def is_screenshot(source: CaseSource) -> bool:
    """Say whether a case consists of DICOM secondary captures: pictures of a screen or of paper, or of unknown origin.

    Args:
        source: as `list_sources` returns it.

    Raises:
        ReadError: a header cannot be parsed.
    """
    files = source if isinstance(source, tuple) else dicom_files(source) if source.is_dir() else (source,)
    dicom = [path for path in files if _is_dicom_file(path)]
    headers = (guarded(partial(read_dataset, path, pixels=False), base_name(path)) for path in dicom)
    images = [header for header in headers if is_image(header)]
    return bool(images) and all(is_secondary_capture(header) for header in images)


def _sources(folder: Path, above: frozenset[Path] = frozenset()) -> list[CaseSource]:
    above |= {folder.resolve()}
    visible = _visible(folder)
    files = [path for path in visible if path.is_file()]
    others = [path for path in files if _is_input(path) and not _is_dicom_file(path)]
    stacks = _without_localizers(find_stacks(folder))
    folders = [path for path in visible if path.is_dir() and path.resolve() not in above and not is_results(path)]
    if len(stacks) == 1 and not (others and len(stacks[0].files) == 1):
        own: list[CaseSource] = [folder, *others]
    else:
        own = sorted([*others, *map(_source_of, stacks)], key=_first)
    return own + [source for child in folders for source in _sources(child, above)]


def _without_localizers(stacks: list[Stack]) -> list[Stack]:
    return [stack for stack in stacks if not stack.localizer] or stacks


def _source_of(stack: Stack) -> CaseSource:
    return stack.files if len(stack.files) > 1 else stack.files[0]


def _first(source: CaseSource) -> Path:
    return min(source) if isinstance(source, tuple) else source


def _below(folder: Path, above: frozenset[Path] = frozenset()) -> list[Path]:
    above |= {folder.resolve()}
    visible = _visible(folder)
    headers = {path: _header(path) for path in visible if path.is_file() and _is_dicom_file(path)}
    others = [path for path in visible if path.is_file() and path not in headers and _is_input(path)]
    # a link to a folder above would be followed without end
    folders = [path for path in visible if path.is_dir() and path.resolve() not in above]
    folders = [path for path in folders if not (path.name.endswith(OUTPUT_ENDINGS) or is_results(path))]
    whole = _is_one_series(headers) and not (others and len(headers) == 1)
    own = [folder, *others] if whole else sorted(others + _single_objects(folder, headers))
    return own + [case for child in folders for case in _below(child, above)]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name[0] != "." and path.name != "__MACOSX")


def _is_input(path: Path) -> bool:
    return path.name.lower().endswith(READABLE_SUFFIXES) and not stem(path).endswith(OUTPUT_ENDINGS)


def _is_dicom_file(path: Path) -> bool:
    return path.name != "DICOMDIR" and guarded(lambda: is_dicom(path), base_name(path))


class _Header(NamedTuple):
    """What decides which files belong together."""

    readable: bool = False
    image: bool = True  # an unreadable file counts as an image, so that it is read, refused and reported
    series: str = ""
    is_slice: bool = False
    is_slide: bool = False  # one of the levels of a whole slide


def _header(path: Path) -> _Header:
    try:
        return guarded(lambda: _parse(path), base_name(path))
    except ReadError as error:
        logger.info("A file cannot be parsed and stays a case of its own: %s", error.code)
        return _Header()


def _parse(path: Path) -> _Header:
    header = read_dataset(path, pixels=False)
    placed = frame_count(header, base_name(path)) == 1 and header.get("ImagePositionPatient") is not None
    slide = header.get("SOPClassUID") == VLWholeSlideMicroscopyImageStorage
    return _Header(True, is_image(header), str(header.get("SeriesInstanceUID")), placed, slide)


def _is_one_series(headers: dict[Path, _Header]) -> bool:
    """One object alone, several single frames of one series that have positions, or the levels of one whole slide."""
    images = [header for header in headers.values() if header.image and header.readable]
    if len(images) < 2:
        return len(images) == 1 and all(header.readable for header in headers.values())
    alike = all(header.is_slice for header in images) or all(header.is_slide for header in images)
    return len({header.series for header in images}) == 1 and alike


def _single_objects(folder: Path, headers: dict[Path, _Header]) -> list[Path]:
    """DICOM objects that are a case each: without positions, multi-frame, or the only slice of their series."""
    series = [header.series for header in headers.values() if header.image and header.is_slice]
    if len(set(series)) < len(series):
        raise ReadError(
            "E_SERIES_MIXED",
            f"{base_name(folder)} holds the slices of several series; give each series a folder of its own.",
        )
    return [path for path, header in headers.items() if header.image]
