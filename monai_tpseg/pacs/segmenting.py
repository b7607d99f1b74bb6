"""Segmentation of a received study as in `tpseg run`, with tasks selected by rules."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pydicom

from monai_tpseg.io.discovery import Case
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.probing import IsolatedFileAccess
from monai_tpseg.pacs.queue import Queue, Result
from monai_tpseg.pacs.rules import Decision, Rule, SeriesFacts, decide
from monai_tpseg.pacs.sending import objects_of
from monai_tpseg.pacs.store import Store
from monai_tpseg.results.codes import Status
from monai_tpseg.results.folder import read_result
from monai_tpseg.studies import Entry, Limits, Model, Reader, Run, prepare_output
from monai_tpseg.studies.case import CASES
from monai_tpseg.studies.scan import find_cases

__all__ = ["SegmentedStudy", "Segmenting"]

logger = logging.getLogger(__name__)

_SKIPPED = {"no image": "no_image", "localizer": "localizer"}


class SegmentedStudy(NamedTuple):
    """Result of segmenting a study.

    Attributes:
        results: objects to send.
        bytes: size of its folder of results.
        counts: number of cases by status, and of skipped series.
    """

    results: list[Result]
    bytes: int
    counts: Counter[str]

    @property
    def failed(self) -> bool:
        """Whether a case failed, which may succeed in another attempt."""
        return self.counts[f"cases_{Status.FAILED.value}"] > 0


class _Kept(Reader):
    """Reader whose processes are reused for many runs."""

    def close(self) -> None:
        """Keep the processes."""

    def end(self) -> None:
        """End the processes."""
        super().close()


class Segmenting:
    """Segment the studies of a node.

    Args:
        model: the model, loaded once.
        rules: rules that select the tasks of a series.
        queue: queue with the senders of the series.
        store: files of studies and results.
        limits: limits of reading.
    """

    def __init__(self, model: Model, rules: Sequence[Rule], queue: Queue, store: Store, limits: Limits) -> None:
        self.model, self.rules, self.queue, self.store = model, rules, queue, store
        self._reader, self._look = _Kept(limits, screenshots=False), IsolatedFileAccess()

    def close(self) -> None:
        """End the reading processes."""
        self._reader.end()
        self._look.close()

    def __call__(self, study: str) -> SegmentedStudy:
        """Segment the series of a study that the rules select.

        Raises:
            StudyError: writing is impossible, or the device is lost.
        """
        counts: Counter[str] = Counter()
        entries = self._entries(study, counts)
        out = self.store.results / study
        names: list[tuple[str, Entry]] = []
        if entries:
            names = prepare_output(out, entries, "salted", True, self.model.info.tasks)
            statuses = Run(self.model, out, resume=True, quiet=True, reader=self._reader)(names)
            counts.update({f"cases_{status}": number for status, number in statuses.items()})
        results = [result for name, _ in names for result in self._results(out / CASES / name)]
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) if out.exists() else 0
        return SegmentedStudy(results, size, counts)

    def _entries(self, study: str, counts: Counter[str]) -> list[Entry]:
        folder = (self.store.studies / study).resolve()  # as cases name their files
        try:
            cases = find_cases(folder, self.queue.salt, self._look)
        except ReadError as error:
            counts[f"studies_{error.code}"] += 1
            return []
        callers, purged = self.queue.callers(study), self.queue.purged_series(study)
        entries = []
        for entry, case in cases:
            series = case.files[0].relative_to(folder).parts[0]
            if series in purged:
                logger.warning(
                    "Study %s: part of a series arrived after its files had been removed; send all of it.", study
                )
                counts["series_incomplete"] += 1
                continue
            tasks = self._tasks(case, callers.get(series, ""), counts)
            entries += [replace(entry, task=task) for task in tasks]
        return entries

    def _tasks(self, case: Case, caller: str, counts: Counter[str]) -> tuple[str, ...]:
        if case.skip:
            counts[f"series_{_SKIPPED[case.skip]}"] += 1
            return ()
        decision = self._decide(case.files[0], caller)
        if not decision.rule:
            counts["series_without_rule"] += 1
        elif not decision.tasks:
            counts["series_ignored"] += 1
        elif case.header is not None and case.header.auxiliary and not decision.named:
            counts["series_aside"] += 1
        else:
            return decision.tasks
        return ()

    def _decide(self, path: Path, caller: str) -> Decision:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:  # a damaged header has no values that a rule could match
            return Decision(0)
        return decide(self.rules, SeriesFacts.of(header, caller))

    def _results(self, case: Path) -> list[Result]:
        record = read_result(case)
        if record is None:
            return []
        return [
            Result(
                str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID),
                str(path.relative_to(self.store.root)),
            )
            for path in objects_of(case, record)
        ]
