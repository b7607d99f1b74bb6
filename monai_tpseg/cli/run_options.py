"""The options of `tpseg run`."""

from __future__ import annotations

import argparse
from typing import Any

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.defaults import MIN_LESION_AREA, THRESHOLD

__all__ = ["OUT", "add_encoding", "add_engine", "add_reading", "add_settings", "add_sources"]

OUT = "tpseg_results"
"""Where results go without --out; it grows, as with --resume."""


def add_sources(command: Any) -> None:
    command.add_argument("input", metavar="IN", nargs="?", help="a file, a DICOM series or a folder of them")
    command.add_argument(
        "--task", metavar="T", help=f"what to segment, a task of the weights: {', '.join(TASK_NAMES)}, or a new one"
    )
    command.add_argument(
        "--tasks", metavar="A,B", help="instead of --task: several; what they share is computed once for each input"
    )
    command.add_argument("--data", metavar="CSV", help="instead of IN and --task: the manifest that tpseg scan wrote")
    command.add_argument("--root", metavar="DIR", help="folder that the manifest's paths start at, where it has moved")
    command.add_argument(
        "--out", metavar="OUT",
        help=f"folder of the results (./{OUT}, which grows); or a file for the one mask: .png, .nii.gz, .dcm",
    )  # fmt: skip
    command.add_argument("--overwrite", action="store_true", help="replace the file that --out names")
    command.add_argument(
        "--checkpoint", metavar="W",
        help="weights (model.pt, with model.json beside), or their name in tpseg weights list (the starter weights)",
    )  # fmt: skip
    command.add_argument("--resume", action="store_true", help="go on in OUT; recompute what has changed or failed")
    command.add_argument("--quiet", action="store_true", help="no progress bar, nothing but errors")


def add_settings(command: Any) -> None:
    command.add_argument(
        "--threshold", type=float, default=THRESHOLD, help="probability from which a pixel is lesion (%(default)s)"
    )
    command.add_argument(
        "--min-lesion-area",
        type=int,
        default=MIN_LESION_AREA,
        help="drop lesions of fewer pixels or voxels (%(default)s)",
    )
    command.add_argument("--no-seg", action="store_true", help="no DICOM SEG; by default DICOM sources get one")
    add_encoding(command)
    command.add_argument(
        "--no-sr", action="store_true", help="no DICOM SR; by default DICOM sources get one, of empty masks too"
    )
    command.add_argument(
        "--contours", action="store_true",
        help="also the inner and the outer contour of a calibrated promise (tpseg calibrate makes them)",
    )  # fmt: skip
    command.add_argument("--refuse", action="store_true", help="no mask for a picture that is none of the task")
    command.add_argument("--probabilities", action="store_true", help="also the probabilities that masks are cut from")
    command.add_argument(
        "--also", metavar="A,B", default="",
        help="of a volume also: seg.nrrd (3D Slicer), itksnap (numbered lesions and their label descriptions)",
    )  # fmt: skip
    command.add_argument("--mpp", type=float, help="micrometres per pixel that whole slides are read at", metavar="UM")
    command.add_argument("--slide-mpp", type=float, help="the same, of slides that do not say theirs", metavar="UM")
    command.add_argument("--all-windows", action="store_true", help="run windows of slides that show no tissue too")
    command.add_argument("--skip-empty", action="store_true", help="do not run slices of a volume that show nothing")
    command.add_argument(
        "--names", choices=("salted", "source"), default="salted",
        help="names of the cases: salted ids, or those of the sources (which may hold patients' names)",
    )  # fmt: skip


def add_encoding(command: Any) -> None:
    """Add `--seg`, how a DICOM segmentation is encoded."""
    command.add_argument(
        "--seg", choices=("binary", "labelmap"), default="binary", dest="encoding",
        help="encoding of the DICOM SEG: binary, which every reader takes, or labelmap (DICOM 2024 and later) (binary)",
    )  # fmt: skip


def add_reading(command: Any) -> None:
    command.add_argument(
        "--allow-secondary-capture", action="store_true", help="segment DICOM pictures of screens and paper too"
    )
    command.add_argument(
        "--readers", type=int, default=0, metavar="N", help="processes that read ahead (half of the cores, up to 4)"
    )
    command.add_argument("--read-timeout", type=float, default=300, metavar="S", help="seconds to read one case (300)")
    command.add_argument(
        "--read-memory", type=float, default=0, metavar="GIB",
        help="GiB to read one case (half of the machine's, divided among the readers)",
    )  # fmt: skip


def add_engine(command: Any) -> None:
    command.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, ...; the first GPU by default")
    command.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16", "auto"), default="fp32",
        help="of the network: fp32, the faster bf16 and fp16 (GPU), auto: what the device is fastest at (fp32)",
    )  # fmt: skip
    command.add_argument(
        "--runtime", choices=("pytorch", "onnxruntime", "openvino"), default="pytorch",
        help="what computes the network; the others are for CPUs, may be faster and know no refusal (pytorch)",
    )  # fmt: skip
    command.add_argument(
        "--slice-batch", type=_batch, default="auto", metavar="N",
        help="slices or windows that run together: a number, or auto: what fits into --batch-memory (auto)",
    )  # fmt: skip
    command.add_argument(
        "--batch-memory",
        type=float,
        default=1024,
        metavar="MIB",
        help="MiB that a batch may take beside weights and volume (1024)",
    )
    command.add_argument("--shard", default="", metavar="i/n", help="the i-th of n parts of a manifest, e.g. 1/4")
    command.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="this process, or workers on a Ray cluster (local)"
    )
    command.add_argument(
        "--workers", type=int, default=0, metavar="N", help="of Ray: one for each GPU, or for each 4 CPUs without GPU"
    )
    command.add_argument(
        "--ray-address", default="", metavar="A", help="of a cluster, e.g. auto; by default one starts on this machine"
    )


def _batch(text: str) -> int | str:
    if text != "auto" and not text.lstrip("-").isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number or auto, got {text!r}")
    return text if text == "auto" else int(text)
