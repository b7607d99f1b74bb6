"""The `tpseg train` command: weights of one's own. PyTorch is imported only when there is work for it."""

from __future__ import annotations

import argparse
import ast
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tpseg.catalogue import TASK_NAMES, Modality, match_task
from monai_tpseg.cli.run_options import add_checkpoint, add_device
from monai_tpseg.cli.usage import from_options, path_text

if TYPE_CHECKING:
    from monai_tpseg.training import Trained, TrainOptions

__all__ = ["add_train_command", "train_own"]

_TRAIN = """\
Train TP-Seg on your own pictures and masks, from the starter weights or others, and report the improvement. A fifth of
the pictures is held out (whole patients, if known): its Dice is measured before and after.

DATA is a datalist.json (e.g. from tpseg prepare), a folder with one, the --out folder of tpseg annotate, a folder with
images/ and masks/, or pictures with their masks beside them (a.png, a_mask.png).

tpseg train --data moles/ --task skin_lesion --out run       ten minutes from the starter weights
tpseg train --data datalist.json --out run --minutes 60      several tasks, an hour
tpseg train --data liver/ --task liver_lesion --modality ct --out run     a new task, which gets a new row
tpseg run mole.png --task skin_lesion --checkpoint run/model.pt   uses the result

The command runs the training of the bundle (docs/bundle.md): --set KEY=VALUE sets any of its options. Interrupted?
Repeat the command with --resume to continue from the last complete epoch.
"""
_STATUS = "exit status: 0 trained, 1 nothing could be trained, 2 invalid command line"


def add_train_command(commands: Any) -> None:
    """Add the command to the sub-parsers of `tpseg`."""
    raw = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        "train", help="train on your own pictures and masks", description=_TRAIN, epilog=_STATUS, formatter_class=raw
    )
    command.add_argument(
        "--data", required=True, type=path_text, metavar="DATA", help="a datalist, or a folder of pictures and masks"
    )
    command.add_argument(
        "--out",
        required=True,
        type=path_text,
        metavar="RUN",
        help="folder for the training; RUN/model.pt is the result",
    )
    command.add_argument("--resume", action="store_true", help="continue the training in RUN")
    command.add_argument("--quiet", action="store_true", help="print only errors")
    _add_data(command.add_argument_group("data"))
    _add_start(command.add_argument_group("initial weights"))
    _add_length(command.add_argument_group("duration and device"))
    command.set_defaults(command=train_own)


def _add_data(group: Any) -> None:
    known = ", ".join(modality.value for modality in Modality)
    group.add_argument(
        "--task", default="", metavar="T",
        help=f"task of all pictures of a folder: {', '.join(TASK_NAMES)}, or a new name",
    )  # fmt: skip
    group.add_argument("--tasks", default="", metavar="A,B", help="train only these tasks of a datalist (all)")
    group.add_argument(
        "--modality",
        action="append",
        default=[],
        metavar="[T=]M",
        help=f"modality of a new task: {known}",
    )
    group.add_argument(
        "--val-share",
        type=float,
        default=0.2,
        metavar="S",
        help="share to hold out if the data define none (0.2)",
    )
    group.add_argument(
        "--patient-regex", default="", metavar="RE", help="regular expression that finds the patient in a path"
    )


def _add_start(group: Any) -> None:
    add_checkpoint(group)
    group.add_argument(
        "--encoder", type=path_text, metavar="E",
        help="only a pretrained trunk: encoder.pt of tpseg pretrain, or a SAM 2 file; the rest starts from scratch",
    )  # fmt: skip
    group.add_argument("--from-scratch", action="store_true", help="start from scratch; needs much data and many hours")
    group.add_argument(
        "--image-size",
        type=int,
        default=192,
        metavar="N",
        help="side of the input in pixels, with --encoder or --from-scratch (192)",
    )


def _add_length(group: Any) -> None:
    group.add_argument("--minutes", type=float, default=10, metavar="M", help="time for the training in minutes (10)")
    group.add_argument(
        "--epochs", type=int, default=0, metavar="N", help="passes over the training pictures, instead of --minutes"
    )
    group.add_argument("--batch-size", type=int, default=8, metavar="N", help="pictures per step (8)")
    add_device(group)
    group.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (0)")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the bundle's training, e.g. lr=0.0001",
    )


def train_own(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from monai_tpseg.networks.fast.inference_form import choose_device
    from monai_tpseg.training import train
    from monai_tpseg.training.training_run import check_options

    with from_options():
        asked = _asked(options)
        check_options(asked.options)
        choose_device(asked.device)
    trained = train(asked, Path(options.out), options.resume)
    if not options.quiet:
        for line in _lines(trained):
            sys.stdout.write(f"{line}\n")
    return 0


def _asked(options: argparse.Namespace) -> TrainOptions:
    from monai_tpseg.training import TrainOptions

    tasks = tuple(match_task(name) for name in options.tasks.split(",") if name.strip())
    options.task = match_task(options.task)
    words = ["data", "task", "checkpoint", "encoder", "from_scratch", "minutes", "epochs", "image_size", "batch_size"]
    words += ["val_share", "patient_regex", "device", "seed"]
    given = {word: value for word in words if (value := getattr(options, word)) is not None}
    return TrainOptions(tasks=tasks, modalities=_modalities(options), options=_settings(options.set), **given)


def _modalities(options: argparse.Namespace) -> dict[str, str]:
    """`liver=ct` of each `--modality`; a modality alone is that of `--task`."""
    pairs = [text.partition("=") for text in options.modality]
    found = {name if sign else options.task: value if sign else name for name, sign, value in pairs}
    if "" in found:
        raise ValueError("--modality without a task refers to --task; with a datalist, give TASK=MODALITY.")
    return found


def _settings(texts: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise ValueError(f"--set needs KEY=VALUE, e.g. lr=0.0001, got {text!r}.")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = {"true": True, "false": False}.get(value.lower(), value)
    return found


def _lines(trained: Trained) -> Iterator[str]:
    yield f"Dice in percent on the {trained.pictures} held-out pictures:"
    yield f"  {'':20} {'before':>7} {'after':>7}"
    for task, value in trained.after.items():
        before = f"{trained.before[task]:7.1f}" if task in trained.before else f"{'-':>7}"
        yield f"  {task:20} {before} {value:7.1f}"
    if trained.before and trained.after["mean"] < trained.before["mean"]:
        yield "The result is worse: keep the old weights, or train longer or on more pictures."
    if trained.untrained:
        others = ", ".join(trained.untrained)
        yield f"Not in your data: {others}. The shared layers have changed: use other weights for these tasks."
    if trained.licence:
        yield f"Licence of the initial weights, which also applies to these: {trained.licence}"
    task = next(task for task in trained.after if task != "mean")
    yield f"Use it: tpseg run FILE --task {task} --checkpoint {shlex.quote(str(trained.weights))}"
