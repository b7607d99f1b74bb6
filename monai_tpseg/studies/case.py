"""One case of a run, from its line in the manifest to its folder: whatever goes wrong stays with the case."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.data import MetaTensor

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.io.dicom.object import parsed_once
from monai_tpseg.results.case_files import Outputs, refused, write_segmented
from monai_tpseg.results.codes import (
    DeviceLostError,
    Outcome,
    SourceChanged,
    StudyError,
    device_answers,
    is_disc_full,
    is_out_of_memory,
    outcome_of,
)
from monai_tpseg.results.folder import case_folder, provenance, write_result
from monai_tpseg.segment import Segmentation
from monai_tpseg.studies.case_plan import CasePlanner, Plan
from monai_tpseg.studies.model import Model
from monai_tpseg.studies.names import file_stem
from monai_tpseg.studies.reading import Limits, Read
from monai_tpseg.studies.slide_process import SlideProcess
from monai_tpseg.studies.slides import segment_slide

__all__ = ["CASES", "CaseRunner", "Ended", "Found"]

logger = logging.getLogger(__name__)

_LOST_DEVICE = "Device '{}' stopped answering at case {}; repeat the command with --resume to continue."

CASES = "cases"
"""The folder of an output folder that holds a folder for each case."""


@dataclass(frozen=True)
class Ended:
    """How a case ended.

    Attributes:
        name: of its folder.
        outcome: status, code, flags.
        kept: its folder is that of an earlier run; see `Plan`.
        seconds: `read`, in its own process; `network`; `write`, with measuring and drawing; where they took place.
    """

    name: str
    outcome: Outcome
    kept: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


class Found(NamedTuple):
    """What was found in a case, and the seconds that it took the network."""

    what: Segmentation
    seconds: float = 0.0


class CaseRunner:
    """Takes cases one by one through a model into an output folder.

    Args:
        model: loaded once.
        out: output folder; `prepare_output` has made it.
        resume: keep complete results that were made from the same input, weights, task and settings.
        tag: a word that the other processes of the run do not use.
        limits: of reading a window of a slide; those of other sources are the reader's.
        quiet: no progress bar for a slide.
    """

    def __init__(
        self,
        model: Model,
        out: str | Path,
        resume: bool = False,
        tag: str = "all",
        limits: Limits | None = None,
        quiet: bool = True,
    ) -> None:
        self.model = model
        self.limits, self.quiet = limits, quiet
        self.out = out
        self.folder = Path(out) / CASES
        self.resume = resume
        self.tag = tag
        self.planner = CasePlanner(model, self.folder, resume, limits)
        self._made_by = provenance(model.info, model.config)

    def segment_tasks(self, plans: Sequence[Plan], read: Read | None) -> dict[str, Found]:
        """Segment what was read for the tasks of several plans at once; nothing where that fails.

        Args:
            plans: of one source and one modality.
            read: what became of it.

        Returns:
            what was found for each plan, by its name.
        """
        if read is None or read.image is None:
            return {}
        tasks, seconds = [plan.entry.task for plan in plans], dict[str, float]()
        try:
            with _timed(seconds, "network"):
                found = self._with_less_memory(read, tasks)
        except Exception as error:  # a network may raise anything: each task is tried by itself, and says what is wrong
            logger.warning("%s do not run together (%s); each runs separately.", ", ".join(tasks), type(error).__name__)
            return {}
        share = seconds["network"] / len(plans)
        return {plan.name: Found(one, share) for plan, one in zip(plans, found, strict=True)}

    def finish(self, plan: Plan, read: Read | None, found: Found | None = None) -> Ended:
        """Segment a case that was read, and write its folder, complete or not at all.

        Args:
            plan: of the case.
            read: what became of its source; None where the plan has none.
            found: what `segment_tasks` has found for it; by default it is segmented now.

        Raises:
            StudyError: nothing can be written any more, or the device is lost.
        """
        if plan.kept and plan.outcome is not None:
            return Ended(plan.name, plan.outcome, kept=True)
        seconds: dict[str, float] = {} if read is None else {"read": read.seconds}
        try:
            with case_folder(self.folder / plan.name, self.tag) as folder:
                outcome, more = (
                    (plan.outcome, {}) if plan.outcome else self._segment(plan, read, folder, seconds, found)
                )
                self._record(plan, folder, outcome, **more)
        except StudyError:
            raise
        except Exception as error:  # decided below
            return Ended(plan.name, self._unwritten(plan, error), seconds=seconds)
        return Ended(plan.name, outcome, seconds=seconds)

    def _record(self, plan: Plan, folder: Path, outcome: Outcome, **more: Any) -> None:
        named = (*TASK_NAMES, *self.model.info.modalities)
        task = plan.entry.task if plan.entry.task in named else ""  # anything else may be somebody's note
        write_result(folder, plan.name, task, outcome, plan.key, self._made_by, **more)

    def _unwritten(self, plan: Plan, error: Exception) -> Outcome:
        """Record a case whose folder could not be completed; it fails, and the others go on.

        Raises:
            StudyError: no folder can be written any more.
        """
        outcome = outcome_of(error)
        try:
            if is_disc_full(error):
                raise error
            with case_folder(self.folder / plan.name, self.tag) as folder:
                self._record(plan, folder, outcome)
        except Exception as again:  # one name may be impossible where others are not
            if is_disc_full(again) or not _takes_folders(self.folder):
                raise _no_writing(self.out, again) from error
        return outcome

    def _segment(
        self, plan: Plan, read: Read | None, folder: Path, seconds: dict[str, float], found: Found | None
    ) -> tuple[Outcome, dict[str, Any]]:
        """Isolation: whatever a case raises stays with the case, but for a disc that is full."""
        try:
            if plan.slide is not None:
                with _timed(seconds, "network"):
                    written = self._slide(plan, plan.slide, folder)
                self._check_unchanged(plan)
                return written
            if plan.source is not None:
                self._check_unchanged(plan)
            if found is None:
                with _timed(seconds, "network"):
                    (alone,) = self._with_less_memory(read, [plan.entry.task])
                found = Found(alone)
            else:
                seconds["network"] = found.seconds
            settings = self.model.settings
            if settings.refuse and found.what.trust.refused:
                return refused(found.what.trust)
            with _timed(seconds, "write"):
                outputs = self._outputs()
                name = file_stem(plan.name, plan.entry.task)
                with parsed_once(None if read is None else read.headers):
                    return write_segmented(found.what, plan.entry.task, name, folder, self._made_by, outputs)
        except Exception as error:  # a network or a writer may raise anything
            _empty(folder)
            if is_disc_full(error):
                raise
            if not device_answers(self.model.device):
                raise DeviceLostError(_LOST_DEVICE.format(self.model.device, plan.name)) from error
            return outcome_of(error), {}

    def _outputs(self) -> Outputs:
        settings = self.model.settings
        return Outputs(
            settings.seg,
            method=self.model.info.method,
            probabilities=settings.probabilities,
            sr=settings.sr,
            encoding=settings.encoding,
            also=settings.also,
        )

    def _check_unchanged(self, plan: Plan) -> None:
        """A source that somebody still writes to was read half old, half new."""
        seen, trouble = self.planner.see(plan.entry, content=False)
        if seen is None or trouble is not None or seen.stamp != plan.stamp:
            raise SourceChanged

    def _slide(self, plan: Plan, path: Path, folder: Path) -> tuple[Outcome, dict[str, Any]]:
        source = SlideProcess(path, self.model.mpp, self.model.settings.slide_mpp, self.limits)
        with closing(source):
            name = file_stem(plan.name, plan.entry.task)
            return segment_slide(self.model, source, plan.entry.task, name, folder, self.quiet)

    def _with_less_memory(self, read: Read | None, tasks: Sequence[str]) -> list[Segmentation]:
        """Once more, slice by slice, where memory ran out."""
        if read is None or read.image is None:
            raise (read and read.error) or RuntimeError("the case was not read")
        try:
            return self._run(read.image, tasks)
        except Exception as error:  # decided below
            if not is_out_of_memory(error):
                raise
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        return self._run(read.image, tasks, slice_batch=1)

    def _run(self, image: MetaTensor, tasks: Sequence[str], slice_batch: int | None = None) -> list[Segmentation]:
        if len(tasks) > 1:
            return self.model.segment_tasks(image, tasks, slice_batch)
        return [self.model.segment_image(image, tasks[0], slice_batch)]


def _takes_folders(folder: Path) -> bool:
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=folder):
            return True
    except OSError:
        return False


def _no_writing(out: str | Path, error: Exception) -> StudyError:
    kind = "is full or read-only" if is_disc_full(error) else f"cannot be written ({type(error).__name__})"
    return StudyError(f"'{out}' {kind}; correct that, then repeat the command with --resume.")


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        seconds[name] = time.monotonic() - started


def _empty(folder: Path) -> None:
    """Remove what a failed case had written so far."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
