"""Extension of manifests: each further run or scan adds cases."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.io.file_access import FileAccess
from monai_tpseg.results.codes import StudyError
from monai_tpseg.studies.manifest import Entry
from monai_tpseg.studies.names import Names, case_names

__all__ = ["GrownManifest", "Merged", "grow_manifest", "merge_scan", "with_real_roots"]

_Place = tuple[str, str]  # path of a source on this machine, and part


class GrownManifest(NamedTuple):
    """The manifest of a run with further cases, each with its name.

    Attributes:
        rows: all cases of the output folder.
        requested: the further cases among them, in their order.
        obsolete: removed cases without a known task, whose source now has one.
    """

    rows: list[Entry]
    requested: list[Entry]
    obsolete: list[Entry]


class Merged(NamedTuple):
    """An earlier manifest merged with a new scan.

    Attributes:
        rows: the earlier rows unchanged, then the new ones.
        new: number of new rows.
        gone: number of earlier rows below `root` that the scan has not found.
        divided: number of earlier rows replaced because their folder is now split into different parts.
    """

    rows: list[Entry]
    new: int
    gone: int
    divided: int


def with_real_roots(rows: Sequence[Entry], access: FileAccess) -> list[Entry]:
    """Return rows whose roots are free of links, so that a source is the same by whatever path.

    Args:
        rows: rows of a manifest.
        access: access to the file system.
    """
    real = {root: access.real(root) for root in {row.root for row in rows}}
    return [row if real[row.root] == row.root else replace(row, root=real[row.root]) for row in rows]


def grow_manifest(
    known: Sequence[Entry],
    requested: Sequence[Entry],
    names: Names = "salted",
    tasks: Collection[str] | None = TASK_NAMES,
    moved: bool = False,
) -> GrownManifest:
    """Add cases to the manifest of a run, so that each name leads to its source as long as the folder exists.

    A known source keeps its salt, and a case its name. A new source that would get the name of another, e.g. the same
    path below another folder, gets a different salt.

    Args:
        known: rows of the manifest in the output folder.
        requested: cases of this run.
        names, tasks: see `case_names`; with tasks None, a source is one case, whatever its task.
        moved: whether the root has changed: sources are then identified by their paths below it.

    Raises:
        StudyError: a source is requested twice for one task, or `names` is unknown.
    """
    place_of = _by_path if moved else _place

    def key(entry: Entry) -> tuple[str, ...]:
        return place_of(entry) if tasks is None else (*place_of(entry), entry.task)

    sources = {place_of(row): row for row in reversed(known)}
    owners = {row.source_id: place_of(row) for row in known}
    given = []
    for entry in requested:
        before = sources.get(place_of(entry))
        if before is not None and not moved:
            entry = replace(entry, root=before.root, path=before.path)
        given.append(_known(entry, sources, owners, place_of(entry)))
    numbers: dict[tuple[str, ...], int] = {}
    for number, entry in enumerate(given, start=1):
        if numbers.setdefault(key(entry), number) != number:
            raise StudyError(
                f"Cases {numbers[key(entry)]} and {number} of the manifest have the same source and task; delete one."
            )
    cases = {key(row): row.case for row in reversed(known)}
    given = _all_named([replace(entry, case=cases.get(key(entry), "")) for entry in given], known, names, tasks)
    obsolete = [] if tasks is None else _obsolete(known, given, tasks)
    left = {key(entry): entry for entry in given}
    kept = [left.pop(key(row), row) for row in known if not any(row is one for one in obsolete)]
    return GrownManifest(_all_named([*kept, *left.values()], (), names, tasks), given, obsolete)


def _known(entry: Entry, sources: dict[_Place, Entry], owners: dict[str, _Place], place: _Place) -> Entry:
    """Return the entry with the salt, and thereby the name, of its source."""
    if place in sources:
        return replace(entry, salt=sources[place].salt)
    while owners.setdefault(entry.source_id, place) != place:
        entry = replace(entry, salt=entry.keyed("\0".join(place))[: len(entry.salt)])  # reproducible
    sources[place] = entry
    return entry


def _all_named(
    entries: Sequence[Entry], others: Iterable[Entry], names: Names, tasks: Collection[str] | None
) -> list[Entry]:
    """Name the unnamed rows."""
    taken = [entry.case for entry in (*entries, *others) if entry.case]
    found = iter(case_names([entry for entry in entries if not entry.case], names, tasks, taken))
    return [entry if entry.case else replace(entry, case=next(found)) for entry in entries]


def _obsolete(known: Iterable[Entry], given: Iterable[Entry], tasks: Collection[str]) -> list[Entry]:
    """Rows without a task of the weights, whose source now has one."""
    named = {entry.source_id for entry in given if entry.task in tasks}
    requested = {(entry.source_id, entry.task) for entry in given}
    return [
        row for row in known
        if row.task not in tasks and row.source_id in named and (row.source_id, row.task) not in requested
    ]  # fmt: skip


def merge_scan(known: Sequence[Entry], found: Sequence[Entry], root: str | os.PathLike[str]) -> Merged:
    """Add the cases of a scan to a manifest; tasks, notes and salts of earlier rows are kept.

    Args:
        known: rows of the earlier manifest.
        found: cases of the scan.
        root: scanned folder or file.
    """
    before, now = _by_source(known), _by_source(found)
    divided = {
        source for source in before.keys() & now.keys()
        if {row.part for row in before[source]} != {row.part for row in now[source]}
    }  # fmt: skip
    again = [row for source in divided for row in _divided(before[source], now[source])]
    new = [row for source, rows in now.items() if source not in before for row in rows]
    salt = known[0].salt if known else ""
    kept = [row for row in known if _place(row)[0] not in divided]
    added = grow_manifest(kept, [replace(row, salt=salt or row.salt) for row in (*again, *new)]).requested
    gone = sum(_is_below(source, root) for row in known if (source := _place(row)[0]) not in now)
    rows = [replace(row, case="") for row in (*kept, *added)]
    return Merged(rows, len(new), gone, sum(len(before[source]) for source in divided))


def _divided(before: Sequence[Entry], now: Sequence[Entry]) -> list[Entry]:
    """The parts of a folder that is now split differently; they get the common task of the earlier parts, if any."""
    tasks = {part: tuple(row.task for row in before if row.part == part) for part in {row.part for row in before}}
    if len(set(tasks.values())) == 1:
        return [replace(row, task=task) for row in now for task in next(iter(tasks.values()))]
    earlier = ", ".join(f"{part}: {' and '.join(filter(None, tasks[part])) or 'none'}" for part in sorted(tasks))
    note = f"divided anew; the tasks were {earlier}".replace("/", " of ")
    return [replace(row, task="", note="; ".join(filter(None, (row.note, note)))) for row in now]


def _by_source(rows: Iterable[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for row in rows:
        found.setdefault(_place(row)[0], []).append(row)
    return found


def _place(entry: Entry) -> _Place:
    """The source on this machine; a source outside its root, which is rejected, matches no other row."""
    root = os.path.normpath(entry.root)
    path = os.path.normpath(os.path.join(root, entry.path))
    outside = os.path.relpath(path, root).split(os.sep)[0] == os.pardir
    return (f"{root}\0{entry.path}" if outside else os.path.normcase(path)), entry.part


def _by_path(entry: Entry) -> _Place:
    return entry.path, entry.part


def _is_below(source: str, root: str | os.PathLike[str]) -> bool:
    top = os.path.normcase(os.path.abspath(root))
    return source == top or source.startswith(top.rstrip(os.sep) + os.sep)
