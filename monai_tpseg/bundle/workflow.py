"""Facts that a config cannot know itself: its location, and the options on the command line.

MONAI 1.6 tells a config neither. The property `bundle_root` is set by its federated client alone, and a macro
(`%file.json::key`) is read from the working directory. `ConfigWorkflow` keeps the folder, and a parser in which files
and options are one; it hands neither to expressions. So the folder is asked of the workflow up the stack, and options
are read from the command line; nothing else of this package does either.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

from monai_tpseg.bundle.command_line import one_line
from monai_tpseg.bundle.components import error_of_component
from monai_tpseg.bundle.setting_values import check_values, is_checked, is_expression
from monai_tpseg.networks.build import default_options
from monai_tpseg.words import nearest

__all__ = [
    "built_network",
    "check_options",
    "check_settings",
    "computed_settings",
    "find_bundle_root",
    "network_arguments",
    "settings",
    "written_settings",
]

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
    "run_name",
    "experiment_name",
    "tracking_uri",
}
_NETWORK = "network_def::"  # takes every argument of its builder, also those that the file does not name
_OF_THE_NETWORK = tuple({**default_options("tpseg"), **default_options("kprism")})


def find_bundle_root() -> str:
    """Return the folder of the bundle whose config is being evaluated, or "." where no workflow evaluates it.

    The result does not depend on the working directory.
    """
    workflow = _workflow()
    if workflow is None:
        return "."
    folder = Path(workflow.config_root_path).absolute()
    return str(folder.parent if folder.name == "configs" else folder)


def network_arguments() -> dict[str, Any]:
    """Return the arguments of `network_def` in the config that is being evaluated, without building it."""
    workflow = _workflow()
    if workflow is None:
        return {}
    names = (name for name in workflow.parser["network_def"] if not name.startswith("_"))
    return {name: workflow.parser.get_parsed_content(f"network_def::{name}") for name in names}


def built_network() -> Any:
    """Return the network of the config that is being evaluated, built once; None where no workflow evaluates it.

    Raises:
        ValueError: its arguments are wrong.
    """
    workflow = _workflow()
    try:
        return None if workflow is None else workflow.parser.get_parsed_content("network_def")
    except RuntimeError as error:  # MONAI wraps what a component raises
        if error.__cause__ is None:
            raise
        raise ValueError(error_of_component(error)) from error


def written_settings() -> list[dict[str, Any]]:
    """Return the contents of the bundle's config files, before any override; none without a workflow."""
    workflow = _workflow()
    files = [] if workflow is None else Path(workflow.config_root_path).glob("*.json")
    return [ConfigParser.load_config_file(path) for path in files]


def settings() -> dict[str, Any]:
    """Return the config that is being evaluated as it was written and overridden, with its expressions as text."""
    workflow = _workflow()
    return {} if workflow is None else dict(workflow.parser.get())


def computed_settings() -> dict[str, Any]:
    """Return the values of the settings that `check_values` knows and that are expressions in the config."""
    workflow = _workflow()
    if workflow is None:
        return {}
    names = (name for name, value in workflow.parser.get().items() if is_checked(name) and is_expression(value))
    return {name: workflow.parser.get_parsed_content(name) for name in names}


def check_settings() -> None:
    """Refuse settings without effect: arguments of the network that the config does not name, and keys of no config.

    The seed is checked too, as `initialize` uses it; all other values by `check_names`. The command line is checked by
    `check_options`, which names the option as it was typed; this is for `run`, `create_workflow` and `MonaiAlgo` called
    from Python. Keys of the bundle's other configs pass: training and evaluation may be given the same settings.

    Raises:
        ValueError: with the nearest key, or the seed is not allowed.
        SystemExit: such a seed on the command line.
    """
    workflow = _workflow()
    if workflow is None:
        return
    typed = "run" in sys.argv and bool(_config_files(sys.argv))
    (one_line(check_values) if typed else check_values)({k: v for k, v in settings().items() if k == "seed"})
    if typed:
        return
    config = workflow.parser.get()
    named = {*re.findall(r"@(\w+)", json.dumps(config, default=str))}
    files = written_settings()
    for name, value in config.items():
        written = [file[name] for file in files if name in file]
        elsewhere = value in written if name in _OF_THE_NETWORK else bool(written)
        if not (name in named or elsewhere or name in _OF_MONAI or name.startswith("_")):
            raise ValueError(f"Unknown setting {name!r}: {_hint(name, config, named, '')}")


def _workflow() -> ConfigWorkflow | None:
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigWorkflow):
            return caller
        frame = frame.f_back
    return None


def _hint(name: str, config: Mapping[str, Any], named: Collection[str], dashes: str) -> str:
    keys = [
        k for k, v in config.items() if k in named and not k.startswith("_") and k != "bundle_root" and _is_setting(v)
    ]
    close = nearest(name, [*keys, *(k for k in _OF_THE_NETWORK if k not in keys)])
    separator = "#" if dashes else "::"
    key = f"network_def{separator}{close}" if close and close not in keys else close
    hint = f"did you mean {dashes}{key}? " if close else ""
    return f"{hint}The keys are {', '.join(sorted(keys))}."


def check_options(arguments: Sequence[str] | None = None) -> None:
    """Refuse `--name` on a `monai.bundle run` command line when the configs have no such key.

    Args:
        arguments: command-line arguments, by default those of this program.

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
        raise ValueError(f"Unknown option --{name}: {_hint(name, parser.get(), parser.get(), '--')}")


def _is_setting(value: Any) -> bool:
    """Whether a top-level value of a config is a number, a name or a rule for one, and no component."""
    ours = ("$@network_def", "$optim.", "$dist.", "$tpseg.described", "$tpseg.Sources", "$tpseg.CaseLoader")
    return not isinstance(value, dict | list) and not str(value).startswith(ours)


def _config_files(arguments: Sequence[str]) -> list[str]:
    for i, argument in enumerate(arguments):
        if argument.startswith("--config_file"):
            text = argument.partition("=")[2] or (arguments[i + 1] if i + 1 < len(arguments) else "")
            return [part.strip(" '\"") for part in text.strip("[]()").split(",") if part.strip(" '\"")]
    return []
