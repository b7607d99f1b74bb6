"""The data commands of `tpseg`: prepare and check. They import PyTorch and MONAI only when there is work for them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from monai_tpseg.catalogue import TASK_NAMES, check_name, get_task, task_names
from monai_tpseg.words import count

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
    check.add_argument(
        "--data", required=True, metavar="JSON", help="lists training and validation of image, label and task"
    )
    check.add_argument("--root", metavar="DIR", help="folder that relative paths start from (that of the datalist)")
    check.add_argument("--tasks", metavar="A,B", help="the tasks of the training (all eight)")
    check.add_argument("--json", action="store_true", help="JSON with every finding instead of the table")
    check.add_argument("--workers", type=int, metavar="N", help="processes that read (one per core, 8 at most)")
    check.add_argument("--quiet", action="store_true", help="no progress bar")
    check.set_defaults(command=_check)
    _add_prepare(commands)


_PREPARE = """\
Write a datalist from a public data set as it was downloaded and unpacked, or from folders of one's own. Each picture
is read with its mask; what is damaged or without partner is left out and named. The summary on standard output compares
the numbers with the paper's Table 1. docs/datasets.md says where each data set is from and how it is divided.

one of the paper's: tpseg prepare busi --source Dataset_BUSI_with_GT --out data/busi.json
one's own:          tpseg prepare folders --images scans --masks masks --task skin_lesion --out data/own.json
from the viewer:    tpseg prepare annotated annotations --out data/ours.json
several as one:     tpseg prepare merge data/busi.json data/own.json --out data/datalist.json
"""
_PREPARE_STATUS = """\
exit status: 0 written, 3 written, but something was left out as damaged or without partner, or stands in both lists,
1 nothing was written, 2 the command line is wrong
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
            "--source", type=Path, required=True, metavar="DIR", help="folder that it was unpacked into"
        )
        dataset.add_argument(
            "--split", choices=("paper", "official", "seeded"), default="paper",
            help="paper: as docs/datasets.md says (default); official: as published; seeded: drawn, patients together",
        )  # fmt: skip
        dataset.add_argument("--with-empty", action="store_true", help="keep pictures without lesion")
        _add_dividing(dataset)
        dataset.set_defaults(command=_prepare, dataset=name)
    own = kinds.add_parser(
        "folders", help="pictures and masks of one's own", description="pictures and masks of one's own"
    )
    own.add_argument("--images", type=Path, required=True, metavar="DIR", help="pictures, with any folders in it")
    own.add_argument(
        "--masks", type=Path, required=True, metavar="DIR", help="masks, named and laid out like the pictures"
    )
    own.add_argument(
        "--task", required=True, metavar="T", help=f"{', '.join(TASK_NAMES)}, or the name of a task of one's own"
    )
    own.add_argument(
        "--val-share", type=float, default=0.2, metavar="S", help="part of the pictures that validates (0.2)"
    )
    own.add_argument("--patient-regex", default="", metavar="RE", help="finds the patient in a path below --images")
    _add_dividing(own)
    own.set_defaults(command=_prepare, dataset="folders")
    annotated = kinds.add_parser(
        "annotated",
        help="masks that were saved in tpseg annotate",
        description="masks that were saved in tpseg annotate",
    )
    annotated.add_argument("source", type=Path, metavar="OUT", help="the --out of tpseg annotate")
    annotated.add_argument("--out", type=Path, required=True, metavar="JSON", help="datalist to write: all in training")
    annotated.add_argument("--done", action="store_true", help="only the cases that were marked as done there")
    annotated.add_argument("--quiet", action="store_true", help="say nothing but errors")
    annotated.set_defaults(command=_annotated)
    merge = kinds.add_parser("merge", help="several datalists as one", description="several datalists as one")
    merge.add_argument("lists", type=Path, nargs="+", metavar="JSON", help="datalists, paths relative to their folders")
    merge.add_argument("--out", type=Path, required=True, metavar="JSON", help="datalist to write")
    merge.add_argument("--quiet", action="store_true", help="say nothing but errors")
    merge.set_defaults(command=_merge)


def _add_dividing(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, metavar="JSON", help="datalist to write")
    command.add_argument("--seed", type=int, default=0, help="of everything that is drawn (0)")
    command.add_argument("--folds", type=int, default=0, metavar="N", help="cross-validation: one list a fold")
    command.add_argument("--fold", type=int, default=0, metavar="I", help="with --folds: write this fold alone, 1 to N")
    command.add_argument(
        "--drop-duplicates",
        action="store_true",
        help="leave out of training what has the pixels of a validation picture",
    )
    command.add_argument("--workers", type=int, metavar="N", help="processes that read (one per core, 8 at most)")
    command.add_argument("--quiet", action="store_true", help="no progress bar")


def _prepare(options: argparse.Namespace) -> int:
    from monai_tpseg.data.layouts import LAYOUTS, own_layout
    from monai_tpseg.data.prepare import Options, prepare

    own = options.dataset == "folders"
    if own:
        layout = own_layout(options.images, options.masks, check_name(options.task), options.patient_regex)
    else:
        layout = LAYOUTS[options.dataset]
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
    summaries = prepare(layout, options.images if own else options.source, options.out, chosen)
    sys.stdout.write("\n\n".join(summary.markdown() for summary in summaries) + "\n")
    return max(summary.status for summary in summaries)


def _annotated(options: argparse.Namespace) -> int:
    from monai_tpseg.studies.annotated import write_annotated

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

    counts, findings = merge_datalists(options.lists, options.out)
    lines = [f"{name}: {count}" for name, count in counts.items()]
    lines += [f"{finding.where}: {finding.message} [{finding.code}]" for finding in findings]
    sys.stdout.write("\n".join(lines) + "\n")
    return 3 if any(finding.level == "warning" for finding in findings) else 0


def _check(options: argparse.Namespace) -> int:
    from monai_tpseg.data.check import check_datalist

    if options.workers is not None and options.workers < 0:
        raise ValueError(f"--workers must be 0 or more processes, got {options.workers}.")
    tasks = task_names(map(get_task, options.tasks.split(","))) if options.tasks else TASK_NAMES
    report = check_datalist(options.data, options.root, tasks, options.workers, not options.quiet)
    sys.stdout.write((report.to_json() if options.json else report.markdown()) + "\n")
    return report.status
