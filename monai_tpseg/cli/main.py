"""The `tpseg` command: scan, run, report. It imports PyTorch and MONAI only when there is work for them."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from monai_tpseg.cli.annotate import add_annotate_command
from monai_tpseg.cli.calibrate import add_calibrate_command
from monai_tpseg.cli.completion import complete
from monai_tpseg.cli.data import add_data_commands
from monai_tpseg.cli.experiments import add_commands as add_experiments
from monai_tpseg.cli.export import add_export_command
from monai_tpseg.cli.follow import add_follow_command
from monai_tpseg.cli.new_task import add_new_task_command
from monai_tpseg.cli.pacs import add_pacs_commands
from monai_tpseg.cli.pretrain import add_pretrain_command, pretrain_own
from monai_tpseg.cli.run import add_run_command, check_exists, run_studies
from monai_tpseg.cli.train import add_train_command, train_own
from monai_tpseg.cli.usage import UsageError, path_text
from monai_tpseg.cli.weights import add_weights_command
from monai_tpseg.cores import let_threads_sleep
from monai_tpseg.files import FULL, shown, threads_in_one_line
from monai_tpseg.subprocesses import warm_up
from monai_tpseg.version import __version__
from monai_tpseg.words import count, nearest

__all__ = ["main"]

logger = logging.getLogger(__name__)

_TOP = """\
Segment lesions in pictures, volumes and folders of studies (DICOM, NIfTI, PNG, ...); write masks, tables and a report.

one picture:   tpseg run my.png --task skin_lesion       prints the path of the mask and the size of each lesion
one task:      tpseg run scans/ --task lung_infection --out results
several tasks: tpseg scan scans/ --out manifest.csv      then fill in the empty cells of the column 'task'
               tpseg run --data manifest.csv --out results
then:          tpseg report results                      writes results/report.html
across dates:  tpseg follow results_may results_august --out change
your own data: tpseg train --data moles/ --task skin_lesion --out run
by hand:       tpseg annotate scan.nii.gz                opens a browser

Without --checkpoint the starter weights of the package are used. Interrupted? Repeat the command with --resume to
continue; complete cases are kept.
"""
_GROUPS = {
    "segment and review": ("run", "scan", "report", "follow", "annotate"),
    "image archive (PACS)": ("listen", "fetch", "send"),
    "your own data and weights": ("prepare", "check", "train", "calibrate", "new-task", "weights", "export"),
    "research": ("pretrain", "experiment", "table", "grid", "cost"),
}
"""Heading of `tpseg --help` -> its commands: those for users first."""
_STATUS = """\
exit status: 0 all cases segmented, 3 at least one case skipped or failed (its result.json gives the reason and remedy),
1 nothing could be run (a file is missing or unusable), 2 invalid command line (nothing was started), 130 stopped with
Ctrl-C
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `tpseg` command.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        the exit status: 0 all cases segmented, 1 fatal, 2 usage, 3 partial, 130 stopped with Ctrl-C, 143 by SIGTERM.
    """
    parser = _parser()
    complete(parser)
    options = argparse.Namespace()
    try:
        parser.parse_args(argv, options)
        let_threads_sleep()
        with _speaking(options.quiet), _stoppable(), threads_in_one_line():
            return int(options.command(options))
    except (UsageError, ValueError, OSError) as error:  # StudyError, ReadError, CheckpointError; no space, no right
        sys.stderr.write(f"Error: {shown(' '.join(_line(error).split()))}\n")
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt as stopped:
        sys.stderr.write(f"Stopped.{_HINTS.get(options.command, '')}\n")
        return 128 + (stopped.args[0] if stopped.args else signal.SIGINT)


def _line(error: Exception) -> str:
    """What went wrong, without the number and the second name that Python puts about an error of the system."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    where = f"'{os.fsdecode(error.filename)}': " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    return f"{where}{error.strerror}{_WAYS_OUT.get(error.errno or 0, '')}."


_WAYS_OUT = {
    **dict.fromkeys(FULL, "; free some space, then repeat the command"),
    errno.EISDIR: "; a folder lies where a file is needed: choose another name",
    errno.ENAMETOOLONG: "; choose a shorter one",
    errno.EROFS: "; choose a place that can be written",
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "; a file lies where a folder is needed: choose another place"),
}


class _Parser(argparse.ArgumentParser):
    """Names the choice or option that a mistyped one resembles."""

    def error(self, message: str) -> NoReturn:
        if found := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)$", message):
            close = nearest(found[1], re.findall(r"[^\s,']+", found[2]))
        elif found := re.match(r"unrecognized arguments: (--[^\s=]+)", message):
            close = nearest(found[1], self._options_of_command())
        else:
            close = ""
        message = re.sub(r"^argument (\S+): ", r"\1: ", message)
        raise UsageError(f"{message}; did you mean {close}?" if close else f"{message}; see {self.prog} --help.")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def _options_of_command(self) -> list[str]:
        """The options of the command that was called, which leaves unknown ones to this parser."""
        options = [option for action in self._actions for option in action.option_strings]
        for action in self._actions:
            inner = action.choices if isinstance(action, argparse._SubParsersAction) else {}
            named = next((word for word in self.given if word in inner), None)
            options += inner[named]._options_of_command() if named else []
        return options


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    usage = "tpseg [-h] [--version] COMMAND ..."
    parser = _Parser("tpseg", usage=usage, epilog=_STATUS, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"tpseg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", prog="tpseg", help=argparse.SUPPRESS)
    _add_scan(commands.add_parser("scan", help="list the studies of a folder and propose a task for each"))
    add_run_command(commands, _STATUS)
    _add_report(commands.add_parser("report", help="write an HTML report on a run"))
    add_follow_command(commands)
    add_annotate_command(commands)
    add_data_commands(commands)
    add_train_command(commands)
    add_pretrain_command(commands)
    add_experiments(commands)
    add_export_command(commands)
    add_new_task_command(commands)
    add_calibrate_command(commands)
    add_pacs_commands(commands)
    add_weights_command(commands)
    parser.description = f"{_TOP}\n{_grouped(commands)}\n\n'tpseg COMMAND --help' explains a command."
    return parser


