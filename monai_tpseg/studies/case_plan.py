"""What is to be done for a case, decided before its pixels are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from monai_tpseg.catalogue import TASK_NAMES, Modality, get_task
from monai_tpseg.io.cases import CaseSource
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.locate import SEE, UNREADABLE, Seen
from monai_tpseg.results.codes import (
    RUN_ACTIONS,
    Outcome,
    Status,
    failed,
    outcome_of,
)
from monai_tpseg.results.folder import provenance, read_result
from monai_tpseg.studies.manifest import Entry
from monai_tpseg.studies.model import Model
from monai_tpseg.studies.reading import Limits
from monai_tpseg.subprocesses import LOST, CallLost, ChildProcess, NoProcessError

__all__ = ["CasePlanner", "Plan"]


@dataclass(frozen=True)
class Plan:
    """What is to be done for a case.

    Attributes:
        name: of its folder.
        entry: its line in the manifest.
        key: what `--resume` goes by.
        source: to be read; None where the case has ended already, or is a slide.
        slide: a whole slide, which is read in windows while it is segmented.
        outcome: how it has ended: before, or for want of a task or a source.
        kept: the folder stays as an earlier run has left it: it still holds, or the source cannot be reached now,
            which `outcome` says then.
        stamp: of the source, see `Seen`.
    """

    name: str
    entry: Entry
    key: str
    source: CaseSource | None = None
    slide: Path | None = None
    outcome: Outcome | None = None
    kept: bool = False
    stamp: str = ""


class CasePlanner:
    """Looks at cases before their pixels are read, and decides what is to be done for each.

    Args:
        model: of the run.
        folder: that holds a folder for each case.
        resume: keep complete results that were made from the same input, weights, task and settings.
        limits: of a process that looks at sources.
    """

    def __init__(self, model: Model, folder: Path, resume: bool, limits: Limits | None) -> None:
        self.model, self.folder, self.resume, self.limits = model, folder, resume, limits
        self._made_by = provenance(model.info, model.config)
        self._looker: ChildProcess | None = None

    def plan(self, name: str, entry: Entry) -> Plan:
        """Look at a case without reading its pixels."""
        try:
            return self._plan(name, entry)
        except NoProcessError:
            raise  # no case's fault
        except Exception as error:  # whatever a source does to who looks at it stays with its case
            return Plan(name, entry, "", outcome=outcome_of(error))

    def _plan(self, name: str, entry: Entry) -> Plan:
        seen, trouble = self.see(entry)
        key = self._key(entry, UNREADABLE if seen is None else seen.identity)
        if self.resume and (kept := self.kept(name, key)) is not None:
            return Plan(name, entry, key, outcome=kept, kept=True)
        if self.resume and (lost := _unreachable(seen, trouble)) is not None and self._stays(name):
            return Plan(name, entry, key, outcome=lost, kept=True)
        outcome = (_unfit(seen) if seen is not None else None) or self._problem(entry) or trouble
        if seen is None or outcome is not None:
            return Plan(name, entry, key, outcome=outcome)
        if seen.slide and isinstance(seen.source, Path):
            return Plan(name, entry, key, slide=seen.source, stamp=seen.stamp)
        return Plan(name, entry, key, seen.source, stamp=seen.stamp)

    def close(self) -> None:
        """End the process that looks for sources."""
        if self._looker is not None:
            self._looker.close()
        self._looker = None

    def kept(self, name: str, key: str) -> Outcome | None:
        """Return the outcome on disc if it still holds, else None: what failed or was skipped is tried again.

        Args:
            name: of the case.
            key: of its plan.
        """
        record = read_result(self.folder / name)
        if record is None or not key or record["key"] != key:
            return None
        status = Status(record["status"])
        return None if status in (Status.FAILED, Status.SKIPPED) else Outcome(status, flags=tuple(record["flags"]))

    def _stays(self, name: str) -> bool:
        """Whether a case has a result that these weights and settings have made, which a lost source must not cost."""
        record = read_result(self.folder / name)
        if record is None or Status(record["status"]) in (Status.FAILED, Status.SKIPPED):
            return False
        made_by, now = record["provenance"], self._made_by
        same = made_by["model"]["weights_sha256"] == now["model"]["weights_sha256"]
        return bool(same and made_by["config_sha256"] == now["config_sha256"])

    def see(self, entry: Entry, content: bool = True) -> tuple[Seen | None, Outcome | None]:
        """Return what is known of a source, or how its case ends because it lies nowhere or does not answer."""
        if self._looker is None:
            limits = self.limits or Limits()
            self._looker = ChildProcess(SEE, limits.seconds, limits.bytes)
        known = self._problem(entry) is None
        pathology = (
            content and known and get_task(entry.task, self.model.info.modalities).modality is Modality.PATHOLOGY
        )
        self._looker.send(*entry.place, not entry.task, pathology, content)
        try:
            seen: Seen = self._looker.receive().value
        except (ReadError, CallLost) as error:
            return None, outcome_of(error)
        return seen, None

    def _problem(self, entry: Entry) -> Outcome | None:
        if not entry.task:
            return Outcome(Status.SKIPPED, "S_NO_TASK", failed("S_NO_TASK").action)
        info = self.model.info
        known = entry.task in info.tasks and (entry.task in TASK_NAMES or entry.task in info.modalities)
        return None if known else failed("E_TASK")

    def _key(self, entry: Entry, identity: str) -> str:
        """Input, weights, task and settings in one keyed digest."""
        parts = (entry.path, entry.part, identity, entry.task, self.model.info.sha256, self._made_by["config_sha256"])
        return entry.keyed(json.dumps(parts))


def _unfit(seen: Seen) -> Outcome | None:
    """How a case without a task ends that needs none."""
    if seen.unfit == "no image":
        return outcome_of(ReadError("E_NOT_IMAGE", "The source is no image."))
    codes = {"localizer": "S_LOCALIZER", "screenshot": "S_SCREENSHOT"}
    code = codes.get(seen.unfit, "")
    return Outcome(Status.SKIPPED, code, RUN_ACTIONS[code]) if code else None


def _unreachable(seen: Seen | None, trouble: Outcome | None) -> Outcome | None:
    """How a case ends whose source is not there, may not be opened or does not answer: None where it is there."""
    if seen is not None:
        return outcome_of(ReadError("E_NOT_FOUND", "The source is not there.")) if seen.identity == UNREADABLE else None
    return trouble if trouble is not None and trouble.code in ("E_NOT_FOUND", *LOST.values()) else None
