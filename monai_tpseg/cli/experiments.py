"""The sub-commands experiment, table and cost of `tpseg`; nothing heavy is imported before there is work."""

from __future__ import annotations

import argparse
import ast
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from monai_tpseg.cli.usage import UsageError, from_options, path_text
from monai_tpseg.words import count

__all__ = ["add_commands"]

logger = logging.getLogger(__name__)


def add_commands(commands: Any) -> None:
    """Add the sub-commands to the parser of `tpseg`.

    Args:
        commands: what `ArgumentParser.add_subparsers` gave.
    """
    _add_experiment(commands.add_parser("experiment", help="run the rows of a comparison over seeds"))
    _add_table(commands.add_parser("table", help="print results of experiments as the paper's tables and figures"))
    _add_grid(commands.add_parser("grid", help="draw the results of several networks side by side"))
    _add_cost(commands.add_parser("cost", help="count parameters and multiply-adds of a network"))


def _add_experiment(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Train and evaluate the rows of a suite one after another. Finished runs are skipped, and interrupted ones "
        "continue: repeat the same command. OUT/results.json contains all results, image by image."
    )
    command.add_argument("suite", type=path_text, metavar="SUITE", help="YAML file, e.g. benchmarks/suites/paper.yaml")
    command.add_argument(
        "--data", required=True, type=path_text, metavar="DIR", help="folder that contains datalist.json"
    )
    command.add_argument(
        "--out", required=True, type=path_text, metavar="OUT", help="folder for the runs and results.json"
    )
    command.add_argument(
        "--bundle",
        default="bundles/tpseg_lesion_segmentation",
        type=path_text,
        metavar="B",
        help="folder of the bundle (%(default)s)",
    )
    command.add_argument("--only", nargs="+", default=[], metavar="ROW", help="run only these rows")
    command.add_argument("--list", action="store_true", help="print the training commands instead of running them")
    command.add_argument("--quiet", action="store_true", help="print only errors")
    command.set_defaults(command=_experiment)


def _experiment(options: argparse.Namespace) -> int:
    from monai_tpseg.bundle.setting_values import check_values
    from monai_tpseg.experiments.runner import run_suite, train_command
    from monai_tpseg.experiments.suite import SuiteError, read_suite

    suite, data, out, bundle = read_suite(options.suite), Path(options.data), Path(options.out), Path(options.bundle)
    for run in suite.runs(options.only):  # before hours of other rows
        try:
            check_values(run.options)
        except ValueError as error:
            raise SuiteError(f"'{options.suite}', row {run.row}: {error}") from None
    if options.list:
        for run in suite.runs(options.only):
            words = ["python", *train_command(run, data, out / "runs" / run.name, bundle)]
            sys.stdout.write(shlex.join(words) + "\n")
        return 0
    failed = run_suite(suite, data, out, bundle, options.only)
    if failed:
        logger.error("%s failed: %s. Repeat the command to retry.", count(len(failed), "run"), ", ".join(failed))
    return 3 if failed else 0


def _add_table(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Print results as Markdown in the layout of the paper's Tables 2 to 5, and as Table 6 with boundary and lesion "
        "metrics (HD95, surface Dice, detected lesions, false positives, calibration). With --out, also write "
        "tableN.md, tableN.csv and figures: learning curves, prototypes (Figures 7 and 8), gates."
    )
    command.add_argument(
        "results", nargs="+", type=path_text, metavar="RESULTS", help="results.json files of one suite"
    )
    command.add_argument(
        "--tables", nargs="+", type=int, metavar="N", help="2, 3, 4, 5, 6 (default: all that have rows)"
    )
    command.add_argument(
        "--iou", default="iou_mean", metavar="M",
        help="definition of mIoU: iou_mean, iou_foreground or iou_dataset (%(default)s)",
    )  # fmt: skip
    command.add_argument("--out", type=path_text, metavar="DIR", help="folder for tables and figures")
    command.add_argument("--quiet", action="store_true", help="print only errors")
    command.set_defaults(command=_table)


