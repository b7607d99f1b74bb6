"""The plan for a case, made before its pixels are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from monai_tpseg.catalogue import TASK_NAMES, Modality, get_task
from monai_tpseg.io.cases import CaseSource
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.locate import SOURCE_FACTS, UNREADABLE, SourceFacts
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
    """The plan for a case.

    Attributes:
        name: name of its folder.
        entry: its line in the manifest.
        key: digest compared by `--resume`.
        source: source to read; None if the outcome is known already, or for a slide.
        slide: whole slide, which is read in windows while it is segmented.
        outcome: known outcome: of an earlier run, or because of a missing task or source.
        kept: whether the folder of an earlier run is kept, because it is still valid, or because the source cannot be
            reached now (see `outcome`).
        stamp: stamp of the source, see `SourceFacts`.
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
    """Plan cases before their pixels are read.

    Args:
        model: model of the run.
        folder: parent folder of the cases.
        resume: keep complete results with the same input, weights, task and settings.
        limits: limits of the process that examines sources.
    """

    def __init__(self, model: Model, folder: Path, resume: bool, limits: Limits | None) -> None:
        self.model, self.folder, self.resume, self.limits = model, folder, resume, limits
        self._made_by = provenance(model.info, model.config)
        self._looker: ChildProcess | None = None

    def plan(self, name: str, entry: Entry) -> Plan:
        """Plan a case without reading its pixels."""
        try:
            return self._plan(name, entry)
        except NoProcessError:
            raise  # not caused by a case
        except Exception as error:  # an error of a source affects only its case
            return Plan(name, entry, "", outcome=outcome_of(error))

    def _plan(self, name: str, entry: Entry) -> Plan:
        seen, trouble = self.source_facts(entry)
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
        """End the process that examines sources."""
        if self._looker is not None:
            self._looker.close()
        self._looker = None

    def kept(self, name: str, key: str) -> Outcome | None:
        """Return the stored outcome if it is still valid, otherwise None: failed and skipped cases are tried again.

        Args:
            name: name of the case.
            key: key of its plan.
        """
        record = read_result(self.folder / name)
        if record is None or not key or record["key"] != key:
            return None
        status = Status(record["status"])
        return None if status in (Status.FAILED, Status.SKIPPED) else Outcome(status, flags=tuple(record["flags"]))

    def _stays(self, name: str) -> bool:
        """Whether a case has a result of these weights and settings, which is kept if the source is unavailable."""
        record = read_result(self.folder / name)
        if record is None or Status(record["status"]) in (Status.FAILED, Status.SKIPPED):
            return False
        made_by, now = record["provenance"], self._made_by
        same = made_by["model"]["weights_sha256"] == now["model"]["weights_sha256"]
        return bool(same and made_by["config_sha256"] == now["config_sha256"])

    def source_facts(self, entry: Entry, content: bool = True) -> tuple[SourceFacts | None, Outcome | None]:
        """Return the facts about a source, or the outcome of its case if the source is missing or does not respond."""
        if self._looker is None:
            limits = self.limits or Limits()
            self._looker = ChildProcess(SOURCE_FACTS, limits.seconds, limits.bytes)
        known = self._problem(entry) is None
        pathology = (
            content and known and get_task(entry.task, self.model.info.modalities).modality is Modality.PATHOLOGY
        )
        self._looker.send(*entry.place, not entry.task, pathology, content)
        try:
            seen: SourceFacts = self._looker.receive().value
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
        """A keyed digest of input, weights, task and settings."""
        parts = (entry.path, entry.part, identity, entry.task, self.model.info.sha256, self._made_by["config_sha256"])
        return entry.keyed(json.dumps(parts))


def _unfit(seen: SourceFacts) -> Outcome | None:
    """The outcome of a case that needs no task."""
    if seen.unfit == "no image":
        return outcome_of(ReadError("E_NOT_IMAGE", "The source is not an image."))
    codes = {"localizer": "S_LOCALIZER", "screenshot": "S_SCREENSHOT"}
    code = codes.get(seen.unfit, "")
    return Outcome(Status.SKIPPED, code, RUN_ACTIONS[code]) if code else None


def _unreachable(seen: SourceFacts | None, trouble: Outcome | None) -> Outcome | None:
    """The outcome of a case whose source is missing, cannot be opened or does not respond, or None."""
    if seen is not None:
        return outcome_of(ReadError("E_NOT_FOUND", "The source is missing.")) if seen.identity == UNREADABLE else None
    return trouble if trouble is not None and trouble.code in ("E_NOT_FOUND", *LOST.values()) else None
