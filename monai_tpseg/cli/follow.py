"""The `tpseg follow` command: what became of each lesion from one study to the next."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from monai_tpseg.cli.run import UsageError

__all__ = ["add_follow_command"]

logger = logging.getLogger(__name__)

_FOLLOW = """\
Compare the lesions of a patient's studies: which is which, how each has changed in size and longest diameter, which
are new, gone, merged or split. DIR gets follow.html with both studies side by side, changes.csv with a line for each
change, tracked_lesions.csv with a name for each lesion that persists through all studies, and follow.json.

tpseg follow results_may results_august --out change      two runs
tpseg follow results --out change                         one run that holds several dates of each patient

A patient is known by the Patient ID of DICOM. Other files must have the same path in both runs, or each run holds one
case. Studies are put in the order of their dates, or of the command line where a header has none.

Lesions are matched where the patient spaces agree: by the frame of reference, or by a rigid registration of the scans
that passes its check. Pictures and scans that fail it are shown side by side, and not matched: the page says why.
"""
_STATUS = """\
exit status: 0 all studies were matched, 3 at least two of a patient were not (the page and follow.json say why),
1 nothing could be compared, 2 the command line is wrong
"""


def add_follow_command(commands: Any) -> None:
    """Add the command to the sub-parsers of `tpseg`."""
    raw = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        "follow", help="compare lesions across dates", description=_FOLLOW, epilog=_STATUS, formatter_class=raw
    )
    command.add_argument(
        "outs", nargs="+", metavar="OUT", help="one or two --out folders of tpseg run, the earlier first"
    )
    command.add_argument("--out", required=True, metavar="DIR", help="folder of the follow-up")
    command.add_argument(
        "--tolerance", type=float, default=10.0, metavar="MM",
        help="largest distance of the middles of two lesions that do not overlap (%(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--no-register", action="store_true", help="match only scans of one frame of reference; register none"
    )
    command.add_argument("--quiet", action="store_true", help="say nothing but errors")
    command.set_defaults(command=_follow)


def _follow(options: argparse.Namespace) -> int:
    if len(options.outs) > 2:
        raise UsageError(f"Give one or two folders of runs, got {len(options.outs)}.")
    from monai_tpseg.follow import follow
    from monai_tpseg.follow.follow_page import PAGE
    from monai_tpseg.results.codes import ExitStatus
    from monai_tpseg.words import count

    followed = follow(options.outs, options.out, options.tolerance, not options.no_register)
    compared = [comparison for one in followed for comparison in one.comparisons]
    unsafe = sum(bool(comparison.reason) for comparison in compared)
    said = f"{count(len(compared), 'pair')} of studies"
    said += f", {unsafe} not matched: the page says why" if unsafe else ""
    logger.info("Wrote %s/%s: %s.", options.out, PAGE, said)
    return ExitStatus.PARTIAL if unsafe else ExitStatus.OK
