"""What a config cannot know by itself: where it lies, and which options were typed.

MONAI 1.6 tells a config neither. The property `bundle_root` is set by its federated client alone, and a macro
(`%file.json::key`) is read from the working directory. `ConfigWorkflow` keeps the folder, and a parser in which files
and options are one; it hands neither to expressions. So the folder is asked of the workflow up the stack, and options
are read from the command line; nothing else of this package does either.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

__all__ = ["check_options", "find_bundle_root"]

_OF_MONAI = {
    "config_file",
    "meta_file",
    "logging_file",
    "run_id",
    "init_id",
    "final_id",
    "tracking",
    "args_file",
    "workflow_type",
}
_NETWORK = "network_def::"  # takes every argument of its builder, also those that the file does not name
_OF_THE_NETWORK: tuple[str, ...] = (
    "layout",
    "routes",
    "adapter",
    "decoder",
    "without_pgtd",
    "bottleneck",
    "rfb_channels",
    "channels",
)
_OF_THE_NETWORK += ("num_experts", "num_layers", "alpha", "reinforcement", "momentum", "width", "stem", "detail")


def find_bundle_root() -> str:
    """Return the folder of the bundle whose config is being evaluated, or "." where no workflow evaluates it.

    The result does not depend on the working directory.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigWorkflow):
            folder = Path(caller.config_root_path).absolute()
            return str(folder.parent if folder.name == "configs" else folder)
        frame = frame.f_back
    return "."


def check_options(arguments: Sequence[str] | None = None) -> None:
    """Refuse `--name` on a `monai.bundle run` command line when the configs have no such key.

    Args:
        arguments: of the command line, by default this program's.

    Raises:
        ValueError: with the nearest key.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    files = _config_files(arguments)
    if "run" not in arguments or not files:
        return
    parser = ConfigParser()
    parser.read_config(files)
    for name in [a.lstrip("-").partition("=")[0] for a in arguments if re.match(r"--?[A-Za-z]", a)]:
        key = name.replace("#", "::")
        if key in _OF_MONAI or name.startswith("_") or key.startswith(_NETWORK) or key in parser:
            continue
        keys = [k for k, v in parser.get().items() if not k.startswith("_") and k != "bundle_root" and _is_setting(v)]
        close = difflib.get_close_matches(name, [*keys, *(k for k in _OF_THE_NETWORK if k not in keys)], n=1)
        key = f"network_def#{close[0]}" if close and close[0] not in keys else "".join(close)
        hint = f"did you mean --{key}? " if close else ""
        raise ValueError(f"Unknown option --{name}: {hint}The keys are {', '.join(sorted(keys))}.")


def _is_setting(value: Any) -> bool:
    """Whether a top-level value of a config is a number, a name or a rule for one, and no component."""
    ours = ("$@network_def", "$optim.", "$dist.", "$tpseg.described")
    return not isinstance(value, dict | list) and not str(value).startswith(ours)


def _config_files(arguments: Sequence[str]) -> list[str]:
    for i, argument in enumerate(arguments):
        if argument.startswith("--config_file"):
            text = argument.partition("=")[2] or (arguments[i + 1] if i + 1 < len(arguments) else "")
            return [part.strip(" '\"") for part in text.strip("[]()").split(",") if part.strip(" '\"")]
    return []
