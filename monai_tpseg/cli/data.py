"""The data commands of `tpseg`: prepare and check. They import PyTorch and MONAI only when there is work for them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tpseg.catalogue import TASK_NAMES, check_name, check_new_name, get_task, match_task, task_names
from monai_tpseg.cli.usage import UsageError, from_options, path, path_text
from monai_tpseg.files import check_writable
from monai_tpseg.words import count

if TYPE_CHECKING:
    from monai_tpseg.data.layouts import Layout

__all__ = ["add_data_commands"]

_CHECK = """\
Read every file of a datalist as training does, and report what would break training or silently spoil it: missing or
damaged files, invalid masks or masks of a different size, pictures in both lists, tasks with one picture or without
validation, empty masks. The table is printed as Markdown.
"""
_CHECK_STATUS = "exit status: 0 notes only, 3 warnings, 1 errors or no datalist, 2 invalid command line"


def add_data_commands(commands: Any) -> None:
    """Add the commands to the sub-parsers of `tpseg`."""
    raw = argparse.RawDescriptionHelpFormatter
    check = commands.add_parser(
        "check",
        help="check a datalist before training",
        description=_CHECK,
        epilog=_CHECK_STATUS,
        formatter_class=raw,
    )
    check.add_argument(
        "--data",
        required=True,
        type=path_text,
        metavar="JSON",
        help="datalist with lists training and validation of image, label and task",
    )
    check.add_argument(
        "--root", type=path_text, metavar="DIR", help="folder to which relative paths refer (that of the datalist)"
    )
    check.add_argument("--tasks", metavar="A,B", help="tasks to train (all eight)")
    check.add_argument("--json", action="store_true", help="print every finding as JSON instead of the table")
    check.add_argument("--workers", type=int, metavar="N", help="number of reader processes (one per core, at most 8)")
    check.add_argument("--quiet", action="store_true", help="no progress bar")
    check.set_defaults(command=_check)
    _add_prepare(commands)


_PREPARE = """\
Write a datalist from a public data set as downloaded and unpacked, or from your own folders. Each picture is read with
its mask; damaged files and files without a partner are left out and reported. The printed summary compares the numbers
with Table 1 of the paper. docs/datasets.md describes the source and split of each data set.

