"""The `tpseg calibrate` command: what is fitted after training, beside the weights."""

from __future__ import annotations

import argparse
import logging
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tpseg.cli.run_options import add_checkpoint, add_device
from monai_tpseg.cli.usage import UsageError, from_options, path_text
from monai_tpseg.words import count

if TYPE_CHECKING:
    from monai_tpseg.studies.trust_fitting import Sample

__all__ = ["add_calibrate_command"]

logger = logging.getLogger(__name__)

_OTHERS = 2  # tasks that each picture is asked for besides its own

_CALIBRATE = """\
Fit models that estimate how far a mask can be trusted, and write them beside the weights.

contours: for each task, the threshold that misses at most the share --miss of a lesion's pixels in expectation, and the
          threshold with at most the share --false of non-lesion pixels inside. Needs cases unseen in training, at least
          9 per task for a share of 0.1; used by tpseg run --contours.
trust:    which pictures do not belong to the task, and the expected Dice of a mask; tpseg run uses both if the file is
          beside the weights. Uses pictures of the training list and runs each for two other tasks; the pictures of
          --limits, unseen in training, determine the limit.
dice:     only the expected Dice; the rule for refusing pictures stays unchanged.

The expected Dice of training pictures is too high. Altered copies of each picture (--copies) stand in for unseen
pictures; a list unseen in training needs none.

tpseg calibrate --data datalist.json --checkpoint model.pt --miss 0.1
tpseg calibrate --data datalist.json --checkpoint model.pt --fit trust --list training
tpseg calibrate --data own.json --checkpoint model.pt --fit dice --list validation
"""


def add_calibrate_command(commands: Any) -> None:
    """Add the command to the sub-parsers of `tpseg`."""
    raw = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        "calibrate", help="estimate how far masks can be trusted", description=_CALIBRATE, formatter_class=raw
    )
    command.add_argument(
        "--data", required=True, action="append", type=path_text, metavar="JSON",
        help="datalist with images, labels and tasks, paths relative to its folder; can be given several times",
    )  # fmt: skip
    add_checkpoint(command)
    command.add_argument(
        "--list", default="validation", metavar="NAME", help="list of the datalist to fit on (%(default)s)"
    )
    command.add_argument(
        "--limits", default="validation", metavar="NAME", help="list that determines the limits of trust (%(default)s)"
    )
    command.add_argument(
        "--fit", choices=("contours", "trust", "dice"), default="contours", help="what to fit (%(default)s)"
    )
    command.add_argument(
        "--miss", type=float, default=0.1, metavar="SHARE", help="share of missed lesion pixels (%(default)s)"
    )
    command.add_argument(
        "--false", type=float, metavar="SHARE", help="share of false pixels in the inner contour (as --miss)"
    )
    command.add_argument(
        "--most", type=int, default=0, metavar="N", help="maximum number of cases per task, drawn at random (all)"
    )
    command.add_argument(
        "--copies", type=int, metavar="N", help="altered copies of each picture (2; none if --list equals --limits)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed of this draw (%(default)s)")
    add_device(command)
    command.add_argument("--quiet", action="store_true", help="no progress bar, only errors")
    command.set_defaults(command=_calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    false = options.miss if options.false is None else options.false
    for name, share in (("--miss", options.miss), ("--false", false)):
        if not 0 < share < 1:
            raise UsageError(f"{name} must be a share between 0 and 1, got {share:g}.")
    seen = options.list != options.limits
    copies = (2 * seen if options.copies is None else options.copies) if options.fit != "contours" else 0
    for name, number in (("--most", options.most), ("--copies", copies)):
        if number < 0:
            raise UsageError(f"{name} must be 0 or more, got {number}.")
    from tqdm import tqdm

    from monai_tpseg.files import check_folder
    from monai_tpseg.networks.fast.inference_form import choose_device
    from monai_tpseg.studies import Model
    from monai_tpseg.studies.trust_fitting import (
        cases_per_task,
        collect,
        data_provenance,
        fit_contours,
        fit_expected,
        fit_trust,
    )
    from monai_tpseg.trust.fitted_files import Fitted, read_fitted, write_contours, write_fitted
    from monai_tpseg.weights import check_own, choose_weights

    with from_options():
        choose_device(options.device)
    checkpoint = choose_weights(options.checkpoint)
    check_own(checkpoint)
    check_folder(checkpoint.parent, checkpoint.parent, "--checkpoint, such as a copy of these weights")
    model = Model(checkpoint, options.device, judged=False)
    cases = _cases(options.data, options.list, model.info.tasks, options.most, options.seed)
    data = data_provenance(options.list, cases)
    shown = tqdm(cases, unit="case", desc="calibrate", leave=False, disable=options.quiet)
    tasks, sha256 = model.info.tasks, model.info.sha256
    samples = list(collect(model, shown, _OTHERS * (options.fit == "trust"), copies))
    if options.fit == "trust":
        new = _limit_cases(options.data, options.limits, tasks) if seen else []
        provenance = {"data": data, "copies": copies, "limits": data_provenance(options.limits, new) if new else None}
        path = write_fitted(checkpoint, sha256, fit_trust(samples, tasks, provenance, list(collect(model, new))))
    elif options.fit == "dice":
        before = read_fitted(checkpoint, sha256) or Fitted(None, None)
        provenance = {"dice": {**data, "of_task": cases_per_task(samples, tasks), "copies": copies}}
        path = write_fitted(checkpoint, sha256, before.with_dice(fit_expected(samples, tasks), provenance))
    else:
        path = write_contours(checkpoint, sha256, fit_contours(samples, tasks, options.miss, false, data))
        _warn_of_few(samples, tasks, min(options.miss, false))
    logger.info("Wrote %s from %s.", path, count(len(cases), "case"))
    return 0


def _limit_cases(data: list[str], name: str, tasks: tuple[str, ...]) -> list[dict[str, Any]]:
    """The cases that set limits, of those datalists that hold some."""
    from monai_tpseg.parsing import read_json

    holding = [path for path in data if name in read_json(path)]
    if not holding:
        logger.warning("No list %s in --data: the limits come from pictures seen in training.", name)
    return _cases(holding, name, tasks)


def _cases(data: list[str], name: str, tasks: tuple[str, ...], most: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """The cases of a list of all datalists, task by task; 0 is all of a task."""
    from monai_tpseg.data import read_datalist
    from monai_tpseg.keys import TASK

    found = [case for path in data for case in read_datalist(path, name, Path(path).parent, tasks)]
    random.Random(seed).shuffle(found)
    return [case for task in tasks for case in [one for one in found if one[TASK] == task][: most or None]]


def _warn_of_few(samples: list[Sample], tasks: tuple[str, ...], share: float) -> None:
    from monai_tpseg.trust.contours import minimum_cases

    for row, task in enumerate(tasks):
        count, least = sum(one.row == row for one in samples), minimum_cases(share)
        if 0 < count < least:
            logger.warning(
                "%s has %d cases: a share of %g needs at least %d, so its outer contour is the whole picture and its "
                "inner contour is empty.", task, count, share, least,
            )  # fmt: skip
