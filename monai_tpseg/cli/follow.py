"""The `tpseg follow` command: what became of each lesion from one study to the next."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from monai_tpseg.cli.usage import UsageError, from_options, path_text

__all__ = ["add_follow_command"]

logger = logging.getLogger(__name__)

_FOLLOW = """\
Compare the lesions of a patient's studies: match them, report changes in size and longest diameter, and list lesions
that are new, gone, merged or split. DIR gets follow.html with both studies side by side, changes.csv with one line per
change, tracked_lesions.csv with a permanent name for each lesion, and follow.json.

tpseg follow results_may results_august --out change      two runs
tpseg follow results --out change                         one run with several dates of each patient

Patients are identified by the DICOM Patient ID. Other files must have the same path in both runs, or each run must
contain a single case. Studies are ordered by date, or as on the command line if a header has none.

Lesions are matched if the patient spaces agree: by the frame of reference, or by a rigid registration of the scans that
passes its checks. Otherwise the studies are shown side by side without matching, and the page gives the reason.
"""
_STATUS = """\
exit status: 0 all studies matched, 3 at least one pair not matched (the page and follow.json give the reason),
1 nothing could be compared, 2 invalid command line
"""


def add_follow_command(commands: Any) -> None:
    """Add the command to the sub-parsers of `tpseg`."""
    raw = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        "follow", help="compare lesions across dates", description=_FOLLOW, epilog=_STATUS, formatter_class=raw
    )
    command.add_argument(
        "outs",
        nargs="+",
        type=path_text,
        metavar="OUT",
        help="one or two --out folders of tpseg run, the earlier first",
    )
    command.add_argument("--out", required=True, type=path_text, metavar="DIR", help="folder for the results")
    command.add_argument(
        "--tolerance", type=float, default=10.0, metavar="MM",
        help="maximum distance between the centres of matching lesions without overlap (%(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--no-register",
        action="store_true",
        help="match only scans with the same frame of reference, without registration",
    )
    command.add_argument("--quiet", action="store_true", help="print only errors")
    command.set_defaults(command=_follow)


def _follow(options: argparse.Namespace) -> int:
    if len(options.outs) > 2:
        raise UsageError(f"Give one or two folders of runs, got {len(options.outs)}.")
    from monai_tpseg.follow import follow
    from monai_tpseg.follow.follow_page import PAGE
    from monai_tpseg.follow.follow_up import check_tolerance
    from monai_tpseg.results.codes import ExitStatus
    from monai_tpseg.words import count

    with from_options():
        check_tolerance(options.tolerance)
    followed = follow(options.outs, options.out, options.tolerance, not options.no_register)
    compared = [comparison for one in followed for comparison in one.comparisons]
    unsafe = sum(bool(comparison.reason) for comparison in compared)
    said = f"{count(len(compared), 'pair')} of studies"
    said += f", {unsafe} not matched: the page says why" if unsafe else ""
    logger.info("Wrote %s/%s: %s.", options.out, PAGE, said)
    return ExitStatus.PARTIAL if unsafe else ExitStatus.OK
