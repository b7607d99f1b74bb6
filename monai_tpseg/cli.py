"""The `tpseg` command: scan, run, report. It imports PyTorch and MONAI only when there is work for them."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from monai_tpseg import __version__
from monai_tpseg.apart import warm_up
from monai_tpseg.cli_data import add_data_commands
from monai_tpseg.cli_export import add_export_command
from monai_tpseg.experiments.command import add_commands as add_experiments
from monai_tpseg.tasks import TASK_NAMES

if TYPE_CHECKING:
    from monai_tpseg.studies import Entry

__all__ = ["main"]

logger = logging.getLogger("monai_tpseg.cli")  # __name__ is __main__ under python -m

_READ = "monai_tpseg.transforms.handover:read_packed"  # by name: PyTorch is imported by the reading processes first

_TOP = """\
Segment lesions in many studies: DICOM, NIfTI and pictures in; masks, measurements and a report out.

one task:      tpseg run scans/ --task lung_infection --out results --checkpoint model.pt
several tasks: tpseg scan scans/ --out manifest.csv        (then fill in the column 'task' where it is empty)
               tpseg run --manifest manifest.csv --out results --checkpoint model.pt
then:          tpseg report results                        (open results/report.html)

Stopped half way? The same command with --resume goes on; what is complete is left alone.
"""
_STATUS = """\
exit status: 0 every case is segmented, 3 at least one was skipped or failed (its result.json says why and what to do),
1 nothing could be run, 2 the command line is wrong
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `tpseg` command.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        the exit status: 0 all cases segmented, 1 fatal, 2 usage, 3 partial.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        with _speaking(options.quiet), _stoppable():
            return int(options.command(options))
    except (_UsageError, ValueError, OSError) as error:  # StudyError, ReadError, CheckpointError; no space, no right
        sys.stderr.write(f"Error: {' '.join(str(error).split())}\n")
        return 2 if isinstance(error, _UsageError) else 1
    except KeyboardInterrupt:
        hint = " The same command with --resume goes on." if options.command is _run else ""
        sys.stderr.write(f"Stopped.{hint}\n")
        return 1


