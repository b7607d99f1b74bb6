"""Runs of one model over many cases, each with its own status; an interrupted run can be resumed."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.io.probing import IsolatedFileAccess
from monai_tpseg.results.codes import ExitStatus, Status, StudyError
from monai_tpseg.results.folder import read_result, sweep
from monai_tpseg.studies.case import CASES, CaseRunner
from monai_tpseg.studies.events import EVENTS, events
from monai_tpseg.studies.joint_tasks import finish_group, group_by_source, group_plans
from monai_tpseg.studies.manifest import MANIFEST, Entry, read_manifest, shard_of, write_manifest
from monai_tpseg.studies.manifest_merge import grow_manifest, with_real_roots
from monai_tpseg.studies.model import Model
from monai_tpseg.studies.names import Names
from monai_tpseg.studies.reading import Reader

__all__ = ["SESSIONS", "Run", "exit_status", "known_salt", "prepare_output"]

SESSIONS = "sessions"
"""The folder of an output folder that `tpseg annotate` keeps its sessions in."""

_NO_TASK = frozenset({"S_NO_TASK", "E_TASK"})


def prepare_output(
    out: str | Path,
    entries: Sequence[Entry],
    names: Names,
    resume: bool,
    tasks: Collection[str] | None = TASK_NAMES,
    moved: bool = False,
) -> list[tuple[str, Entry]]:
    """Create the output folder, name the cases, and add them to its manifest.

    Args:
        out: output folder.
        entries: cases of the whole run.
        names: see `case_names`.
        resume: continue in a folder with results.
        tasks: tasks of the weights; None for annotation sessions, which are named by their sources.
        moved: see `grow_manifest`.

    Returns:
        the name of the folder of each case, with the case.

    Raises:
        StudyError: the folder contains results and `resume` is not set; it belongs to annotation sessions but `tasks`
            is given, or to a run and it is not; or it cannot be created; see `grow_manifest`.
    """
    folder = Path(out)
    cases = folder / CASES
    check_output(out, resume, tasks is None)
    try:
        manifest = folder / MANIFEST
        known = read_manifest(manifest) if manifest.is_file() else []
        if not moved and known and {row.root for row in entries} - {row.root for row in known}:
            with IsolatedFileAccess() as access:
                known, entries = with_real_roots(known, access), with_real_roots(entries, access)
        grown = grow_manifest(known, entries, names, tasks, moved)
        cases.mkdir(parents=True, exist_ok=True)
        for entry in grown.obsolete:
            record = read_result(cases / entry.case)
            if record is not None and record["code"] in _NO_TASK:
                shutil.rmtree(cases / entry.case)
        write_manifest(manifest, grown.rows)
    except OSError as error:
        raise StudyError(f"'{out}' cannot be written ({error.strerror}); choose another --out.") from error
    return [(entry.case, entry) for entry in grown.requested]


def check_output(out: str | Path, resume: bool, sessions: bool = False) -> None:
    """Check that a run may write into a folder, before anything slow.

    Args:
        out: output folder.
        resume: continue in a folder with results.
        sessions: for annotation sessions, not for a run.

    Raises:
        StudyError: it holds results and `resume` is not set, or those of the other kind, or its manifest was
            lost, or it cannot be read.
    """
    folder = Path(out)
    try:
        there = (folder / CASES).is_dir() and any((folder / CASES).iterdir())
        filled, lost = there and not resume, there and not (folder / MANIFEST).is_file()
    except OSError as error:
        raise StudyError(f"'{out}' cannot be read ({error.strerror}); choose another --out.") from error
    if sessions and any(folder.glob("events*.jsonl")):
        raise StudyError(f"'{out}' holds the results of tpseg run; choose another --out.")
    if not sessions and (folder / SESSIONS).is_dir():
        raise StudyError(f"'{out}' holds the sessions of tpseg annotate; choose another --out.")
    if filled:
        raise StudyError(f"'{out}' holds the results of a run; add --resume to continue, or choose another --out.")
    if lost and not sessions:
        raise StudyError(
            f"'{folder / MANIFEST}' is missing, so its cases have no sources; put it back, or choose another --out."
        )


def known_salt(out: str | Path) -> str:
    """Return the salt of the run in `out`, or "", so that a resumed run keeps the names of its cases."""
    path = Path(out) / MANIFEST
    return read_manifest(path)[0].salt if path.is_file() else ""


def exit_status(counts: Counter[str]) -> int:
    """Return the exit status of a run from the counts of its cases by status."""
    return ExitStatus.PARTIAL if counts[Status.FAILED.value] + counts[Status.SKIPPED.value] else ExitStatus.OK


class Run:
    """Segment cases into an output folder; the next cases are read in separate processes while the network runs.

    Args:
        model: the model, loaded once.
        out: output folder, created by `prepare_output`.
        shard: `i/n` for a part of the cases, or "" for all.
        resume: keep complete results with the same input, weights, task and settings.
        quiet: show no progress bar.
        reader: reader of the sources; by default one process with the default limits.
    """

    def __init__(
        self,
        model: Model,
        out: str | Path,
        shard: str = "",
        resume: bool = False,
        quiet: bool = False,
        reader: Reader | None = None,
    ) -> None:
        self.out = Path(out)
        self.shard = shard
        self.quiet = quiet
        self.reader = reader or Reader()
        self.runner = CaseRunner(model, out, resume, shard.replace("/", "-of-") or "all", self.reader.limits, quiet)

    def __call__(self, cases: Sequence[tuple[str, Entry]]) -> Counter[str]:
        """Segment `cases` and return the number of cases by status, including those of an earlier run.

        Raises:
            StudyError: writing has become impossible.
        """
        groups = group_by_source(cases)
        todo = list(chain(*(shard_of(groups, self.shard) if self.shard else groups)))
        sweep(self.out / CASES, self.runner.tag)
        plans = (self.runner.planner.plan(name, entry) for name, entry in todo)
        name = EVENTS if not self.shard else f"events-{self.runner.tag}.jsonl"
        try:
            with events(self.out / name, len(todo), self.quiet) as record:
                for group, read in self.reader.in_order(group_plans(plans, self.runner), lambda group: group[0].source):
                    for ended in finish_group(self.runner, group, read):
                        record.ended(ended)
        finally:
            self.reader.close()
            self.runner.planner.close()
        return record.counts
