"""Events of a run: one line of JSON for its start, each case and its end, and a progress bar."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from tqdm.auto import tqdm

from monai_tpseg.results.codes import Status
from monai_tpseg.studies.case import CaseOutcome
from monai_tpseg.version import __version__
from monai_tpseg.words import count

__all__ = ["EVENTS", "Events", "events"]

logger = logging.getLogger(__name__)

EVENTS = "events.jsonl"
"""The name of the events in an output folder; a shard has its own, `events-1-of-4.jsonl`."""


class Events:
    """Count and record the outcomes of cases.

    Args:
        log: receives the lines.
        bar: progress bar.
    """

    def __init__(self, log: TextIO, bar: Any) -> None:
        self.counts: Counter[str] = Counter()
        self.stayed = 0  # results of cases whose source is unavailable
        self._log, self._bar = log, bar
        self._last = time.monotonic()

    def ended(self, case: CaseOutcome) -> None:
        """Record a case; its `seconds` are the time since the previous case, excluding reading ahead."""
        now = time.monotonic()
        self.counts[case.outcome.status.value] += 1
        self.stayed += case.kept and case.outcome.status is Status.FAILED
        self._write(
            "case",
            case=case.name,
            status=case.outcome.status.value,
            code=case.outcome.code,
            kept=case.kept,
            seconds=round(now - self._last, 3),
            **{name: round(value, 3) for name, value in case.seconds.items()},
        )
        self._last = now
        self._bar.update()
        shown = {status: n for status, n in self.counts.items() if not status.startswith("ok")}
        self._bar.set_postfix(shown, refresh=False)

    def started(self, cases: int) -> None:
        """Record the start of a run with the number of its cases."""
        self._write("start", cases=cases, version=__version__)

    def over(self, complete: bool, seconds: float) -> None:
        """Record the end of a run, which may have stopped before its last case."""
        self._write("end", complete=complete, seconds=round(seconds, 3), **self.counts)

    def _write(self, event: str, **fields: Any) -> None:
        line = {"time": datetime.now(timezone.utc).isoformat(timespec="seconds"), "event": event, **fields}
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()


@contextmanager
def events(path: Path, cases: int, quiet: bool) -> Iterator[Events]:
    """Record a run over `cases` cases: they are appended to `path`, and shown on standard error unless `quiet`."""
    interval = 0.5 if sys.stderr.isatty() else 30.0  # a log file needs no animation
    begin, complete = time.monotonic(), False
    with (
        path.open("a", encoding="utf-8") as log,
        tqdm(total=cases, unit="case", disable=quiet, mininterval=interval, desc="segment") as bar,
    ):
        if log.tell() and not path.read_bytes().endswith(b"\n"):
            log.write("\n")  # a line that a full disc or the end of the machine has cut
        record = Events(log, bar)
        record.started(cases)
        try:
            yield record
            complete = True
        finally:
            record.over(complete, time.monotonic() - begin)
    if record.stayed:
        stay = "stays as it is" if record.stayed == 1 else "stay as they are"
        said = count(record.stayed, "case")
        logger.warning("%s with a result, but no readable source, %s; check the paths.", said, stay)
