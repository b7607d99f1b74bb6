"""Discovery of cases in files and folders, shared by the bundles and `tpseg`."""

from __future__ import annotations

import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NamedTuple

from monai_tpseg.io.dicom.copies import Identity
from monai_tpseg.io.dicom.split import Stack, split_headers, with_lost_slices
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.file_access import LOCAL, FileAccess
from monai_tpseg.io.headers import Header
from monai_tpseg.io.kinds import OUTPUT_ENDINGS, stem
from monai_tpseg.io.listing import Listing
from monai_tpseg.io.safety import base_name
from monai_tpseg.suffixes import DICOM_SUFFIXES, READABLE_SUFFIXES

__all__ = ["Case", "CaseSource", "Discovery", "Skip", "describe_left_out", "discover", "parts_of"]

logger = logging.getLogger(__name__)

Skip = Literal["", "no image", "localizer"]
"""Reason why a case is not segmented."""

CaseSource = Path | tuple[Path, ...]
"""Input of `LoadMedicalImage` for one case: a file, the folder of one series, or the files of one stack."""

_BATCH = 64  # files that are examined per call
_RESULTS = "folder of our own results"
_PLURAL = re.compile(r"\b(?:copy|device|file|folder|index|link|mask|object|pipe|slide|socket)\b")
_COPIES = "copy of a DICOM object"  # among what is left out


class Object(NamedTuple):
    """A DICOM object and its file."""

    identity: Identity
    path: Path


class Case(NamedTuple):
    """A case found by discovery.

    Attributes:
        path: a file, or a folder of DICOM slices.
        part: `i/n` for the i-th of the n stacks of a folder or a DICOMDIR; otherwise "".
        files: the files of a DICOM case; otherwise the one file.
        reason: reason for the split, see `Stack`.
        header: header of its first image, or of the file; None for a DICOMDIR without a readable file.
        skip: reason why it is not segmented.
        copies: further files with copies of its objects.
        remarks: other remarks.
        objects: its DICOM objects with an identity.
    """

    path: Path
    part: str = ""
    files: tuple[Path, ...] = ()
    reason: str = ""
    header: Header | None = None
    skip: Skip = ""
    copies: int = 0
    remarks: tuple[str, ...] = ()
    objects: tuple[Object, ...] = ()

    @property
    def source(self) -> CaseSource:
        """The input of `LoadMedicalImage`."""
        if not self.part:
            return self.path
        return self.files if len(self.files) > 1 else self.files[0]


class Discovery(NamedTuple):
    """Result of discovery.

    Attributes:
        cases: files of a folder first, then those of its sub-folders; targets of links to folders come last.
        left_out: kind of content that is not a case -> its count.
    """

    cases: list[Case]
    left_out: Counter[str]


def discover(
    path: Path,
    access: FileAccess = LOCAL,
    progress: Callable[[int], None] = lambda files: None,
    leave_out: Sequence[Path] = (),
) -> Discovery:
    """Return everything at `path` that could be a case, so that all content is accounted for.

    A file is a case, and so is the folder of one DICOM series. A folder with several series, echoes or phases gives
    each stack of `find_stacks` as a part, and so does a DICOMDIR given as `path`. Non-image DICOM objects and
    localizers become cases that are skipped. The format of a file is determined by its content, and each folder is
    visited once, however many links lead to it. DICOM objects that also belong to a larger case are copies of it;
    exact copies of other files are mentioned in their remarks.

    Args:
        path: a file or a folder.
        access: access to the file system.
        progress: called after each batch of files with their number.
        leave_out: folders that are not input; they must be on a responsive file system.

    Raises:
        ReadError: `E_NOT_FOUND`; `E_FORMAT`, a pipe or a device; `E_EMPTY`, nothing that could be a case; `E_OUTSIDE`,
            a DICOMDIR that refers to files outside its folder.
    """
    name = base_name(path)
    place = access.place(path)
    if place == "absent":
        raise ReadError("E_NOT_FOUND", f"{name} does not exist; check the path.")
    if place == "denied":
        raise ReadError("E_NOT_FOUND", f"{name} cannot be opened; check its permissions.")
    if place == "file":
        return Discovery(_of_file(path, access), Counter())
    if place == "silent":
        raise ReadError("E_NOT_FOUND", f"{name} does not answer; check its disk.")
    if place != "folder":
        raise ReadError("E_FORMAT", f"{name} is a {place}, not a regular file; give a file or a folder.")
    left_out: Counter[str] = Counter()
    folders = _walk(path, access, left_out, _identities(leave_out))
    cases = [case for folder, files in folders for case in _own(folder, files, access, left_out, progress)]
    cases = _without_copies(cases, access, left_out)
    if not cases:
        more = f" ({describe_left_out(left_out)} left out)" if +left_out else ""
        raise ReadError("E_EMPTY", f"{name} contains nothing that could be a case{more}; check the path.")
    return Discovery(_with_twins(cases, access), left_out)


