"""Many cases, one model: each ends in a status of its own, and a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from monai_tpseg.studies.codes import ExitStatus, Outcome, Status, StudyError, failed, is_out_of_memory, outcome_of
from monai_tpseg.studies.manifest import (
    MANIFEST,
    Entry,
    Names,
    case_names,
    read_manifest,
    shard_of,
    write_manifest,
)
from monai_tpseg.studies.model import Model, Segmented
from monai_tpseg.studies.results import (
    case_folder,
    provenance,
    read_result,
    write_result,
)
from monai_tpseg.studies.writing import Outputs, write_segmented
from monai_tpseg.tasks import TASK_NAMES
from monai_tpseg.transforms.errors import ReadError

__all__ = ["CASES", "Run", "exit_status", "input_identity", "known_salt", "prepare_output"]

logger = logging.getLogger(__name__)

CASES = "cases"
"""The folder of an output folder that holds a folder for each case."""

_HASHED = 2**22  # bytes: sources up to here are known by content, larger ones by size and time


def prepare_output(out: str | Path, entries: Sequence[Entry], names: Names, resume: bool) -> list[tuple[str, Entry]]:
    """Make the output folder and its manifest, and name the cases.

    Args:
        out: output folder.
        entries: the whole run.
        names: see `case_names`.
        resume: go on in a folder that holds results.

    Returns:
        the name of each case's folder, with the case.

    Raises:
        StudyError: the folder holds results and `resume` is not set; see `case_names`.
    """
    folder = Path(out)
    named = case_names(entries, names)
    cases = folder / CASES
    if not resume and cases.is_dir() and any(cases.iterdir()):
        raise StudyError(f"'{out}' holds the results of a run; add --resume to go on, or choose another --out.")
    cases.mkdir(parents=True, exist_ok=True)
    write_manifest(folder / MANIFEST, entries, named)
    return list(zip(named, entries, strict=True))


def known_salt(out: str | Path) -> str:
    """Return the salt of the run in `out`, "" where there is none: a resumed run keeps the names of its cases."""
    path = Path(out) / MANIFEST
    return read_manifest(path)[0].salt if path.is_file() else ""


def input_identity(source: Path) -> str:
    """Return what tells a source from a changed one: names, sizes, and contents (small ones) or times of its files.

    Args:
        source: a file, or the folder of one DICOM series.
    """
    files = [path for path in source.iterdir() if path.is_file()] if source.is_dir() else [source]
    stats = sorted(((path.name, path.stat(), path) for path in files), key=itemgetter(0))
    small = sum(stat.st_size for _, stat, _ in stats) <= _HASHED
    parts = [
        (name, stat.st_size, hashlib.sha256(path.read_bytes()).hexdigest() if small else stat.st_mtime_ns)
        for name, stat, path in stats
    ]
    return json.dumps(parts)


def exit_status(counts: Counter[str]) -> int:
    """Return the exit status of a run whose cases ended as counted."""
    return ExitStatus.PARTIAL if counts[Status.FAILED.value] + counts[Status.SKIPPED.value] else ExitStatus.OK


class Run:
    """Segments cases into an output folder.

    Args:
        model: loaded once.
        out: output folder; `prepare_output` has made it.
        shard: `i/n`, for a part of the cases, or "" for all.
        resume: leave complete results alone that were made from the same input, weights, task and settings.
        quiet: no progress bar.
    """

    def __init__(
        self, model: Model, out: str | Path, shard: str = "", resume: bool = False, quiet: bool = False
    ) -> None:
        self.model = model
        self.out = Path(out)
        self.shard = shard
        self.resume = resume
        self.quiet = quiet
        self._made_by = provenance(model.info, model.config)
        self._tag = shard.replace("/", "-of-") or "all"

    def __call__(self, cases: Sequence[tuple[str, Entry]]) -> Counter[str]:
        """Segment `cases` and return how many ended with each status, those of an earlier run included."""
        counts: Counter[str] = Counter()
        todo = shard_of(cases, self.shard) if self.shard else list(cases)
        events = self.out / ("events.jsonl" if not self.shard else f"events-{self._tag}.jsonl")
        with events.open("a", encoding="utf-8") as log, self._bar(len(todo)) as bar:
            for name, entry in todo:
                started = time.monotonic()
                outcome, kept = self._case(name, entry)
                counts[outcome.status.value] += 1
                self._log(log, name, outcome, kept, time.monotonic() - started)
                bar.update()
                bar.set_postfix({key: n for key, n in counts.items() if not key.startswith("ok")}, refresh=False)
        return counts

    def _case(self, name: str, entry: Entry) -> tuple[Outcome, bool]:
        """Return how the case ended, and whether that was so before."""
        key, problem = self._key(entry), self._problem(entry)
        if self.resume and (kept := self._kept(name, key)) is not None:
            return kept, True
        task = entry.task if entry.task in TASK_NAMES else ""  # anything else may be somebody's note
        with case_folder(self.out / CASES / name, self._tag) as folder:
            outcome, more = (problem, {}) if problem else self._segment(name, entry, folder)
            write_result(folder, name, task, outcome, key, self._made_by, **more)
        return outcome, False

    def _segment(self, name: str, entry: Entry, folder: Path) -> tuple[Outcome, dict[str, Any]]:
        """Isolation: whatever a case raises stays with the case."""
        try:
            found = self._with_less_memory(entry)
            outputs = Outputs(seg=self.model.settings.seg)
            return write_segmented(found, entry.task, name, folder, self._made_by, outputs)
        except Exception as error:  # a decoder or a network may raise anything
            _empty(folder)
            return outcome_of(error), {}

    def _with_less_memory(self, entry: Entry) -> Segmented:
        """Once more, slice by slice, where memory ran out."""
        try:
            return self.model.segment(entry.source(), entry.task)
        except Exception as error:  # decided below
            if not is_out_of_memory(error):
                raise
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        return self.model.segment(entry.source(), entry.task, slice_batch=1)

    def _problem(self, entry: Entry) -> Outcome | None:
        if not entry.task:
            return Outcome(Status.SKIPPED, "S_NO_TASK", failed("S_NO_TASK").action)
        return None if entry.task in self.model.info.tasks and entry.task in TASK_NAMES else failed("E_TASK")

    def _key(self, entry: Entry) -> str:
        """Input, weights, task and settings in one keyed digest."""
        try:
            identity = input_identity(entry.source())
        except (ReadError, OSError):
            identity = "unreadable"
        parts = (entry.path, identity, entry.task, self.model.info.sha256, self.model.config_sha256)
        return entry.keyed(json.dumps(parts))

    def _kept(self, name: str, key: str) -> Outcome | None:
        """The outcome of an earlier run that still holds; what failed is tried again."""
        record = read_result(self.out / CASES / name)
        if record is None or record.get("key") != key:
            return None
        status = Status(record["status"])
        return None if status in (Status.FAILED, Status.SKIPPED) else Outcome(status, flags=tuple(record["flags"]))

    @contextmanager
    def _bar(self, total: int) -> Iterator[Any]:
        interval = 0.5 if sys.stderr.isatty() else 30.0  # a log file needs no animation
        with tqdm(total=total, unit="case", disable=self.quiet, mininterval=interval, desc="segment") as bar:
            yield bar

    def _log(self, log: Any, name: str, outcome: Outcome, kept: bool, seconds: float) -> None:
        line = {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "case": name,
            "status": outcome.status.value,
            "code": outcome.code,
            "kept": kept,
            "seconds": round(seconds, 3),
        }
        log.write(json.dumps(line) + "\n")
        log.flush()


def _empty(folder: Path) -> None:
    """Remove what a failed case had written so far."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
