"""The `tpseg export` command: one task of a model as a file. It imports PyTorch only when there is work for it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.cli.usage import UsageError, from_options, path_text
from monai_tpseg.files import check_writable

__all__ = ["add_export_command"]

_EXPORT = """\
Export one task of a model to a file that runs without this package. The file is loaded again and compared with the
model. Its input is an image as defined in docs/conventions.md, (B, 3, H, W), and its output is logits, (B, 1, H, W);
torchscript and onnx accept any batch size and any H and W divisible by 32, program one image of the model's input size.

K-Prism is exported to two ONNX files: --out NAME.onnx gives NAME_encoder.onnx and NAME_decoder.onnx. An image of the
model's input size is encoded once, then clicks and the previous mask are decoded (docs/deployment.md); --task is the
class that clicks refine, and is optional.
"""


def add_export_command(commands: Any) -> None:
    """Add the command to the sub-parsers of `tpseg`."""
    raw = argparse.RawDescriptionHelpFormatter
    export = commands.add_parser(
        "export", help="export one task as TorchScript, ONNX or .pt2", description=_EXPORT, formatter_class=raw
    )
    export.add_argument(
        "--checkpoint", required=True, type=path_text, metavar="W",
        help="weights (model.pt beside its model.json), or a name from tpseg weights list",
    )  # fmt: skip
    export.add_argument("--task", metavar="T", help=f"task of the model: {', '.join(TASK_NAMES)}; required for TP-Seg")
    export.add_argument(
        "--format", choices=("torchscript", "onnx", "program"), help="torchscript by default, onnx for K-Prism"
    )
    export.add_argument("--out", required=True, type=path_text, metavar="FILE", help="file to write")
    export.add_argument("--quiet", action="store_true", help="print only errors")
    export.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> int:
    from monai_tpseg.catalogue import resolve_task
    from monai_tpseg.networks import TPSeg
    from monai_tpseg.networks.described import build_described
    from monai_tpseg.networks.export import Format, export_task
    from monai_tpseg.networks.kprism.kprism import KPrism
    from monai_tpseg.networks.kprism.onnx_export import export_prompts, file_pair
    from monai_tpseg.networks.weights_info import read_info
    from monai_tpseg.weights import choose_weights

    checkpoint = choose_weights(options.checkpoint)
    info = read_info(checkpoint)
    net = build_described(checkpoint)
    if not isinstance(net, TPSeg | KPrism):
        raise ValueError(
            f"'{options.checkpoint}' holds a {type(net).__name__}; only TP-Seg and K-Prism can be exported."
        )
    if isinstance(net, KPrism) and options.format not in (None, "onnx"):
        raise UsageError(f"K-Prism is exported as onnx, not as {options.format}; omit --format.")
    if isinstance(net, TPSeg) and not options.task:
        raise UsageError(f"TP-Seg is exported for one task: give --task, one of {', '.join(info.tasks)}.")
    with from_options():
        row = None if options.task is None else resolve_task(options.task, info.tasks)
    if not Path(options.out).absolute().parent.is_dir():
        raise ValueError(f"No folder '{Path(options.out).absolute().parent}'; create it, or correct --out.")
    for file in file_pair(options.out) if isinstance(net, KPrism) else (options.out,):
        check_writable(file)
    if isinstance(net, KPrism):
        error, files = export_prompts(net, options.out, info.image_size, row)
        written = " and ".join(map(str, files))
    else:
        assert row is not None  # checked above
        file_format: Format = options.format or "torchscript"
        error, written = export_task(net, row, options.out, file_format, info.image_size), options.out
    if not options.quiet:
        sys.stdout.write(f"{written}: largest difference {error:.1g} of the largest logit\n")
    return 0
