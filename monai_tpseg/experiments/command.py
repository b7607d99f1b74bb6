"""The sub-commands experiment, table and cost of `tpseg`; nothing heavy is imported before there is work."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

__all__ = ["add_commands"]

logger = logging.getLogger(__name__)


def add_commands(commands: Any) -> None:
    """Add the sub-commands to the parser of `tpseg`.

    Args:
        commands: what `ArgumentParser.add_subparsers` gave.
    """
    _add_experiment(commands.add_parser("experiment", help="run the rows of a comparison over seeds"))


def _add_experiment(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Train and evaluate every row of a suite, one after another. What is done is skipped, what was interrupted "
        "goes on: repeat the same command. OUT/results.json holds all figures, image by image."
    )
    command.add_argument("suite", metavar="SUITE", help="YAML file, e.g. benchmarks/suites/paper.yaml")
    command.add_argument("--data", required=True, metavar="DIR", help="folder that holds datalist.json")
    command.add_argument("--out", required=True, metavar="OUT", help="folder of the runs and of results.json")
    command.add_argument(
        "--bundle", default="bundles/tpseg_lesion_segmentation", metavar="B", help="folder of the bundle (%(default)s)"
    )
    command.add_argument("--only", nargs="+", default=[], metavar="ROW", help="run these rows alone")
    command.add_argument("--list", action="store_true", help="write the training commands instead of running them")
    command.add_argument("--quiet", action="store_true", help="say nothing but errors")
    command.set_defaults(command=_experiment)


def _experiment(options: argparse.Namespace) -> int:
    from monai_tpseg.experiments.runner import run_suite, train_command
    from monai_tpseg.experiments.suite import read_suite

    suite, data, out, bundle = read_suite(options.suite), Path(options.data), Path(options.out), Path(options.bundle)
    if options.list:
        for run in suite.runs(options.only):
            words = ["python", *train_command(run, data, out / "runs" / run.name, bundle)]
            sys.stdout.write(shlex.join(words) + "\n")
        return 0
    failed = run_suite(suite, data, out, bundle, options.only)
    if failed:
        logger.error("%d runs failed: %s. The same command tries them again.", len(failed), ", ".join(failed))
    return 3 if failed else 0