def _grouped(commands: argparse._SubParsersAction[_Parser]) -> str:
    """List the commands beneath their headings; argparse itself has groups of options only."""
    about = {action.dest: action.help for action in commands._choices_actions}
    lines = []
    for heading, names in _GROUPS.items():
        lines += [f"{heading}:", *(f"    {name:<12}{about[name]}" for name in names)]
    return "\n".join(lines)


def _add_scan(command: argparse.ArgumentParser) -> None:
    command.description = (
        "List the studies of a folder by their headers and propose a task for each. Ambiguous studies, such as "
        "ultrasound (thyroid or breast) or NIfTI, get no task and are skipped until you enter one in the CSV. "
        "An existing CSV keeps its rows; new studies are added."
    )
    command.add_argument("input", type=path_text, metavar="IN", help="a folder of studies, or one study")
    command.add_argument(
        "--out",
        required=True,
        type=path_text,
        metavar="CSV",
        help="manifest to write or extend; contains paths, mode 0600",
    )
    command.add_argument("--quiet", action="store_true", help="print only errors")
    command.set_defaults(command=_scan)


def _add_report(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Write OUT/report.html: pictures with the worst first, all lesions, and their provenance. The page loads "
        "nothing from the network. Also update cases.csv and lesions.csv of the whole run."
    )
    command.add_argument("out", type=path_text, metavar="OUT", help="the --out of a run")
    command.add_argument(
        "--sources", action="store_true",
        help="show the source of each case from manifest.csv; file names may identify patients: keep the page private",
    )  # fmt: skip
    command.add_argument("--quiet", action="store_true", help="print only errors")
    command.set_defaults(command=_report)


def _scan(options: argparse.Namespace) -> int:
    warm_up("monai_tpseg.io.file_access:answer")
    from monai_tpseg.io.probing import IsolatedFileAccess
    from monai_tpseg.studies import merge_scan, read_manifest, scan, write_manifest
    from monai_tpseg.studies.manifest_merge import with_real_roots

    known = read_manifest(options.out) if os.path.exists(options.out) else []
    with IsolatedFileAccess() as access:
        check_exists(options.input, access)
        found = scan(options.input, access, options.quiet)
        known, top = with_real_roots(known, access), access.real(Path(options.input).absolute())
    merged = merge_scan(known, found, top)
    write_manifest(options.out, merged.rows)
    said = [count(len(merged.rows), "case")]
    if known:
        said.append(f"{merged.new} new")
        said += [f"{merged.gone} not found any more"] * bool(merged.gone)
        said += [f"{merged.divided} replaced, as their folders are divided anew"] * bool(merged.divided)
    open_tasks = sum(not entry.task for entry in merged.rows)
    todo = f"{open_tasks} without a task: fill in the column 'task'" if open_tasks else "each with a task: check them"
    logger.info("Wrote %s: %s, %s.", options.out, ", ".join(said), todo)
    return 0


def _report(options: argparse.Namespace) -> int:
    from monai_tpseg.report.case_list import collect
    from monai_tpseg.report.page import write_report
    from monai_tpseg.results.codes import ExitStatus

    cases = collect(options.out)
    logger.info("Wrote %s.", write_report(options.out, cases, options.sources))
    return ExitStatus.PARTIAL if any(case.record["code"] == "E_RESULT" for case in cases) else ExitStatus.OK


_HINTS = {
    run_studies: " Repeat the command with --resume to continue.",
    train_own: " Repeat the command with --resume to continue.",
    pretrain_own: " Repeat the command with --resume to continue.",
    _scan: " Nothing was written; repeat the command to start again.",
}


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM, or a terminal that closes, ends a command as Ctrl-C does: what is being written is removed, and one line
    says how to go on. `nohup` keeps the second from it."""

    def stop(number: int, _frame: Any) -> None:
        raise KeyboardInterrupt(number)

    numbers = (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))
    heard = [number for number in numbers if number is not None and signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Shown(logging.Formatter):
    """Names of files may hold what a terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))


@contextmanager
def _speaking(quiet: bool) -> Iterator[None]:
    """Only this package speaks, on standard error; messages of libraries may repeat what a header holds."""
    own, root = logging.getLogger("monai_tpseg"), logging.root
    before = own.handlers, own.level, own.propagate, root.handlers
    own.handlers, own.propagate, root.handlers = [logging.StreamHandler()], False, [logging.NullHandler()]
    own.handlers[0].setFormatter(_Shown())
    own.setLevel(logging.ERROR if quiet else logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        own.handlers, own.propagate, root.handlers = before[0], before[2], before[3]
        own.setLevel(before[1])
