"""`tpseg run`: segment studies, here or on a Ray cluster. PyTorch and MONAI are imported only for real work."""

from __future__ import annotations

import argparse
import logging
import math
import shlex
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tpseg.catalogue import TASK_NAMES, match_task
from monai_tpseg.cli.answer import AnswerError, answer, check_target, copy_mask, is_mask_file
from monai_tpseg.cli.run_options import OUT, add_engine, add_reading, add_settings, add_sources
from monai_tpseg.cli.usage import UsageError, from_options
from monai_tpseg.cores import reading_processes
from monai_tpseg.files import shown
from monai_tpseg.subprocesses import warm_up
from monai_tpseg.words import choose, nearest

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from monai_tpseg.io.probing import IsolatedFileAccess
    from monai_tpseg.networks.weights_info import WeightsInfo
    from monai_tpseg.studies import Entry, Limits, Settings

    Engine = Callable[[Sequence[tuple[str, Entry]]], Counter[str]]

__all__ = ["add_run_command", "check_exists", "run_studies"]

logger = logging.getLogger(__name__)

_READ = "monai_tpseg.transforms.transfer:read_packed"  # by name: PyTorch is imported by the reading processes first
_SHOWN = 5  # numbers of cases in a message

_RUN = """\
Segment one input for one or several tasks, or the studies of a manifest. Each case gets a folder OUT/cases/NAME with
its mask, lesions.csv, an overlay picture and result.json. OUT/manifest.csv maps each NAME to its source: keep it
private. For a single input, the command prints the path of the mask and the size of each lesion.

tpseg run mole.png --task skin_lesion                        results in ./tpseg_results
tpseg run mole.png --task skin_lesion --out mask.png         only the mask, in this file (volumes: .nii.gz)
tpseg run series/ --task lung_infection --out seg.dcm        a DICOM SEG for a DICOM source
tpseg run scans/ --task brain_tumor --out results            a folder of scans
"""


def add_run_command(commands: Any, status: str) -> None:
    """Add `run` to the sub-parsers of `tpseg`.

    Args:
        commands: the sub-parsers.
        status: what its help says about exit statuses.
    """
    raw = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser("run", help="segment studies", description=_RUN, epilog=status, formatter_class=raw)
    command.set_defaults(command=run_studies)
    add_sources(command)
    add_settings(command.add_argument_group("segmentation and output"))
    add_reading(command.add_argument_group("reading"))
    add_engine(command.add_argument_group("execution"))


