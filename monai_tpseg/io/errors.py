"""Read errors: a stable code, the fault and the next action, in one line."""

from __future__ import annotations

import re
from typing import Literal, get_args

from monai_tpseg.words import how_to_install

__all__ = ["NEXT_ACTIONS", "READ_CODES", "ReadCode", "ReadError", "find_read_error"]

ReadCode = Literal[
    "E_NOT_FOUND",  # no such file or folder, or no right to open it
    "E_EMPTY",  # a folder without readable content
    "E_FORMAT",  # an unsupported format or variant
    "E_DECODE",  # a supported format with damaged content
    "E_READ",  # reading failed for an unknown reason
    "E_CODEC",  # a compression without a decoder: JPEG XL, private syntaxes
    "E_TRUNCATED",  # the file ends before its pixels do
    "E_TOO_LARGE",  # a picture, volume or stream beyond the safe size for reading at once
    "E_OUTSIDE",  # a file that refers to a file outside its own folder
    "E_NO_PIXELS",  # a valid file without usable pixels
    "E_NOT_IMAGE",  # not an image of a patient: segmentation, dose, report, DICOMDIR
    "E_VIDEO",  # a video transfer syntax
    "E_MOSAIC",  # one frame that shows several slices: mosaic, montage, panels, a stack behind one page of a TIFF
    "E_PART",  # one part of an object split into several files (concatenation)
    "E_4D",  # several time points or channels where one volume is needed
    "E_GEOMETRY",  # positions or directions are missing or do not form a grid
    "E_SERIES_MIXED",  # several series, sizes or orientations in one folder
    "E_SERIES_DUPLICATE",  # two slices at one position
    "E_SERIES_ECHOES",  # several echoes, phases or acquisitions, each with slices at the same positions
    "E_SERIES_GAP",  # unequal distances between slices
    "E_SERIES_TILT",  # slices stacked obliquely: gantry tilt
    "E_LABEL_VALUES",  # a label that is not a mask
    "E_SHAPE_MISMATCH",  # a label whose size differs from its image
    "E_SLIDE",  # a whole slide, which is read in windows
    "E_NO_MPP",  # a whole slide without a stated pixel size
    "E_EXTRA",  # a format that needs an optional package
]

READ_CODES: tuple[ReadCode, ...] = get_args(ReadCode)
"""All codes of `ReadError`; a code is never renamed."""

NEXT_ACTIONS: dict[ReadCode, str] = {
    "E_NOT_FOUND": "check the path and its permissions",
    "E_EMPTY": "give the folder that contains the files of the series or the pictures",
    "E_FORMAT": "correct a wrong suffix, unpack an archive, fetch the file behind a pointer or web page, or "
    "convert the file to DICOM, NIfTI, NRRD, PNG, JPEG or TIFF with 8 or 16 bits, a slide to 8-bit RGB",
    "E_DECODE": "copy or export the file again from its source",
    "E_READ": "open the file with another program and convert it; if that fails, copy or export it again",
    "E_CODEC": "convert the object to Explicit VR Little Endian, e.g. with dcmdjpeg or gdcmconv --raw",
    "E_TRUNCATED": "copy or export the file again; it is incomplete",
    "E_TOO_LARGE": "cut the picture into tiles or the volume into parts",
    "E_OUTSIDE": "do not trust the file; give the pixel files themselves, in one folder",
    "E_NO_PIXELS": "leave the file out",
    "E_NOT_IMAGE": "give the image that the object belongs to",
    "E_VIDEO": "export the frames to segment as single images or as a JPEG cine",
    "E_MOSAIC": "save each slice or panel as a separate image",
    "E_PART": "export the object again as one file",
    "E_4D": "save the time point or channel to segment as a separate volume",
    "E_GEOMETRY": "give the slices one by one, or repair the header",
    "E_SERIES_MIXED": "read the stacks from find_stacks separately, or put each into a separate folder",
    "E_SERIES_DUPLICATE": "remove the repeated slices, or read the stacks from find_stacks separately",
    "E_SERIES_ECHOES": "read the stacks from find_stacks separately, or export each echo or phase separately",
    "E_SERIES_GAP": "find the missing slices, or read the series as it is with irregular='slices'",
    "E_SERIES_TILT": "read the series as it is with irregular='slices', or correct the tilt first",
    "E_LABEL_VALUES": "save the label as one channel with the values 0 and 1 or 0 and 255",
    "E_SHAPE_MISMATCH": "export the label at the size of its image",
    "E_SLIDE": "segment the slide with tpseg run and a pathology task",
    "E_NO_MPP": "give the pixel size in micrometres with --slide-mpp",
    "E_EXTRA": f"install the whole-slide packages with {how_to_install('wsi')}",
}
"""Code -> next action, without names or values: safe to print anywhere."""

_IN_TEXT = re.compile(r"(?:ReadError: )?(?P<message>[^\n]*) \[(?P<code>E_[A-Z0-9_]+)\]")


class ReadError(ValueError):
    """A source that cannot be read as requested.

    Args:
        code: one of `READ_CODES`, stable across versions.
        message: one line: the fault, the value, the next action. It contains only the last part of a path and no
            header text, since neither paths nor headers may reach a log.
    """

    code: ReadCode
    message: str

    def __init__(self, code: ReadCode, message: str) -> None:
        self.code = code
        self.message = " ".join(message.split())
        super().__init__(f"{self.message} [{code}]")

    def __reduce__(self) -> tuple[type[ReadError], tuple[ReadCode, str]]:
        return type(self), (self.code, self.message)  # picklable for the workers of a DataLoader


def find_read_error(error: BaseException) -> ReadError | None:
    """Return the `ReadError` that caused `error`, or None.

    MONAI's `Compose` wraps exceptions of transforms; a DataLoader worker passes on only their text.

    Args:
        error: any exception.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ReadError):
            return seen
        seen = seen.__cause__ or seen.__context__
    for found in _IN_TEXT.finditer(str(error)):
        for code in READ_CODES:
            if code == found["code"]:
                return ReadError(code, found["message"].split("ReadError: ")[-1])
    return None