def describe_left_out(left_out: Counter[str]) -> str:
    """Return a summary of the content left out, e.g. `3 docx, 2 pipes, 1 zip`."""
    return ", ".join(
        f"{n} {what if n == 1 else _PLURAL.sub(_plural, what, 1)}" for what, n in sorted((+left_out).items())
    )


def _plural(noun: re.Match[str]) -> str:
    return {"copy": "copies", "index": "indexes"}.get(noun[0], f"{noun[0]}s")


def parts_of(path: Path, access: FileAccess = LOCAL) -> tuple[tuple[Path, ...], ...]:
    """Return the stacks of the images in a folder or in a DICOMDIR.

    Raises:
        ReadError: see `discover`.
    """
    if access.place(path) != "folder":
        files = access.index(path)
        return (
            ((path,),) if files is None else tuple(stack.files for stack in _split(_headers(files, access), access)[0])
        )
    listed = access.folder(path)
    headers = _headers([file for file in listed.files if file.name != "DICOMDIR"], access)
    return tuple(stack.files for stack in _split(with_lost_slices(headers), access)[0])


def _of_file(path: Path, access: FileAccess) -> list[Case]:
    files = access.index(path) if path.name.upper() == "DICOMDIR" else None
    if files is None:
        (header,) = access.headers([path])
        return [_single(header)]
    headers = _headers(files, access)
    stacks, _ = _split(headers, access)
    known = {one.path: one for one in headers}
    if not stacks:
        raise ReadError("E_EMPTY", f"{base_name(path)} lists no image; give the folder of the disk.")
    return [_of_stack(path, stack, known, f"{n}/{len(stacks)}") for n, stack in enumerate(stacks, start=1)]


def _identities(folders: Sequence[Path]) -> set[tuple[int, int]]:
    stats = (folder.stat() for folder in folders if folder.is_dir())
    return {(stat.st_dev, stat.st_ino) for stat in stats}


def _is_results(listed: Listing) -> bool:
    """Whether a folder is the output of `tpseg run` or `tpseg annotate`."""
    folders = {one.name for one in (*listed.folders, *listed.links)}
    events = any(fnmatch(file.name, "events*.jsonl") for file in listed.files)
    return "cases" in folders and ("sessions" in folders or events)


def _walk(
    top: Path, access: FileAccess, left_out: Counter[str], apart: set[tuple[int, int]]
) -> Iterator[tuple[Path, tuple[Path, ...]]]:
    """Yield each folder once with its files: real folders first, in order, then those reached only by links."""
    seen: set[tuple[int, int]] = set()
    waiting, links = [top], deque[Path]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.popleft()
        try:
            listed = access.folder(folder)
        except OSError as error:
            if folder == top:
                raise ReadError("E_NOT_FOUND", f"{base_name(top)} cannot be opened; check its permissions.") from error
            logger.warning("A folder cannot be opened and is left out: %s", base_name(folder))
            left_out["folder that may not be opened"] += 1
            continue
        if listed.identity in seen:
            continue
        seen.add(listed.identity)
        if folder != top and (listed.identity in apart or _is_results(listed)):
            left_out[_RESULTS] += 1
            continue
        left_out.update(listed.left_out)
        below = [one for one in listed.folders if not one.name.endswith(OUTPUT_ENDINGS)]
        left_out[_RESULTS] += len(listed.folders) - len(below)
        waiting.extend(reversed(below))
        links.extend(one for one in listed.links if not one.name.endswith(OUTPUT_ENDINGS))
        yield folder, listed.files


def _own(
    folder: Path, files: Sequence[Path], access: FileAccess, left_out: Counter[str], progress: Callable[[int], None]
) -> list[Case]:
    """The cases among the files of a folder, without its sub-folders."""
    inputs = [path for path in files if path.name != "DICOMDIR"]
    left_out["index of a disc"] += len(files) - len(inputs)
    headers = _headers(inputs, access, progress)
    dicom = with_lost_slices(headers)
    taken = {one.path for one in dicom}
    rest = [one for one in headers if one.path not in taken]
    others = [one for one in rest if _is_meant(one)]
    own = [one for one in others if stem(one.path).endswith(OUTPUT_ENDINGS)]
    left_out["of our own results"] += len(own)
    left_out.update(_suffix(one.path) for one in rest if not _is_meant(one))
    cases = [_single(one) for one in others if one not in own]
    cases += _of_stacks(folder, dicom, bool(cases), access, left_out)
    return sorted(cases, key=lambda case: (case.path != folder, min(case.files)))


def _is_meant(one: Header) -> bool:
    """Whether a non-DICOM file is a source, by its content or its suffix."""
    lost = bool(one.code) and one.code != "E_NOT_FOUND"
    return bool(one.kind) or lost or one.path.name.lower().endswith((*READABLE_SUFFIXES, *DICOM_SUFFIXES))


