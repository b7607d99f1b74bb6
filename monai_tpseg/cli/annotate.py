"""`tpseg annotate`: a page to click lesions, for this machine alone. Libraries are imported only for real work."""

from __future__ import annotations

import argparse
import importlib.util
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai_tpseg.catalogue import TASK_NAMES, match_task
from monai_tpseg.cli.run import check_exists
from monai_tpseg.cli.run_options import add_device
from monai_tpseg.cli.usage import UsageError, path_text
from monai_tpseg.words import choose, how_to_install

__all__ = ["add_annotate_command"]

logger = logging.getLogger(__name__)

_ABOUT = """\
Open a picture, a volume, a DICOM series or a folder of them in a browser: click a lesion, correct the mask, propagate
it from slice to slice, save. Uses K-Prism. The page is served to this machine only, with a secret in its address. Every
action is stored in OUT immediately; OUT/manifest.csv maps cases to their sources: keep it private.
"""


def add_annotate_command(commands: Any) -> None:
    """Add `annotate` to the sub-parsers of `tpseg`."""
    raw = argparse.RawDescriptionHelpFormatter
    about = {"help": "segment and correct lesions by hand in a browser", "description": _ABOUT, "formatter_class": raw}
    command = commands.add_parser("annotate", **about)
    command.set_defaults(command=_annotate, quiet=False)
    command.add_argument("input", type=path_text, metavar="IN", help="a file, a DICOM series or a folder of them")
    command.add_argument(
        "--checkpoint", type=path_text, metavar="W",
        help="K-Prism weights (beside their model.json), or a name from tpseg weights list (the starter weights)",
    )  # fmt: skip
    names = ", ".join(TASK_NAMES)
    command.add_argument("--task", metavar="T", help=f"initial task: {names}, or another one of the weights")
    command.add_argument(
        "--out",
        default="annotations",
        type=path_text,
        metavar="OUT",
        help="folder for sessions and results (annotations)",
    )
    command.add_argument(
        "--masks",
        type=path_text,
        metavar="RUN",
        help="start new cases with the masks in RUN, the --out of tpseg run on IN",
    )
    command.add_argument("--port", type=int, default=0, metavar="P", help="port on 127.0.0.1; a free one by default")
    command.add_argument("--no-browser", action="store_true", help="only print the address")
    command.add_argument("--resume", action="store_true", help="continue the sessions in OUT")
    add_device(command)


def _annotate(options: argparse.Namespace) -> int:
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"tpseg annotate needs {' and '.join(missing)}: {how_to_install('annotate')}.")
    if not 0 <= options.port < 2**16:
        raise UsageError(f"--port must be 0 to 65535, got {options.port}.")
    from monai_tpseg.annotate import PromptModel
    from monai_tpseg.annotate.web.run_masks import masks_of_run
    from monai_tpseg.annotate.web.serve import serve
    from monai_tpseg.annotate.web.workspace import Workspace, check_sessions
    from monai_tpseg.io.discovery import describe_left_out
    from monai_tpseg.io.probing import IsolatedFileAccess
    from monai_tpseg.studies import known_salt, prepare_output
    from monai_tpseg.studies.lock import locked
    from monai_tpseg.studies.manifest import new_salt
    from monai_tpseg.studies.names import case_names
    from monai_tpseg.studies.scan import scan_images
    from monai_tpseg.weights import choose_weights

    checkpoint = choose_weights(options.checkpoint, "kprism")
    out = Path(options.out)
    salt = known_salt(out) or new_salt()
    with IsolatedFileAccess() as access:
        check_exists(options.input, access)
        if access.same(Path(options.input), out):
            raise UsageError(
                f"'{out}' is both IN and --out: sessions would mix with the sources; choose another --out."
            )
        found, left_out = scan_images(options.input, access, quiet=False)
    if left_out:
        logger.info("Not in the list: %s.", describe_left_out(left_out))
    entries = [replace(entry, salt=salt) for entry in found]
    check_sessions(out, case_names(entries, tasks=None), options.resume)
    model = PromptModel(checkpoint, options.device)
    task = match_task(options.task or "", model.info.tasks) or None
    if task and task not in model.info.tasks:
        raise UsageError(f"The weights do not know {task}; {choose(task, model.info.tasks)}.")
    masks = masks_of_run(Path(options.masks), task) if options.masks else {}
    with locked(out):
        cases = prepare_output(out, entries, "salted", options.resume, tasks=None)
        serve(Workspace(cases, model, out, task, masks=masks), options.port, browser=not options.no_browser)
    return 0
