"""The cases that a bundle or a script can segment at an input path."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from monai_tpseg.io.dicom.image_check import is_image
from monai_tpseg.io.dicom.object import open_dicom
from monai_tpseg.io.dicom.panels import is_secondary_capture
from monai_tpseg.io.dicom.split import dicom_files
from monai_tpseg.io.discovery import CaseSource, discover
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.file_access import LOCAL, FileAccess
from monai_tpseg.io.safety import base_name, read_safely

__all__ = ["CaseSource", "is_screenshot", "list_cases"]


def list_cases(path: str | Path, access: FileAccess = LOCAL) -> list[CaseSource]:
    """Return the cases at an input path, as `tpseg scan` finds them.

    A file is one case, and so is the folder of one DICOM series. A folder with several series, echoes or phases gives
    the files of each stack of `find_stacks`, and a DICOMDIR the stacks of the files that it lists. Localizers beside
    other images, non-image objects, copies, hidden names and results of this package are left out.

    Args:
        path: a file or a folder.
        access: access to the file system: in this process, or `monai_tpseg.io.probing.IsolatedFileAccess`.

    Raises:
        ReadError: `E_NOT_FOUND`; `E_FORMAT`, a pipe or a device; `E_EMPTY`, no case; `E_OUTSIDE`, a DICOMDIR that
            refers to files outside its folder.
    """
    path = Path(path)
    found = discover(path, access).cases
    images = [case for case in found if case.skip != "no image"]
    cases = [case for case in images if not case.skip] or images
    if not cases and access.place(path) == "file":
        return [path]  # a path given explicitly is kept: reading it reports what it is
    if not cases:
        raise ReadError("E_EMPTY", f"{base_name(path)} holds no image of a patient; check the path.")
    return [case.source for case in cases]


def is_screenshot(source: CaseSource) -> bool:
    """Return whether a case consists of DICOM secondary captures: screenshots, scanned paper, or of unknown origin.

    Args:
        source: a case returned by `list_cases`.

    Raises:
        ReadError: a header cannot be parsed.
    """
    files = source if isinstance(source, tuple) else dicom_files(source) if source.is_dir() else (source,)
    headers = (
        read_safely(partial(open_dicom, path, pixels=False), base_name(path)) for path in files if path.is_file()
    )
    images = [header for header in headers if header is not None and is_image(header)]
    return bool(images) and all(is_secondary_capture(header) for header in images)