def _of_stacks(
    folder: Path, dicom: Sequence[Header], others: bool, access: FileAccess, left_out: Counter[str]
) -> list[Case]:
    stacks, copies = _split(dicom, access)
    left_out[_COPIES] += len(copies)
    known = {one.path: one for one in dicom}
    rest = [one for one in dicom if not one.image]
    shown = [stack for stack in stacks if not stack.localizer] or stacks
    alone = not others and len(dicom) == 1
    whole = shown[0] if len(shown) == 1 and (alone or len(shown[0].files) > 1) else None
    cases = []
    for number, stack in enumerate(stacks, start=1):
        if stack is whole:
            cases.append(_of_stack(folder, stack, known, ""))
        elif len(stack.files) > 1:
            cases.append(_of_stack(folder, stack, known, f"{number}/{len(stacks)}"))
        else:
            cases.append(_of_stack(stack.files[0], stack, known, ""))
    if len(stacks) == 1:
        cases[0] = cases[0]._replace(copies=len(copies))
    if whole is not None:  # reading the folder leaves them out
        left_out.update(one.modality or "DICOM object without image" for one in rest)
        return cases
    return [*cases, *(_single(one) for one in rest)]


def _of_stack(path: Path, stack: Stack, known: dict[Path, Header], part: str) -> Case:
    headers = [known[file] for file in stack.files if file in known]
    first = next((one for one in headers if one.readable), headers[0] if headers else None)
    skip: Skip = "localizer" if stack.localizer else ""
    objects = tuple(Object(one.identity, one.path) for one in headers if one.identity.key)
    return Case(path, part, stack.files, stack.reason, first, skip, objects=objects)


def _single(header: Header) -> Case:
    skip: Skip = "no image" if not header.image else "localizer" if header.localizer else ""
    objects = (Object(header.identity, header.path),) if header.identity.key else ()
    return Case(header.path, "", (header.path,), "", header, skip, objects=objects)


def _split(headers: Sequence[Header], access: FileAccess) -> tuple[list[Stack], list[Path]]:
    return split_headers(headers, access.same_pixels)


def _headers(
    files: Sequence[Path], access: FileAccess, progress: Callable[[int], None] = lambda files: None
) -> list[Header]:
    headers: list[Header] = []
    for first in range(0, len(files), _BATCH):
        headers += access.headers(files[first : first + _BATCH])
        progress(len(files[first : first + _BATCH]))
    return headers


def _without_copies(cases: Sequence[Case], access: FileAccess, left_out: Counter[str]) -> list[Case]:
    """Remove cases whose objects all belong to a larger case, or to an equal one that comes first."""
    order = sorted(range(len(cases)), key=lambda index: (-len(cases[index].objects), _packed(cases[index]), index))
    owners: dict[bytes, list[tuple[int, Object]]] = {}
    kept: list[Case | None] = list(cases)
    for index in order:
        case = cases[index]
        shared = [{owner for owner, one in owners.get(own.identity.key, ()) if _same(one, own, access)}
                  for own in case.objects]  # fmt: skip
        if shared and set.intersection(*shared):
            kept[index] = None
            left_out[_COPIES] += len(case.objects)
            continue
        for one in case.objects:
            owners.setdefault(one.identity.key, []).append((index, one))
        if any(shared):
            remark = f"{sum(map(bool, shared))} of its {len(case.objects)} DICOM objects lie in another case too"
            kept[index] = case._replace(remarks=(*case.remarks, remark))
    return [case for case in kept if case is not None]


def _same(one: Object, other: Object, access: FileAccess) -> bool:
    return one.identity.syntax != other.identity.syntax or access.same_pixels(one.path, other.path)


def _packed(case: Case) -> bool:
    """Of equal cases, the uncompressed one is kept."""
    return case.header is not None and not case.header.identity.plain


def _with_twins(cases: Sequence[Case], access: FileAccess) -> list[Case]:
    """Add remarks to non-DICOM files that are equal byte for byte."""
    sizes: dict[int, list[int]] = {}
    for index, case in enumerate(cases):
        if case.header is not None and case.header.kind != "dicom" and case.header.size:
            sizes.setdefault(case.header.size, []).append(index)
    told = list(cases)
    for alike in (indices for indices in sizes.values() if len(indices) > 1):
        first: dict[str, Path] = {}
        for index in alike:
            path = cases[index].path
            digest = access.digest(path)
            if digest and first.setdefault(digest, path) != path:
                told[index] = told[index]._replace(remarks=(*told[index].remarks, _same_as(first[digest], path)))
    return told


def _same_as(first: Path, path: Path) -> str:
    return f"the same file as {first.name}" + ("" if first.parent == path.parent else " in another folder")


def _suffix(path: Path) -> str:
    return path.suffix.lower().lstrip(".") or "without suffix"
