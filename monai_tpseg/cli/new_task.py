"""The `tpseg new-task` command: a task from exemplars. It imports PyTorch only when there is work for it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from monai_tpseg.catalogue import Modality
from monai_tpseg.cli.run_options import add_checkpoint, add_device
from monai_tpseg.cli.usage import from_options, path_text
from monai_tpseg.words import count

__all__ = ["add_new_task_command"]

_NEW_TASK = """\
Add a task to TP-Seg weights from a few pictures with masks, without training: prototypes come from the features inside
the masks, the other rows from the most similar task. The new weights support the task by name in every command; results
of the old tasks are unchanged. docs/new-task.md reports the accuracy.

tpseg new-task liver_lesion --modality ct --exemplars liver/ --checkpoint model.pt --out with_liver.pt
tpseg run scan.nii.gz --task liver_lesion --checkpoint with_liver.pt --out results
"""


def add_new_task_command(commands: Any) -> None:
    """Add the command to the sub-parsers of `tpseg`."""
    raw = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        "new-task", help="add a task to weights from a few exemplars", description=_NEW_TASK, formatter_class=raw
    )
    command.add_argument("name", metavar="NAME", help="name of the new task, e.g. liver_lesion")
    command.add_argument(
        "--exemplars", required=True, type=path_text, metavar="DIR",
        help="folder with images/ and masks/, or pictures with masks beside them (a.png, a_mask.png); or a datalist",
    )  # fmt: skip
    add_checkpoint(command)
    command.add_argument(
        "--out", required=True, type=path_text, metavar="W2", help="weights to write, .pt, with a .json beside"
    )
    known = ", ".join(modality.value for modality in Modality)
    command.add_argument("--modality", metavar="M", help=f"modality of its pictures: {known}")
    command.add_argument("--new-task", action="store_true", help="confirm a name that resembles that of a known task")
    command.add_argument(
        "--start", choices=("nearest", "identity"), default="nearest",
        help="nearest: all rows of the most similar task, its prototypes moved half way to those of the exemplars; "
        "identity: no adapter, only the prototypes of the exemplars, heads of that task (%(default)s)",
    )  # fmt: skip
    tuning = command.add_argument_group("short training of the new rows only")
    tuning.add_argument(
        "--fine-tune", type=int, default=0, metavar="STEPS", help="number of steps, with 4 exemplars each (0)"
    )
    tuning.add_argument("--lr", type=float, default=1e-3, metavar="L", help="learning rate (%(default)s)")
    tuning.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (0)")
    add_device(command)
    command.add_argument("--quiet", action="store_true", help="print only errors")
    command.set_defaults(command=_new_task)


def _new_task(options: argparse.Namespace) -> int:
    from monai_tpseg.engines.new_task import FineTuning, add_task_to_weights, check_new_task
    from monai_tpseg.networks.fast.inference_form import choose_device
    from monai_tpseg.weights import choose_weights

    with from_options():
        tuning = FineTuning(options.fine_tune, options.lr, options.seed)
        device = choose_device(options.device)
        check_new_task(options.name, options.modality, options.new_task)
    added = add_task_to_weights(
        options.name,
        options.exemplars,
        choose_weights(options.checkpoint),
        options.out,
        options.modality,
        options.start,
        tuning,
        device,
        not options.quiet,
        options.new_task,
    )
    if not options.quiet:
        ranked = ", ".join(f"{task} {value:.2f}" for task, value in added.similarities.items())
        sys.stdout.write(
            f"{options.out}: {options.name} from {count(added.exemplars, 'exemplar')}, "
            f"with the rows of {added.nearest}.\n"
            f"Similarity to the tasks: {ranked}.\n"
        )
    return 0