of the paper:       tpseg prepare busi --source Dataset_BUSI_with_GT --out data/busi.json
your own:           tpseg prepare folders --images scans --masks masks --task skin_lesion --out data/own.json
from the viewer:    tpseg prepare annotated annotations --out data/ours.json
several as one:     tpseg prepare merge data/busi.json data/own.json --out data/datalist.json
"""
_PREPARE_STATUS = """\
exit status: 0 written, 3 written, but files were left out (damaged or without a partner) or occur in both lists,
1 nothing was written, 2 invalid command line
"""
# name -> data set; the layouts themselves need PyTorch
_DATASETS = {
    "amd-sd": "AMD-SD, wet_amd",
    "btd": "BTD of figshare 1512427, brain_tumor",
    "ebhi-seg": "EBHI-Seg, adenocarcinoma",
    "tnui-2021": "TNUI-2021, thyroid_nodule",
    "polyp": "polyp benchmark in PraNet's two archives, colon_polyp",
    "polyp-raw": "polyp benchmark as single data sets, colon_polyp",
    "covid-19-ct": "COVID-19 CT, lung_infection",
    "busi": "BUSI, breast_lesion",
    "isic-2018": "ISIC 2018 task 1, skin_lesion",
}


def _add_prepare(commands: Any) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    prepare = commands.add_parser(
        "prepare",
        help="write a datalist from a data set",
        description=_PREPARE,
        epilog=_PREPARE_STATUS,
        formatter_class=raw,
    )
    kinds = prepare.add_subparsers(required=True, metavar="DATASET")
    for name, title in _DATASETS.items():
        dataset = kinds.add_parser(name, help=title, description=title)
        dataset.add_argument(
            "--source", type=path, required=True, metavar="DIR", help="folder with the unpacked data set"
        )
        dataset.add_argument(
            "--split", choices=("paper", "official", "seeded"), default="paper",
            help="paper: see docs/datasets.md (default); official: as published; seeded: random, patients together",
        )  # fmt: skip
        dataset.add_argument("--with-empty", action="store_true", help="keep pictures without a lesion")
        _add_dividing(dataset)
        dataset.set_defaults(command=_prepare, dataset=name)
    own = kinds.add_parser("folders", help="your own pictures and masks", description="your own pictures and masks")
    own.add_argument("--images", type=path, required=True, metavar="DIR", help="pictures, in any folder structure")
    own.add_argument(
        "--masks", type=path, required=True, metavar="DIR", help="masks, with the same names and folder structure"
    )
    own.add_argument("--task", required=True, metavar="T", help=f"{', '.join(TASK_NAMES)}, or a new name")
    own.add_argument("--new-task", action="store_true", help="confirm a new name that resembles that of a known task")
    own.add_argument(
        "--val-share", type=float, default=0.2, metavar="S", help="share of the pictures for validation (0.2)"
    )
    own.add_argument(
        "--patient-regex",
        default="",
        metavar="RE",
        help="regular expression that finds the patient in a path below --images",
    )
    _add_dividing(own)
    own.set_defaults(command=_prepare, dataset="folders")
    annotated = kinds.add_parser(
        "annotated",
        help="masks saved in tpseg annotate",
        description="masks saved in tpseg annotate",
    )
    annotated.add_argument("source", type=path, metavar="OUT", help="the --out of tpseg annotate")
    annotated.add_argument(
        "--out", type=path, required=True, metavar="JSON", help="datalist to write; all cases go to training"
    )
    annotated.add_argument("--done", action="store_true", help="only cases marked as done")
    annotated.add_argument("--quiet", action="store_true", help="print only errors")
    annotated.set_defaults(command=_annotated)
    merge = kinds.add_parser("merge", help="merge datalists", description="merge datalists")
    merge.add_argument("lists", type=path, nargs="+", metavar="JSON", help="datalists, paths relative to their folders")
    merge.add_argument("--out", type=path, required=True, metavar="JSON", help="datalist to write")
    merge.add_argument("--quiet", action="store_true", help="print only errors")
    merge.set_defaults(command=_merge)


def _add_dividing(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=path, required=True, metavar="JSON", help="datalist to write")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (0)")
    command.add_argument("--folds", type=int, default=0, metavar="N", help="cross-validation: one list per fold")
    command.add_argument("--fold", type=int, default=0, metavar="I", help="with --folds: write only this fold, 1 to N")
    command.add_argument(
        "--drop-duplicates",
        action="store_true",
        help="exclude training pictures whose pixels equal those of a validation picture",
    )
    command.add_argument(
        "--workers", type=int, metavar="N", help="number of reader processes (one per core, at most 8)"
    )
    command.add_argument("--quiet", action="store_true", help="no progress bar")


def _check_list(out: Path) -> None:
    """Refuse what is no name of a datalist before anything is read: a picture named by mistake would be replaced.

    Raises:
        UsageError: another suffix.
        OSError: nothing can be written there.
    """
    if out.suffix.lower() != ".json":
        raise UsageError(f"A datalist is written to a file with the suffix .json, not '{out}'; correct --out.")
    check_writable(out)


def _prepare(options: argparse.Namespace) -> int:
    from monai_tpseg.data.layouts import LAYOUTS
    from monai_tpseg.data.prepare import Options, prepare

    own = options.dataset == "folders"
    with from_options():
        layout = _own_layout(options) if own else LAYOUTS[options.dataset]
        chosen = Options(
            split="paper" if own else options.split,
            seed=options.seed,
            val_share=options.val_share if own else 0.2,
            folds=options.folds,
            fold=options.fold,
            with_empty=True if own or options.with_empty else None,
            drop_duplicates=options.drop_duplicates,
            workers=options.workers,
            progress=not options.quiet,
        )
    _check_list(options.out)
    summaries = prepare(layout, options.images if own else options.source, options.out, chosen)
    sys.stdout.write("\n\n".join(summary.markdown() for summary in summaries) + "\n")
    return max(summary.status for summary in summaries)


def _own_layout(options: argparse.Namespace) -> Layout:
    from monai_tpseg.data.layouts import own_layout

    if options.new_task:
        task = check_name(match_task(options.task))
    else:
        task = check_new_name(options.task, confirm="add --new-task")
    return own_layout(options.images, options.masks, task, options.patient_regex)


def _annotated(options: argparse.Namespace) -> int:
    from monai_tpseg.studies.annotated import write_annotated

    _check_list(options.out)
    found = write_annotated(options.source, options.out, options.done)
    lines = [
        f"{options.out}: {count(len(found.entries), 'mask')}",
        *(f"left out, {name}: {why}" for name, why in found.left_out),
    ]
    if not options.quiet:
        sys.stdout.write("\n".join(lines) + "\n")
    return 3 if found.left_out else 0


def _merge(options: argparse.Namespace) -> int:
    from monai_tpseg.data.merge import merge_datalists

    _check_list(options.out)
    counts, findings = merge_datalists(options.lists, options.out)
    lines = [f"{name}: {count}" for name, count in counts.items()]
    lines += [f"{finding.where}: {finding.message} [{finding.code}]" for finding in findings]
    sys.stdout.write("\n".join(lines) + "\n")
    return 3 if any(finding.level == "warning" for finding in findings) else 0


def _check(options: argparse.Namespace) -> int:
    from monai_tpseg.data.check import check_datalist

    if options.workers is not None and options.workers < 0:
        raise UsageError(f"--workers must be 0 or more processes, got {options.workers}.")
    with from_options():
        named = options.tasks.split(",") if options.tasks else TASK_NAMES
        tasks = task_names(get_task(match_task(name)) for name in named)
    if options.root and not Path(options.root).is_dir():
        raise ValueError(f"No folder at '{options.root}'; correct --root.")
    report = check_datalist(options.data, options.root, tasks, options.workers, not options.quiet)
    sys.stdout.write((report.to_json() if options.json else report.markdown()) + "\n")
    return report.status