class _UsageError(Exception):
    """A command line that contradicts itself."""


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("tpseg", description=_TOP, epilog=_STATUS, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"tpseg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="{scan,run,report,prepare,check,export}")
    _add_scan(commands.add_parser("scan", help="list the studies of a folder and propose a task for each"))
    _add_run(commands.add_parser("run", help="segment studies", description=_RUN, epilog=_STATUS, formatter_class=raw))
    _add_report(commands.add_parser("report", help="write one HTML file about a run"))
    add_data_commands(commands)
    add_experiments(commands)
    add_export_command(commands)
    return parser


_RUN = """\
Segment one input for one task, or the studies of a manifest. Each case gets a folder OUT/cases/NAME with its mask,
lesions.csv, an overlay picture and result.json. OUT/manifest.csv says which source a NAME is: keep it private.
"""


def _add_scan(command: argparse.ArgumentParser) -> None:
    command.description = (
        "List the studies of a folder by their headers and propose a task for each. What is ambiguous, such as "
        "ultrasound (thyroid or breast) or NIfTI, gets no task and is skipped until you write one into the CSV."
    )
    command.add_argument("input", metavar="IN", help="a folder of studies, or one study")
    command.add_argument("--out", required=True, metavar="CSV", help="manifest to write; holds paths, mode 0600")
    command.add_argument("--quiet", action="store_true", help="say nothing but errors")
    command.set_defaults(command=_scan)


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("input", metavar="IN", nargs="?", help="a file, a DICOM series or a folder of them")
    command.add_argument("--task", choices=TASK_NAMES, metavar="T", help=f"what to segment: {', '.join(TASK_NAMES)}")
    command.add_argument("--manifest", metavar="CSV", help="instead of IN and --task: what tpseg scan wrote")
    command.add_argument("--root", metavar="DIR", help="folder that the manifest's paths start at, where it has moved")
    command.add_argument("--out", required=True, metavar="OUT", help="folder of the results")
    command.add_argument("--checkpoint", required=True, metavar="W", help="weights (model.pt, with model.json beside)")
    command.add_argument("--resume", action="store_true", help="go on in OUT; recompute what has changed or failed")
    command.add_argument("--shard", default="", metavar="i/n", help="the i-th of n parts of a manifest, e.g. 1/4")
    command.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, ...; the first GPU by default")
    command.add_argument("--threshold", type=float, default=0.5, help="probability from which a pixel is lesion (0.5)")
    command.add_argument("--min-lesion-area", type=int, default=0, help="drop lesions of fewer pixels or voxels (0)")
    command.add_argument("--no-seg", action="store_true", help="no DICOM SEG; by default DICOM sources get one")
    command.add_argument("--mpp", type=float, help="micrometres a pixel that whole slides are read at", metavar="UM")
    command.add_argument("--slide-mpp", type=float, help="the same, of slides that do not say theirs", metavar="UM")
    command.add_argument("--all-windows", action="store_true", help="run windows of slides that show no tissue too")
    command.add_argument("--slice-batch", type=int, default=8, help="slices or windows that run together (8)")
    command.add_argument(
        "--allow-secondary-capture", action="store_true", help="segment DICOM pictures of screens and paper too"
    )
    command.add_argument(
        "--readers", type=int, default=0, help="processes that read the next cases (a half of the cores, up to 4)"
    )
    command.add_argument("--read-timeout", type=float, default=300, help="seconds to read one case (300)", metavar="S")
    command.add_argument(
        "--read-memory",
        type=float,
        default=0,
        help="GiB to read one case (half of the machine's, divided among the readers)",
        metavar="GIB",
    )
    command.add_argument(
        "--names", choices=("salted", "source"), default="salted",
        help="names of the cases: salted ids, or those of the sources (which may hold patients' names)",
    )  # fmt: skip
    command.add_argument("--quiet", action="store_true", help="no progress bar, nothing but errors")
    command.set_defaults(command=_run)


def _add_report(command: argparse.ArgumentParser) -> None:
    command.description = "Write OUT/report.html: pictures worst first, every lesion, what made it; no network."
    command.add_argument("out", metavar="OUT", help="the --out of a run")
    command.add_argument("--quiet", action="store_true", help="say nothing but errors")
    command.set_defaults(command=_report)


def _scan(options: argparse.Namespace) -> int:
    from monai_tpseg.studies import scan, write_manifest

    entries = scan(options.input)
    write_manifest(options.out, entries)
    open_tasks = sum(not entry.task for entry in entries)
    logger.info("%d cases, %d of them without a task: fill in the column 'task'.", len(entries), open_tasks)
    return 0


def _run(options: argparse.Namespace) -> int:
    _check_run(options)
    warm_up(_READ)
    from monai_tpseg.studies import Limits, Model, Reader, Run, Settings, exit_status, prepare_output

    # a file that is named itself is meant, whatever it is
    screenshots = options.allow_secondary_capture or os.path.isfile(options.input or "")
    reader = Reader(Limits(options.read_timeout, options.read_memory, options.readers or _readers()), screenshots)
    slides = {"mpp": options.mpp, "slide_mpp": options.slide_mpp, "skip_glass": not options.all_windows}
    settings = Settings(options.threshold, options.min_lesion_area, seg=not options.no_seg, **slides)
    entries = _entries(options)
    model = Model(options.checkpoint, options.device, settings, options.slice_batch)
    if options.task and options.task not in model.info.tasks:
        raise _UsageError(f"The weights do not know {options.task}; choose one of {', '.join(model.info.tasks)}.")
    if model.preprocessing != model.info.preprocessing:
        logger.warning("The modality files in transforms/ differ from those the weights were trained with.")
    cases = prepare_output(options.out, entries, options.names, options.resume or bool(options.shard))
    counts = Run(model, options.out, options.shard, options.resume, options.quiet, reader)(cases)
    ended = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    logger.info("%s. Next: tpseg report OUT", ended or "No case in this shard")
    return exit_status(counts)


def _report(options: argparse.Namespace) -> int:
    from monai_tpseg.studies.report import REPORT, write_report

    write_report(options.out)
    logger.info("Wrote %s into the output folder.", REPORT)
    return 0


def _check_run(options: argparse.Namespace) -> None:
    if bool(options.input) == bool(options.manifest):
        raise _UsageError("Give either IN with --task, or --manifest; not both, not neither.")
    if options.input and not options.task:
        raise _UsageError(f"There is no default task: give --task, one of {', '.join(TASK_NAMES)}.")
    if options.manifest and options.task:
        raise _UsageError("The manifest names the task of each case: leave --task out.")
    if not options.manifest and (options.shard or options.root):
        raise _UsageError("--shard and --root need --manifest: write one with tpseg scan.")
    if options.slice_batch < 1:
        raise _UsageError(f"--slice-batch must be 1 or more, got {options.slice_batch}.")
    if options.readers < 0 or options.read_timeout <= 0 or options.read_memory < 0:
        raise _UsageError("--read-timeout must be more than 0, --readers and --read-memory 0 (automatic) or more.")


def _entries(options: argparse.Namespace) -> list[Entry]:
    from monai_tpseg.studies import find_entries, known_salt, read_manifest

    salt = known_salt(options.out)
    if options.manifest:
        return read_manifest(options.manifest, salt, options.root, salted=bool(options.shard))
    return find_entries(options.input, options.task, salt)


def _readers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, max(1, cores // 2))


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: what is being written is removed, and one line says how to go on."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _speaking(quiet: bool) -> Iterator[None]:
    """Only this package speaks, on standard error; messages of libraries may repeat what a header holds."""
    own, root = logging.getLogger("monai_tpseg"), logging.root
    before = own.handlers, own.level, own.propagate, root.handlers
    own.handlers, own.propagate, root.handlers = [logging.StreamHandler()], False, [logging.NullHandler()]
    own.setLevel(logging.ERROR if quiet else logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        own.handlers, own.propagate, root.handlers = before[0], before[2], before[3]
        own.setLevel(before[1])


if __name__ == "__main__":
    sys.exit(main())
