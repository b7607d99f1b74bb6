"""One case of a run, from its line in the manifest to its folder; its errors do not affect other cases."""

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
from monai_tpseg.results.case_files import refusal_outcome, write_segmented
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
from monai_tpseg.results.outputs import Outputs
from monai_tpseg.segment import Segmentation
from monai_tpseg.studies.case_plan import CasePlanner, Plan
from monai_tpseg.studies.model import Model
from monai_tpseg.studies.names import file_stem
from monai_tpseg.studies.reading import Limits, Read
from monai_tpseg.studies.slide_process import SlideProcess
from monai_tpseg.studies.slides import segment_slide

__all__ = ["CASES", "CaseOutcome", "CaseRunner", "SegmentedCase"]

logger = logging.getLogger(__name__)

_LOST_DEVICE = "Device '{}' stopped answering at case {}; repeat the command with --resume to continue."

CASES = "cases"
"""The folder of an output folder that holds a folder for each case."""


@dataclass(frozen=True)
class CaseOutcome:
    """Outcome of a case.

    Attributes:
        name: name of its folder.
        outcome: status, code, flags.
        kept: whether its folder is from an earlier run; see `Plan`.
        seconds: durations in s of `read`, in its own process; `network`; `write`, including measuring and drawing;
            those that took place.
    """

    name: str
    outcome: Outcome
    kept: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


class SegmentedCase(NamedTuple):
    """Segmentation of a case, and the time of the network in s."""

    segmentation: Segmentation
    seconds: float = 0.0


class CaseRunner:
    """Segment cases one by one and write them to an output folder.

    Args:
        model: the model, loaded once.
        out: output folder, created by `prepare_output`.
        resume: keep complete results with the same input, weights, task and settings.
        tag: word that no other process of the run uses.
        limits: limits for reading a window of a slide; those of other sources belong to the reader.
        quiet: show no progress bar for a slide.
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

    def segment_tasks(self, plans: Sequence[Plan], read: Read | None) -> dict[str, SegmentedCase]:
        """Segment a source for the tasks of several plans at once; on failure, return nothing.

        Args:
            plans: plans for one source and one modality.
            read: the source as read.

        Returns:
            the segmentation for each plan, by its name.
        """
        if read is None or read.image is None:
            return {}
        tasks, seconds = [plan.entry.task for plan in plans], dict[str, float]()
        try:
            with _timed(seconds, "network"):
                found = self._with_less_memory(read, tasks)
        except Exception as error:  # a network may raise anything: each task is run separately
            logger.warning("%s do not run together (%s); each runs separately.", ", ".join(tasks), type(error).__name__)
            return {}
        share = seconds["network"] / len(plans)
        return {plan.name: SegmentedCase(one, share) for plan, one in zip(plans, found, strict=True)}

    def finish(self, plan: Plan, read: Read | None, found: SegmentedCase | None = None) -> CaseOutcome:
        """Segment a case that was read, and write its folder, completely or not at all.

        Args:
            plan: plan of the case.
            read: its source as read; None if the plan has no source.
            found: its segmentation from `segment_tasks`; by default it is segmented now.

        Raises:
            StudyError: writing has become impossible, or the device is lost.
        """
        if plan.kept and plan.outcome is not None:
            return CaseOutcome(plan.name, plan.outcome, kept=True)
        seconds: dict[str, float] = {} if read is None else {"read": read.seconds}
        try:
            with case_folder(self.folder / plan.name, self.tag) as folder:
                outcome, fields = (
                    (plan.outcome, {}) if plan.outcome else self._segment(plan, read, folder, seconds, found)
                )
                self._record(plan, folder, outcome, **fields)
        except StudyError:
            raise
        except Exception as error:  # decided below
            return CaseOutcome(plan.name, self._unwritten(plan, error), seconds=seconds)
        return CaseOutcome(plan.name, outcome, seconds=seconds)

    def _record(self, plan: Plan, folder: Path, outcome: Outcome, **fields: Any) -> None:
        named = (*TASK_NAMES, *self.model.info.modalities)
        task = plan.entry.task if plan.entry.task in named else ""  # any other text may be a private note
        write_result(folder, plan.name, task, outcome, plan.key, self._made_by, **fields)

    def _unwritten(self, plan: Plan, error: Exception) -> Outcome:
        """Record a case whose folder could not be completed; the case fails, the run continues.

        Raises:
            StudyError: writing has become impossible.
        """
        outcome = outcome_of(error)
        try:
            if is_disc_full(error):
                raise error
            with case_folder(self.folder / plan.name, self.tag) as folder:
                self._record(plan, folder, outcome)
        except Exception as again:  # a single name may be invalid
            if is_disc_full(again) or not _takes_folders(self.folder):
                raise _no_writing(self.out, again) from error
        return outcome

    def _segment(
        self, plan: Plan, read: Read | None, folder: Path, seconds: dict[str, float], found: SegmentedCase | None
    ) -> tuple[Outcome, dict[str, Any]]:
        """Isolation: an exception of a case affects only that case, except for a full disk."""
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
                found = SegmentedCase(alone)
            else:
                seconds["network"] = found.seconds
            settings = self.model.settings
            if settings.refuse and found.segmentation.trust.refused:
                return refusal_outcome(found.segmentation.trust)
            with _timed(seconds, "write"):
                outputs = self._outputs()
                name = file_stem(plan.name, plan.entry.task)
                with parsed_once(None if read is None else read.headers):
                    return write_segmented(found.segmentation, plan.entry.task, name, folder, self._made_by, outputs)
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
            label_maps=settings.label_maps,
        )

    def _check_unchanged(self, plan: Plan) -> None:
        """A source that is still being written may be read inconsistently."""
        seen, trouble = self.planner.source_facts(plan.entry, content=False)
        if seen is None or trouble is not None or seen.stamp != plan.stamp:
            raise SourceChanged

    def _slide(self, plan: Plan, path: Path, folder: Path) -> tuple[Outcome, dict[str, Any]]:
        source = SlideProcess(path, self.model.mpp, self.model.settings.slide_mpp, self.limits)
        with closing(source):
            name = file_stem(plan.name, plan.entry.task)
            return segment_slide(self.model, source, plan.entry.task, name, folder, self.quiet)

    def _with_less_memory(self, read: Read | None, tasks: Sequence[str]) -> list[Segmentation]:
        """Retry slice by slice if memory ran out."""
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
    """Remove the files that a failed case has written."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
