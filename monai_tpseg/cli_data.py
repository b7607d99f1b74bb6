"""The data commands of `tpseg`: check. They import PyTorch and MONAI only when there is work for them."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from monai_tpseg.tasks import TASK_NAMES

__all__ = ["add_data_commands"]

_CHECK = """\
Read every file that a datalist names, the way training does, and list what would break a training or silently spoil it:
files that are missing or damaged, masks that are none or of another size, pictures that stand in both lists, tasks with
one picture or without validation, empty masks. The table is Markdown on standard output.
"""
_CHECK_STATUS = "exit status: 0 nothing but notes, 3 warnings, 1 errors or no datalist, 2 the command line is wrong"


def add_data_commands(commands: Any) -> None:
    """Add the commands to the sub-parsers of `tpseg`."""
    raw = argparse.RawDescriptionHelpFormatter
    check = commands.add_parser(
        "check",
        help="check a datalist before a training",
        description=_CHECK,
        epilog=_CHECK_STATUS,
        formatter_class=raw,
    )
    check.add_argument("datalist", metavar="JSON", help="lists training and validation of image, label and task")
    check.add_argument("--root", metavar="DIR", help="folder that relative paths start from (that of the datalist)")
    check.add_argument("--tasks", metavar="T,T,...", help="the tasks of the training (all eight)")
    check.add_argument("--json", action="store_true", help="JSON with every finding instead of the table")
    check.add_argument("--workers", type=int, metavar="N", help="processes that read (one a core, 8 at most)")
    check.add_argument("--quiet", action="store_true", help="no progress bar")
    check.set_defaults(command=_check)


def _check(options: argparse.Namespace) -> int:
    from monai_tpseg.data.check import check_datalist
    from monai_tpseg.tasks import task_names

    if options.workers is not None and options.workers < 0:
        raise ValueError(f"--workers must be 0 or more processes, got {options.workers}.")
    tasks = task_names(options.tasks.split(",")) if options.tasks else TASK_NAMES
    report = check_datalist(options.datalist, options.root, tasks, options.workers, not options.quiet)
    sys.stdout.write((report.to_json() if options.json else report.markdown()) + "\n")
    return report.status
