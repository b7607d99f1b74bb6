"""What `tpseg run` answers about a single input: where the mask is, how many lesions, how large; and `--out FILE`."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai_tpseg.files import check_writable, complete
from monai_tpseg.suffixes import MASK_SUFFIXES, PICTURE_SUFFIXES, UNWRITTEN_SUFFIXES, VOLUME_SUFFIXES

__all__ = ["AnswerError", "answer", "check_target", "copy_mask", "is_mask_file", "source_fits"]

_ALL = "pictures give .png, volumes .nii.gz, DICOM sources also a .dcm segmentation"
_MM3_IN_ML = 1000.0


class AnswerError(ValueError):
    """A mask that cannot be given in the file that was asked for; one line with the way out."""


def is_mask_file(out: str) -> bool:
    """Say whether `--out` names a file for one mask, not a folder of results.

    Raises:
        AnswerError: it names a kind of file that no mask is written into.
    """
    if os.path.isdir(out):
        return False
    name = out.lower()
    if name.endswith(UNWRITTEN_SUFFIXES):
        raise AnswerError(f"No mask is written as '{out}': {_ALL}; a name without a suffix is a folder.")
    return name.endswith(tuple(MASK_SUFFIXES.values()))


def check_target(source: str, out: str, overwrite: bool) -> None:
    """Reject a file that exists, the source itself, a suffix that does not fit the source, and an unwritable folder.

    Raises:
        AnswerError: one of the first three.
        OSError: nothing can be written there.
    """
    if os.path.lexists(out):
        inside = Path(os.path.realpath(source)) in (Path(os.path.realpath(out)), *Path(os.path.realpath(out)).parents)
        if inside:
            raise AnswerError(f"'{out}' is a source: the mask would replace it; choose another --out.")
        if not overwrite:
            raise AnswerError(f"'{out}' already exists; add --overwrite to replace it, or choose another --out.")
    parent = Path(out).absolute().parent
    if not parent.is_dir():
        raise AnswerError(f"The folder '{parent}' of --out does not exist; create it or choose another --out.")
    source_fits(source, out)
    check_writable(out)


def source_fits(source: str, out: str) -> None:
    """Refuse a suffix that cannot fit, as far as the source's name tells; the rest is known once it is read.

    Raises:
        AnswerError: a picture as volume or the reverse, or a DICOM segmentation of what is not DICOM.
    """
    name, suffix = source.lower(), suffix_of(out)
    kind = "picture" if name.endswith(PICTURE_SUFFIXES) else "volume" if name.endswith(VOLUME_SUFFIXES) else ""
    own = MASK_SUFFIXES.get(kind, suffix)
    if suffix != own:
        raise AnswerError(f"The mask of a {kind} is {own}, not {suffix} ({_ALL}); correct --out.")


def suffix_of(out: str) -> str:
    """Return the one of `MASK_SUFFIXES` that a name ends with."""
    return next(suffix for suffix in MASK_SUFFIXES.values() if out.lower().endswith(suffix))


def copy_mask(folder: Path, record: Mapping[str, Any] | None, out: str) -> None:
    """Copy the mask of a case to the file that was asked for, complete or not at all.

    Args:
        folder: of the case.
        record: its `result.json`.
        out: the file; its suffix says which of the case's files it is.

    Raises:
        AnswerError: the case has no mask, or none in this form.
    """
    if record is None or "mask" not in record.get("files", {}):
        code, action = (record["code"], record["next_action"]) if record else ("E_RESULT", "run again")
        raise AnswerError(f"No mask ({code}): {action}. Nothing was written.")
    files, suffix = record["files"], suffix_of(out)
    if suffix == ".dcm" and "seg" not in files:
        why = record["detail"] or ("the source is not DICOM." if record["lesions"] else "no lesion was found.")
        raise AnswerError(f"There is no DICOM segmentation to write: {why} --out mask{_form(files)} gives the mask.")
    given = files["seg" if suffix == ".dcm" else "mask"]
    if not given.lower().endswith(suffix):
        raise AnswerError(f"The mask of this source is {_form(files) or 'a folder of slices'}, not {suffix} ({_ALL}).")
    with complete(out) as part:
        shutil.copyfile(folder / given, part)


def _form(files: Mapping[str, str]) -> str:
    """The suffix of a case's mask; empty for a folder of slices, and for those of slides."""
    return next((suffix for suffix in MASK_SUFFIXES.values() if files["mask"].lower().endswith(suffix)), "")


def answer(folder: Path, record: Mapping[str, Any] | None, mask: str | None = None) -> Iterator[str]:
    """Say in a few lines what was found in a case.

    Args:
        folder: of the case.
        record: its `result.json`; None where there is none.
        mask: where the mask lies, if not in `folder`.
    """
    from monai_tpseg.results.measurements import FLAGS

    if record is None or "mask" not in record.get("files", {}):
        if record is not None:
            yield f"No mask ({record['code']}): {record['next_action']}."
        return
    yield mask or str(folder / record["files"]["mask"])
    yield f"{record['task']}: {_found(list(_rows(folder / record['files']['lesions'])))}"
    for flag in record["flags"]:
        if flag != "empty" and flag in FLAGS:
            yield f"To review: {FLAGS[flag]}."


def _rows(table: Path) -> Iterator[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _found(lesions: list[dict[str, str]]) -> str:
    if not lesions:
        return "no lesion was found."
    sizes = [float(lesion["size"]) for lesion in lesions]
    unit = lesions[0]["size_unit"]
    longest = f"longest diameter {_number(float(lesions[0]['diameter']))} {lesions[0]['diameter_unit']}"
    note = "; the source states no pixel size in mm" if unit == "px" else ""
    if len(lesions) == 1:
        return f"1 lesion, {_size(sizes[0], unit)}, {longest}{note}."
    together = f"{len(lesions)} lesions, {_size(sum(sizes), unit)} together"
    return f"{together}; the largest {_size(sizes[0], unit)}, {longest}{note}."


def _size(value: float, unit: str) -> str:
    """Volumes in ml, as they are reported."""
    return f"{_number(value / _MM3_IN_ML)} ml" if unit == "mm3" else f"{_number(value)} {unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"