def run_studies(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    one_file = bool(options.out) and _names_file(options)
    if options.out is None:
        options.out, options.resume = OUT, True
    _check(options)
    if one_file:
        return _run_into_file(options)
    status, cases = _run(options)
    if len({entry.place for _, entry in cases}) == 1 and options.input and not options.quiet:
        for name, _ in cases:
            folder = Path(options.out) / "cases" / name
            _say(answer(folder, _record(folder)))
    return status


def _names_file(options: argparse.Namespace) -> bool:
    """Whether `--out` is a file for one mask; what contradicts that is told before anything is read."""
    try:
        if not is_mask_file(options.out):
            if options.overwrite:
                raise UsageError(
                    "--overwrite is for a file given as --out; continue a folder of results with --resume."
                )
            return False
        if options.data or options.tasks is not None or options.resume:
            raise UsageError(
                f"'{options.out}' holds one mask: give IN and --task; for several, give a folder as --out."
            )
        if options.input:
            _check_named(options.input)
            check_target(options.input, options.out, options.overwrite)
    except AnswerError as error:
        raise UsageError(f"{error}") from error
    return True


def _check_named(source: str) -> None:
    from monai_tpseg.io.probing import IsolatedFileAccess

    with IsolatedFileAccess() as access:
        check_exists(source, access)


def _run_into_file(options: argparse.Namespace) -> int:
    """The same run, of which one file is kept."""
    with tempfile.TemporaryDirectory(prefix="tpseg-") as folder:
        inner = argparse.Namespace(**{**vars(options), "out": str(Path(folder) / "run")})
        status, cases = _run(inner, alone=True)
        case = Path(inner.out) / "cases" / cases[0][0]
        copy_mask(case, record := _record(case), options.out)
        if not options.quiet:
            _say(answer(case, record, options.out))
    return status


def _record(folder: Path) -> dict[str, Any] | None:
    from monai_tpseg.results.folder import read_result

    return read_result(folder)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{shown(line)}\n")


def _run(options: argparse.Namespace, alone: bool = False) -> tuple[int, list[tuple[str, Entry]]]:
    """Segment the cases, or one `alone`; return the exit status and the cases with the names of their folders."""
    if options.engine == "local":
        warm_up(_READ)
    from monai_tpseg.networks.fast.inference_form import choose_device, choose_precision
    from monai_tpseg.networks.weights_info import read_info
    from monai_tpseg.report.case_list import write_run_tables
    from monai_tpseg.studies import Limits, Settings, exit_status, prepare_output
    from monai_tpseg.studies.lock import locked
    from monai_tpseg.studies.manifest import shard_of
    from monai_tpseg.studies.run import check_output
    from monai_tpseg.transforms.pipelines import warn_of_other_pipelines
    from monai_tpseg.weights import choose_weights

    slides = {"mpp": options.mpp, "slide_mpp": options.slide_mpp, "skip_glass": not options.all_windows}
    more = {
        "seg": not options.no_seg,
        "sr": not options.no_sr,
        "skip_empty": options.skip_empty,
        "precision": options.precision,
        "runtime": options.runtime,
        "contours": options.contours,
        "refuse": options.refuse,
        "probabilities": options.probabilities,
        "encoding": options.encoding,
        "label_maps": tuple(sorted({name.strip() for name in options.label_maps.split(",") if name.strip()})),
    }
    readers = options.readers or (reading_processes() if options.engine == "local" else 1)
    with from_options():
        settings = Settings(options.threshold, options.min_lesion_area, **more, **slides)
        limits = Limits(options.read_timeout, options.read_memory, readers)
        if options.shard:
            shard_of([], options.shard)
        if options.engine == "local":  # before a folder of many studies is searched
            choose_precision(options.precision, choose_device(options.device))
    options.checkpoint = choose_weights(options.checkpoint)
    info = read_info(options.checkpoint, verify=options.engine == "ray")  # a model that is loaded here verifies too
    for task in _tasks(options, info.tasks):
        if task not in info.tasks:
            raise UsageError(f"The weights do not know {task}; {choose(task, info.tasks)}.")
    if info.method == "K-Prism":
        logger.warning("K-Prism weights are meant for clicks: tpseg annotate. Here they run without any.")
    with locked(options.out, options.shard):
        check_output(options.out, options.resume or bool(options.shard))
        entries = _entries(options, info.tasks)
        if alone and len(entries) != 1:
            raise UsageError(
                f"'{options.input}' holds {len(entries)} cases, but a file holds one mask: give a folder as --out."
            )
        _check_tasks(entries, info)
        warn_of_other_pipelines(info.preprocessing)
        engine = (_on_ray if options.engine == "ray" else _here)(options, settings, limits)
        resume, moved = options.resume or bool(options.shard), bool(options.root)
        cases = prepare_output(options.out, entries, options.names, resume, info.tasks, moved)
        counts = engine(cases)
        if not alone and counts:
            write_run_tables(options.out)
    if not alone:
        ended = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        logger.info("%s. Next: tpseg report %s", ended or "No case in this shard", shlex.quote(options.out))
    return exit_status(counts), cases


def _here(options: argparse.Namespace, settings: Settings, limits: Limits) -> Engine:
    from monai_tpseg.studies import Model, Reader, Run

    model = Model(options.checkpoint, options.device, settings, options.slice_batch, options.batch_memory)
    reader = Reader(limits, options.allow_secondary_capture)
    return Run(model, options.out, options.shard, options.resume, options.quiet, reader)


def _on_ray(options: argparse.Namespace, settings: Settings, limits: Limits) -> Engine:
    from monai_tpseg.studies.on_ray import Cluster, Job, RayRun

    more = (options.slice_batch, options.batch_memory, options.resume, limits, options.allow_secondary_capture)
    job = Job(options.checkpoint, options.out, options.device, settings, *more)
    return RayRun(job, Cluster(options.ray_address, options.workers), options.quiet)


def _check_tasks(entries: Sequence[Entry], info: WeightsInfo) -> None:
    tasks = enumerate((entry.task for entry in entries), start=1)
    unknown = [(number, task) for number, task in tasks if task and task not in info.tasks]
    if unknown:  # the word itself may be somebody's note; a name that it resembles is none
        near = [(n, nearest(task, info.tasks)) for n, task in unknown[:_SHOWN]]
        said = ", ".join(f"{n} (did you mean {name}?)" if name else f"{n}" for n, name in near)
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        logger.warning("The weights do not know the task of case %s%s: E_TASK.", said, more)


def _check(options: argparse.Namespace) -> None:
    if bool(options.input) == bool(options.data):
        raise UsageError("Give either IN with --task, or --data, not both.")
    tasks = _tasks(options, TASK_NAMES)
    if options.task and options.tasks is not None:
        raise UsageError("Give --task or --tasks, not both.")
    if len(set(tasks)) < len(tasks):
        raise UsageError(f"--tasks contains a task twice: {', '.join(tasks)}; give each once.")
    if options.input and not tasks:
        raise UsageError(f"There is no default task: give --task, one of {', '.join(TASK_NAMES)}.")
    if options.data and (options.task or options.tasks is not None):
        raise UsageError("The manifest gives the task of each case: omit --task.")
    if not options.data and (options.shard or options.root):
        raise UsageError("--shard and --root need --data, the manifest of tpseg scan.")
    if options.slice_batch != "auto" and options.slice_batch < 1:
        raise UsageError(f"--slice-batch must be 1 or more, or auto, got {options.slice_batch}.")
    if not 0 < options.batch_memory < math.inf:
        raise UsageError(f"--batch-memory must be more than 0 MiB, got {options.batch_memory:g}.")
    for name in ("readers", "read_memory", "workers"):
        if not 0 <= getattr(options, name) < math.inf:
            raise UsageError(
                f"--{name.replace('_', '-')} must be 0 (automatic) or more, got {getattr(options, name):g}."
            )
    if not 0 < options.read_timeout < math.inf:
        raise UsageError(f"--read-timeout must be more than 0 seconds, got {options.read_timeout:g}.")
    if options.engine == "local" and (options.workers or options.ray_address):
        raise UsageError("--workers and --ray-address need --engine ray; --readers is for both engines.")
    if options.engine == "ray" and options.shard:
        raise UsageError("--engine ray divides the cases itself: omit --shard.")


def _check_input(source: str, out: str, access: IsolatedFileAccess) -> None:
    check_exists(source, access)
    if access.same(Path(source), Path(out)):
        raise UsageError(f"'{out}' is both IN and --out: results would mix with the sources; choose another --out.")


def _entries(options: argparse.Namespace, known: Sequence[str]) -> list[Entry]:
    """The cases that the command line names; `known` are the tasks of the weights."""
    from monai_tpseg.io.probing import IsolatedFileAccess
    from monai_tpseg.studies import Limits, find_entries, known_salt, read_manifest

    salt = known_salt(options.out)
    if options.data:
        if options.root:
            with IsolatedFileAccess() as access:
                check_exists(options.root, access)
        rows = read_manifest(options.data, salt, options.root, salted=bool(options.shard))
        return [replace(row, task=match_task(row.task, known)) for row in rows]
    first, *others = _tasks(options, known)
    limits = Limits(options.read_timeout, options.read_memory)
    with IsolatedFileAccess(limits.seconds, limits.bytes) as access:
        _check_input(options.input, options.out, access)
        options.allow_secondary_capture |= access.place(Path(options.input)) == "file"  # named itself, it is meant
        found = find_entries(options.input, first, salt, options.out, access, options.quiet)
    return [replace(entry, task=task) for entry in found for task in ((first, *others) if entry.task else ("",))]


def _tasks(options: argparse.Namespace, known: Sequence[str]) -> list[str]:
    """The tasks that the command line names, as those of `known` that they mean."""
    listed = [options.task] if options.task else (options.tasks or "").split(",")
    return [match_task(name, known) for name in listed if name.strip()]


def check_exists(source: str, access: IsolatedFileAccess) -> None:
    """Name a source that is not there, or on a disc that does not answer, as it was typed.

    Raises:
        ValueError: there is nothing, or no answer.
    """
    place = access.place(Path(source))
    if place == "absent":
        raise ValueError(f"'{source}' does not exist; check the path.")
    if place == "silent":
        raise ValueError(f"'{source}' does not answer; check its disk.")
