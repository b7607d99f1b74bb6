"""The `tpseg pretrain` command: a trunk from pictures without labels. PyTorch is imported only when there is work."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_tpseg.catalogue import Modality
from monai_tpseg.cli.run_options import add_device
from monai_tpseg.cli.usage import from_options, path_text
from monai_tpseg.words import count

if TYPE_CHECKING:
    from monai_tpseg.pretraining import Pretrained

__all__ = ["add_pretrain_command", "pretrain_own"]

_PRETRAIN = """\
Pretrain a trunk on unlabelled pictures, so that training on the labelled ones starts from a better point. The trunk
sees two fifths of a picture and a decoder predicts the rest (masked autoencoding, as by the authors of Hiera). Masks
are not read.

DATA are datalists (their list `training`; masks are not needed), folders with a datalist.json, pictures, DICOM series,
NIfTI files, or folders of them. DICOM headers give the modality; for all other files, give it with --modality.
Masks in a folder would count as pictures: give its images/ folder.

tpseg pretrain --data archive/ --modality dermoscopy --out eyes --minutes 120
tpseg pretrain --data labelled/datalist.json ct_archive/ --out eyes    (several sources, including volumes)
tpseg train --data moles/ --task skin_lesion --out run --encoder eyes/encoder.pt    (uses the result)
tpseg pretrain --data archive/ --modality dermoscopy --out eyes --minutes 120 --resume    (continues an interrupted run)

See eyes/reconstruction.png: input, visible part, reconstruction. Predicting uniform grey gives a loss of 1.
The trunks of SAM 2 (hiera_tiny ...) need a GPU; hiera_mini is the trunk of the starter weights.
"""
_STATUS = "exit status: 0 pretrained, 1 nothing could be done, 2 invalid command line"


def add_pretrain_command(commands: Any) -> None:
    """Add the command to the sub-parsers of `tpseg`."""
    raw = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        "pretrain", help="pretrain a trunk on pictures without labels", description=_PRETRAIN, epilog=_STATUS,
        formatter_class=raw,
    )  # fmt: skip
    command.add_argument(
        "--data",
        nargs="+",
        required=True,
        type=path_text,
        metavar="DATA",
        help="datalists, pictures, series, or folders of them",
    )
    command.add_argument(
        "--out", required=True, type=path_text, metavar="RUN", help="folder; RUN/encoder.pt is the result"
    )
    command.add_argument("--resume", action="store_true", help="continue the pretraining in RUN")
    command.add_argument("--quiet", action="store_true", help="print only errors")
    known = ", ".join(modality.value for modality in Modality)
    command.add_argument(
        "--modality", default="", metavar="M", help=f"modality of sources that do not state it: {known}"
    )
    command.add_argument("--slices", type=int, default=32, metavar="N", help="evenly spaced slices per volume (32)")
    _add_trunk(command.add_argument_group("the trunk"))
    _add_length(command.add_argument_group("duration and device"))
    command.set_defaults(command=pretrain_own)


def _add_trunk(group: Any) -> None:
    group.add_argument(
        "--backbone", default="hiera_mini", metavar="B",
        help="hiera_demo, hiera_mini, hiera_tiny, hiera_small, hiera_base_plus, hiera_large (hiera_mini)",
    )  # fmt: skip
    group.add_argument(
        "--stem", default="", metavar="S", help="patch or conv (conv for hiera_demo and hiera_mini, otherwise patch)"
    )
    group.add_argument("--image-size", type=int, default=192, metavar="N", help="side of the input in pixels (192)")
    group.add_argument("--mask-ratio", type=float, default=0.6, metavar="R", help="hidden fraction (0.6)")


def _add_length(group: Any) -> None:
    group.add_argument("--minutes", type=float, default=60, metavar="M", help="time for the steps in minutes (60)")
    group.add_argument(
        "--epochs", type=int, default=0, metavar="N", help="passes over the pictures, instead of --minutes"
    )
    group.add_argument("--batch-size", type=int, default=32, metavar="N", help="pictures per step (32)")
    group.add_argument("--lr", type=float, default=1e-3, metavar="L", help="maximum learning rate (0.001)")
    group.add_argument(
        "--amp", default="none", metavar="P", help="none, bf16 or fp16; use bf16 if the processor supports it (none)"
    )
    add_device(group)
    group.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (0)")


def pretrain_own(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from monai_tpseg.networks.fast.inference_form import choose_device
    from monai_tpseg.pretraining import PretrainOptions, pretrain

    words = ["modality", "slices", "backbone", "stem", "image_size", "mask_ratio", "minutes", "epochs", "batch_size"]
    words += ["lr", "amp", "device", "seed"]
    with from_options():
        asked = PretrainOptions(tuple(options.data), **{word: getattr(options, word) for word in words})
        choose_device(asked.device)
    pretrained = pretrain(asked, Path(options.out), options.resume, options.quiet)
    if not options.quiet:
        for line in _lines(pretrained):
            sys.stdout.write(f"{line}\n")
    return 0


def _lines(pretrained: Pretrained) -> Iterator[str]:
    yield f"Error on the hidden parts of {count(pretrained.pictures, 'picture')} (1 is uniform grey):"
    yield f"  first epoch {pretrained.first:.3f}, last epoch {pretrained.last:.3f}"
    yield f"See {pretrained.picture}: input, visible part, reconstruction."
    yield f"Use it: tpseg train --data DATA --out RUN --encoder {shlex.quote(str(pretrained.encoder))}"
