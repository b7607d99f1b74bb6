"""The options of `tpseg run`, and those that other commands share with it."""

from __future__ import annotations

import argparse
from typing import Any

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.cli.usage import path_text
from monai_tpseg.defaults import MIN_LESION_AREA, THRESHOLD

__all__ = [
    "OUT",
    "add_checkpoint",
    "add_device",
    "add_encoding",
    "add_engine",
    "add_precision",
    "add_read_timeout",
    "add_reading",
    "add_settings",
    "add_sources",
    "add_threshold",
]

OUT = "tpseg_results"
"""Where results go without --out; it grows, as with --resume."""


def add_checkpoint(command: Any) -> None:
    command.add_argument(
        "--checkpoint", type=path_text, metavar="W",
        help="weights (model.pt beside its model.json), or a name from tpseg weights list (the starter weights)",
    )  # fmt: skip


def add_device(command: Any) -> None:
    command.add_argument("--device", default="", metavar="D", help="cpu, cuda, cuda:1, ...; the first GPU by default")


def add_sources(command: Any) -> None:
    command.add_argument(
        "input", type=path_text, metavar="IN", nargs="?", help="a file, a DICOM series or a folder of them"
    )
    command.add_argument("--task", metavar="T", help=f"task of the weights: {', '.join(TASK_NAMES)}, or a new one")
    command.add_argument(
        "--tasks", metavar="A,B", help="several tasks instead of --task; shared parts are computed once per input"
    )
    command.add_argument(
        "--data", type=path_text, metavar="CSV", help="manifest written by tpseg scan, instead of IN and --task"
    )
    command.add_argument(
        "--root", type=path_text, metavar="DIR", help="new root of the paths in the manifest, if the data have moved"
    )
    command.add_argument(
        "--out", type=path_text, metavar="OUT",
        help=f"folder for the results (./{OUT}, which accumulates), or a file for one mask: .png, .nii.gz, .dcm",
    )  # fmt: skip
    command.add_argument("--overwrite", action="store_true", help="replace an existing file given as --out")
    add_checkpoint(command)
    command.add_argument(
        "--resume", action="store_true", help="continue in OUT; recompute only changed or failed cases"
    )
    command.add_argument("--quiet", action="store_true", help="no progress bar, only errors")


def add_settings(command: Any) -> None:
    add_threshold(command)
    command.add_argument("--no-seg", action="store_true", help="do not write a DICOM SEG for DICOM sources")
    add_encoding(command)
    command.add_argument(
        "--no-sr",
        action="store_true",
        help="do not write a DICOM SR for DICOM sources (by default also for empty masks)",
    )
    command.add_argument(
        "--contours", action="store_true",
        help="also write the inner and outer contours (calibrated by tpseg calibrate)",
    )  # fmt: skip
    command.add_argument(
        "--refuse", action="store_true", help="write no mask for a picture that does not belong to the task"
    )
    command.add_argument("--probabilities", action="store_true", help="also write the probability maps")
    command.add_argument(
        "--label-maps", metavar="A,B", default="",
        help="further formats for volumes: seg.nrrd (3D Slicer), itksnap (numbered lesions and label descriptions)",
    )  # fmt: skip
    command.add_argument("--mpp", type=float, help="micrometres per pixel at which to read whole slides", metavar="UM")
    command.add_argument(
        "--slide-mpp", type=float, help="micrometres per pixel of slides that do not state it", metavar="UM"
    )
    command.add_argument("--all-windows", action="store_true", help="also run windows of slides without tissue")
    command.add_argument("--skip-empty", action="store_true", help="do not run blank slices of a volume")
    command.add_argument(
        "--names", choices=("salted", "source"), default="salted",
        help="case names: salted ids, or the names of the sources (which may contain patient names)",
    )  # fmt: skip


def add_threshold(command: Any) -> None:
    """Add what decides which pixels are lesion."""
    command.add_argument(
        "--threshold", type=float, default=THRESHOLD, metavar="P",
        help="probability at which a pixel counts as lesion (%(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--min-lesion-area",
        type=int,
        default=MIN_LESION_AREA,
        metavar="N",
        help="remove lesions smaller than this number of pixels or voxels (%(default)s)",
    )


def add_precision(command: Any) -> None:
    command.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16", "auto"), default="fp32",
        help="precision of the network: fp32, bf16, fp16 (GPU only), or auto for the fastest of them (fp32)",
    )  # fmt: skip


def add_read_timeout(command: Any) -> None:
    command.add_argument(
        "--read-timeout", type=float, default=300, metavar="S", help="time limit for reading one case, in seconds (300)"
    )


def add_encoding(command: Any) -> None:
    """Add `--seg`, how a DICOM segmentation is encoded."""
    command.add_argument(
        "--seg", choices=("binary", "labelmap"), default="binary", dest="encoding",
        help="encoding of the DICOM SEG: binary, which every reader supports, or labelmap (DICOM 2024 on) (binary)",
    )  # fmt: skip


def add_reading(command: Any) -> None:
    command.add_argument(
        "--allow-secondary-capture", action="store_true", help="also segment DICOM pictures of screens and paper"
    )
    command.add_argument(
        "--readers",
        type=int,
        default=0,
        metavar="N",
        help="number of processes that read ahead (half of the cores, up to 4)",
    )
    add_read_timeout(command)
    command.add_argument(
        "--read-memory", type=float, default=0, metavar="GIB",
        help="memory limit for reading one case, in GiB (half of the machine's, divided among the readers)",
    )  # fmt: skip


def add_engine(command: Any) -> None:
    add_device(command)
    add_precision(command)
    command.add_argument(
        "--runtime", choices=("pytorch", "onnxruntime", "openvino"), default="pytorch",
        help="inference runtime; the others are for CPUs, may be faster and do not support refusal (pytorch)",
    )  # fmt: skip
    command.add_argument(
        "--slice-batch", type=_batch, default="auto", metavar="N",
        help="slices or windows per forward pass: a number, or auto for as many as fit into --batch-memory (auto)",
    )  # fmt: skip
    command.add_argument(
        "--batch-memory",
        type=float,
        default=1024,
        metavar="MIB",
        help="memory for a batch in MiB, excluding weights and volume (1024)",
    )
    command.add_argument(
        "--shard", default="", metavar="i/n", help="process the i-th of n parts of a manifest, e.g. 1/4"
    )
    command.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="run in this process, or on the workers of a Ray cluster (local)",
    )
    command.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="number of Ray workers (one per GPU, or per 4 CPUs without a GPU)",
    )
    command.add_argument(
        "--ray-address",
        default="",
        metavar="A",
        help="address of a Ray cluster, e.g. auto; by default one is started on this machine",
    )


def _batch(text: str) -> int | str:
    if text != "auto" and not text.lstrip("-").isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number or auto, got {text!r}")
    return text if text == "auto" else int(text)