def _table(options: argparse.Namespace) -> int:
    from monai_tpseg.experiments.details_table import has_details
    from monai_tpseg.experiments.figures import write_figures
    from monai_tpseg.experiments.results import merge, read_results
    from monai_tpseg.experiments.tables import DETAILS, make_table
    from monai_tpseg.files import check_folder, write_atomically

    results = merge([read_results(path) for path in options.results])
    if options.out:
        check_folder(options.out, options.out, "--out")
    present = {number for row in results["rows"] for number in row["tables"]} | {5}
    present |= {DETAILS} if has_details(results) else set()
    for number in options.tables or sorted(present):
        table = make_table(results, number, options.iou)
        sys.stdout.write(f"## {table.title}\n\n{table.markdown()}\n")
        if options.out:
            write_atomically(Path(options.out) / f"table{number}.md", table.markdown().encode())
            write_atomically(Path(options.out) / f"table{number}.csv", table.csv().encode())
    if options.out:
        figures = write_figures(results, Path(options.out))
        logger.info("Wrote %s", ", ".join(path.name for path in figures))
    return 0


def _add_grid(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Draw the first validation picture with a lesion of every task, with the outlines of the label (blue) and of "
        "each network (amber), like Figure 5 of the paper."
    )
    command.add_argument(
        "runs", nargs="+", type=path_text, metavar="RUN", help="folders of runs, e.g. OUT/runs/A4-0 OUT/runs/UNet-0"
    )
    command.add_argument(
        "--data", required=True, type=path_text, metavar="DIR", help="folder to which the paths of the datalist refer"
    )
    command.add_argument("--out", required=True, type=path_text, metavar="PNG", help="picture to write")
    command.add_argument(
        "--outlines", action="store_true", help="omit the pictures, which you may not be allowed to share"
    )
    command.add_argument("--quiet", action="store_true", help="print only errors")
    command.set_defaults(command=_grid)


def _grid(options: argparse.Namespace) -> int:
    from monai_tpseg.experiments.grid import draw_grid
    from monai_tpseg.files import check_writable, complete

    check_writable(options.out)
    figure = draw_grid([Path(run) for run in options.runs], Path(options.data), options.outlines)
    with complete(options.out) as part:
        figure.savefig(part, dpi=110)
    return 0


def _add_cost(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Count parameters and multiply-adds (torch's counter, one image, one task) of a network and its parts, and "
        "their growth with the number of tasks (Table 5). Nothing is executed; Hiera-L takes a few seconds."
    )
    command.add_argument(
        "--backbone", metavar="B", help="backbone of TP-Seg (hiera_large) or K-Prism (that of the paper)"
    )
    command.add_argument("--image-size", nargs="+", type=int, default=[512], metavar="N", help="side, or H and W (512)")
    command.add_argument(
        "--num-tasks", nargs=2, type=int, default=[1, 8], metavar="N", help="two numbers of tasks to compare (1 8)"
    )
    command.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE",
        help="arguments of the network, e.g. layout=released, adapter=lora, architecture=unet, without_pgtd=[1]",
    )  # fmt: skip
    command.add_argument("--quiet", action="store_true", help="print only errors")
    command.set_defaults(command=_cost)


def _cost(options: argparse.Namespace) -> int:
    from monai_tpseg.bundle.setting_values import check_values
    from monai_tpseg.experiments.cost import cost_table
    from monai_tpseg.inferers import image_size_2d

    size = options.image_size[0] if len(options.image_size) == 1 else options.image_size
    settings = dict(_setting(word) for word in options.set)
    if not 1 <= options.num_tasks[0] < options.num_tasks[1]:
        raise UsageError(
            f"--num-tasks needs two increasing numbers such as 1 8, got {options.num_tasks[0]} {options.num_tasks[1]}."
        )
    for name in {"image_size", "num_tasks"} & settings.keys():
        raise UsageError(f"{name} is not for --set; give --{name.replace('_', '-')}.")
    try:
        named = {"backbone": options.backbone} if options.backbone else {}
        with from_options():
            check_values(settings)
            table = cost_table({**named, **settings}, image_size_2d(size), options.num_tasks)
    except TypeError as error:
        raise UsageError(f"--set has an option that the network does not accept: {error}.") from error
    sys.stdout.write(f"## {table.title}\n\n{table.markdown()}")
    return 0


def _setting(word: str) -> tuple[str, Any]:
    """Return key and value of `key=value`, the value as Python where it is a number, a list or None, else a word."""
    key, sign, value = word.partition("=")
    if not sign or not key:
        raise UsageError(f"--set needs KEY=VALUE, got '{word}'.")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value
