"""Runs on a Ray cluster: one actor per GPU, or per group of CPUs, segments case after case."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from monai_tpseg.cores import cores
from monai_tpseg.results.codes import DeviceLostError, StudyError, failed
from monai_tpseg.results.folder import sweep
from monai_tpseg.studies.case import CASES, CaseOutcome, CaseRunner
from monai_tpseg.studies.case_plan import Plan
from monai_tpseg.studies.events import EVENTS, events
from monai_tpseg.studies.joint_tasks import NamedEntry, finish_group, group_by_source, group_plans
from monai_tpseg.studies.model import Model, Settings
from monai_tpseg.studies.reading import Limits, Reader
from monai_tpseg.subprocesses import NoProcessError
from monai_tpseg.words import how_to_install

__all__ = ["Cluster", "Job", "RayRun", "Worker"]

_CPUS = 4  # CPUs of a worker without a GPU: more add little to one network
_RETRIES = 1  # retries of a case whose worker died
_DYING = "Ray workers keep dying; check the cluster, then continue with --resume."
_Cases = tuple[NamedEntry, ...]  # of one source


@dataclass(frozen=True)
class Job:
    """Arguments of all workers.

    Attributes:
        checkpoint: weights, at a path valid on all machines.
        out: output folder, at a path valid on all machines.
        device: see `choose_device`.
        settings: see `Model`.
        slice_batch, memory_mb: see `Model`.
        resume: see `CaseRunner`.
        limits: see `Reader`.
        screenshots: see `Reader`.
    """

    checkpoint: Path
    out: Path
    device: str | None = None
    settings: Settings = field(default_factory=Settings)
    slice_batch: int | Literal["auto"] = "auto"
    memory_mb: float = 1024
    resume: bool = False
    limits: Limits = field(default_factory=Limits)
    screenshots: bool = True


@dataclass(frozen=True)
class Cluster:
    """The cluster of a job.

    Attributes:
        address: address of a Ray cluster, `auto` for that of this machine; "" starts one on this machine for the run.
        workers: number of actors; 0 means one per GPU, or one per four CPUs without a GPU.
    """

    address: str = ""
    workers: int = 0

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise StudyError(f"The number of workers must be 0 (automatic) or more, got {self.workers}.")
        if importlib.util.find_spec("ray") is None:
            raise StudyError(f"Ray is not installed: {how_to_install('ray')}, or use --engine local.")

    def share(self, resources: dict[str, float], device: str | None) -> tuple[int, dict[str, float]]:
        """Return the number of workers, and the CPUs and GPUs of each.

        Args:
            resources: resources of the cluster, by Ray's names.
            device: requested device; None uses GPUs if there are any.

        Raises:
            StudyError: the cluster has too few resources.
        """
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        wants_gpu = gpus > 0 if device is None else device.startswith("cuda")
        available, kind = (gpus, "GPUs") if wants_gpu else (cpus, "CPUs")
        count = self.workers or (gpus if wants_gpu else max(1, cpus // _CPUS))
        if not 1 <= count <= available:
            raise StudyError(f"--workers {max(count, 1)} needs as many {kind}, the cluster has {available}; lower it.")
        each = max(1, cpus // count)
        return count, {"num_cpus": each if wants_gpu else min(each, 2 * _CPUS), "num_gpus": float(wants_gpu)}


class Worker:
    """Actor that loads the model once and segments cases, reading the next one ahead.

    Args:
        job: job of the run.
        threads: number of PyTorch threads.
    """

    def __init__(self, job: Job, threads: int) -> None:
        torch.set_num_threads(threads)
        self.runner: CaseRunner | None = None
        self.trouble = ""
        self._ahead: dict[str, Plan] = {}
        self._reader = Reader(job.limits, job.screenshots)
        try:
            model = Model(job.checkpoint, job.device, job.settings, job.slice_batch, job.memory_mb)
            self.runner = CaseRunner(model, job.out, job.resume, limits=job.limits)
        except (ValueError, OSError) as error:  # Ray would show a traceback
            self.trouble = str(error)

    def ready(self) -> str:
        """Return the reason why this worker cannot work, or ""."""
        return self.trouble

    def take(self, cases: _Cases, following: _Cases) -> list[CaseOutcome] | StudyError:
        """Segment the cases of one source while the source of the likely next ones is read.

        Returns:
            their outcomes, or the reason why writing has become impossible.
        """
        assert self.runner is not None
        try:
            plans = [
                self._ahead.pop(case[0]) if case[0] in self._ahead else self.runner.planner.plan(*case)
                for case in cases
            ]
            groups, ended = list(group_plans(plans, self.runner)), list[CaseOutcome]()
            for group in groups:
                read = None if group[0].source is None else self._reader.get(group[0].source)
                if group is groups[-1]:
                    self._read_ahead(following)
                ended += finish_group(self.runner, group, read)
            return ended
        except DeviceLostError:
            os._exit(1)  # Ray starts another process, in which the device may respond again
        except (NoProcessError, StudyError) as error:  # not caused by a case: the run ends
            return StudyError(str(error))

    def _read_ahead(self, cases: _Cases) -> None:
        assert self.runner is not None
        self._ahead = {case[0]: self.runner.planner.plan(*case) for case in cases}
        sources = [plan.source for plan in self._ahead.values() if plan.source is not None]
        if sources:
            self._reader.ask(sources[0])

    def lost(self, cases: _Cases, code: str) -> list[CaseOutcome] | StudyError:
        """Record cases whose workers died repeatedly."""
        return [self._lost(case, code) for case in cases]

    def _lost(self, case: NamedEntry, code: str) -> CaseOutcome:
        assert self.runner is not None
        plan = self.runner.planner.plan(*case)
        kept = self.runner.planner.kept(plan.name, plan.key)  # it may have died just after writing the case
        if kept is not None:
            return CaseOutcome(plan.name, kept, kept=plan.kept)
        return self.runner.finish(replace(plan, source=None, outcome=failed(code)), None)


class RayRun:
    """Segment cases into an output folder with the workers of a cluster.

    Args:
        job: arguments of the workers.
        cluster: the cluster.
        quiet: show no progress bar.
    """

    def __init__(self, job: Job, cluster: Cluster, quiet: bool = False) -> None:
        self.job = replace(job, checkpoint=Path(job.checkpoint).absolute(), out=Path(job.out).absolute())
        self.cluster = cluster
        self.quiet = quiet

    def __call__(self, cases: Sequence[NamedEntry]) -> Counter[str]:
        """Segment `cases` and return the number of cases by status, including those of an earlier run.

        Raises:
            StudyError: the cluster is too small, its workers cannot work, or writing has become impossible.
        """
        sweep(self.job.out / CASES, "all")
        try:
            with _connected(self.cluster.address) as ray:
                workers = self._workers(ray)
                with events(self.job.out / EVENTS, len(cases), self.quiet) as record:
                    for ended in _distributed(ray, workers, group_by_source(cases)):
                        if isinstance(ended, StudyError):
                            raise ended
                        for one in ended:
                            record.ended(one)
                return record.counts
        finally:
            sweep(self.job.out / CASES, "all")

    def _workers(self, ray: Any) -> list[Any]:
        count, share = self.cluster.share(ray.cluster_resources(), self.job.device)
        # a worker that dies is restarted as long as the cluster exists, and its case is retried once
        options = {**share, "max_restarts": -1, "max_task_retries": _RETRIES}
        actor = ray.remote(Worker).options(**options)
        workers = [actor.remote(self.job, int(share["num_cpus"])) for _ in range(count)]
        try:
            troubles = ray.get([worker.ready.remote() for worker in workers])
        except ray.exceptions.RayError:
            raise StudyError(_DYING) from None
        for trouble in filter(None, troubles):
            raise StudyError(trouble)
        return workers


def _distributed(
    ray: Any, workers: Sequence[Any], groups: Sequence[_Cases]
) -> Iterator[list[CaseOutcome] | StudyError]:
    """Yield the outcomes of the cases of each source, in any order; each worker knows its next cases."""
    waiting = deque(groups)
    following: dict[Any, _Cases] = {}
    running: dict[Any, tuple[Any, _Cases]] = {}

    def give(worker: Any) -> None:
        if worker in following:
            cases = following.pop(worker)
        elif waiting:
            cases = waiting.popleft()
        elif following:  # work that another worker would only reach later
            cases = following.pop(next(iter(following)))
        else:
            return
        if waiting:
            following[worker] = waiting.popleft()
        running[worker.take.remote(cases, following.get(worker, ()))] = worker, cases

    for worker in workers:
        give(worker)
    while running:
        (done, *_), _ = ray.wait(list(running), num_returns=1)
        worker, cases = running.pop(done)
        try:
            yield ray.get(done)
        except ray.exceptions.RayError as error:
            code = "E_MEMORY" if isinstance(error, ray.exceptions.OutOfMemoryError) else "E_CRASH"
            yield _recorded(ray, worker, cases, code)
        give(worker)


def _recorded(ray: Any, worker: Any, cases: _Cases, code: str) -> list[CaseOutcome] | StudyError:
    try:
        ended: list[CaseOutcome] | StudyError = ray.get(worker.lost.remote(cases, code))
        return ended
    except ray.exceptions.RayError:
        return StudyError(_DYING)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray without dashboard, telemetry and messages; a cluster started here is removed completely."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    import ray

    own = tempfile.mkdtemp(prefix="tpseg-ray-") if not address else ""
    where: dict[str, Any] = {"_temp_dir": own, "num_cpus": cores()} if own else {"address": address}
    before = signal.getsignal(signal.SIGTERM)  # Ray replaces it
    try:
        ray.init(include_dashboard=False if own else None, log_to_driver=False, logging_level="ERROR", **where)
        signal.signal(signal.SIGTERM, before)
        yield ray
    except ConnectionError as error:
        raise StudyError(f"No Ray cluster at '{address}'; start one with ray start, or omit --ray-address.") from error
    finally:
        ray.shutdown()
        shutil.rmtree(own, ignore_errors=True) if own else None
