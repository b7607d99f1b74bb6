"""What an input path means for a bundle or a script: the cases that can be segmented."""

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
    """Return the cases that an input path means, as `tpseg scan` finds them.

    A file is one case, and so is the folder of one DICOM series. A folder with several series, echoes or phases gives
    each stack of `find_stacks` as its files, and the index of a disc (DICOMDIR) the stacks of the files that it lists.
    Localizers beside other images, objects that are no images, copies, hidden names and our own results are left out.

    Args:
        path: a file or a folder.
        access: what touches the file system: this process, or `monai_tpseg.io.probing.IsolatedFileAccess`.

    Raises:
        ReadError: `E_NOT_FOUND`; `E_FORMAT`, a pipe or a device; `E_EMPTY`, no case; `E_OUTSIDE`, an index that leads
            out of its folder.
    """
    path = Path(path)
    found = discover(path, access).cases
    images = [case for case in found if case.skip != "no image"]
    cases = [case for case in images if not case.skip] or images
    if not cases and access.place(path) == "file":
        return [path]  # what is named itself is meant: reading says what it is
    if not cases:
        raise ReadError("E_EMPTY", f"{base_name(path)} holds no image of a patient; check the path.")
    return [case.source for case in cases]


def is_screenshot(source: CaseSource) -> bool:
    """Say whether a case consists of DICOM secondary captures: pictures of a screen or of paper, or of unknown origin.

    Args:
        source: as `list_cases` returns it.

    Raises:
        ReadError: a header cannot be parsed.
    """
    files = source if isinstance(source, tuple) else dicom_files(source) if source.is_dir() else (source,)
    headers = (
        read_safely(partial(open_dicom, path, pixels=False), base_name(path)) for path in files if path.is_file()
    )
    images = [header for header in headers if header is not None and is_image(header)]
    return bool(images) and all(is_secondary_capture(header) for header in images)
