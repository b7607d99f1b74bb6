"""Settings that stand in place of a component of a config: checked, and its failures told as one line."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pydoc import ErrorDuringImport, locate
from typing import Any

from monai.bundle import ConfigParser

from monai_tpseg.bundle.setting_values import check_values, is_expression

__all__ = ["check_components", "error_of_component"]

_TARGET = "_target_"
_OF_SETTINGS = ("loss", "network_def", "optimizer")
"""Components whose arguments are called like settings and mean the same."""


def check_components(files: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> None:
    """Check what is given in place of components of a config, and of their arguments, without building much.

    A component without expressions is built; of others, the target and the names of its arguments are checked.

    Args:
        files: contents of the config files.
        given: values by key, e.g. `{"loss": {"_target_": "..."}, "network_def::stem": "conv"}`.

    Raises:
        ValueError: the first that cannot be, with its key.
    """
    for key, value in given.items():
        top, *inner = key.split("::")
        written = [] if inner else [file[key] for file in files if key in file]
        if is_expression(value) or value in written:
            continue
        if top in _OF_SETTINGS and inner:
            check_values({inner[-1]: value})
        own = next((one for one in written if isinstance(one, Mapping)), {})
        if own and (isinstance(value, str | int | float | list) or (value is None and key in _OF_SETTINGS)):
            raise ValueError(f"{key} is a part of the configuration, not a single value, got {value!r}.")
        if _TARGET in own and isinstance(value, Mapping) and _TARGET not in value:
            example = f"{{'{_TARGET}': '{own[_TARGET]}', ...}}"
            raise ValueError(f"{key} must be a component such as {example}, got {value!r}.")
        if isinstance(value, Mapping) and key in _OF_SETTINGS:
            check_values(value)
        if isinstance(value, Mapping) and _TARGET in value:
            _check_component(key, value)


def _check_component(key: str, component: Mapping[str, Any]) -> None:
    for one in _components(component):
        target = one[_TARGET]
        if isinstance(target, str) and "." in target and not is_expression(target):
            _check_arguments(key, target, [name for name in one if not name.startswith("_")])
    if not any(is_expression(leaf) for leaf in _leaves(component)):
        try:
            ConfigParser({"component": dict(component)}).get_parsed_content("component")
        except Exception as error:
            raise ValueError(f"{key} cannot be built: {error_of_component(error)}") from error


def _check_arguments(key: str, target: str, names: list[str]) -> None:
    try:
        found = locate(target)
    except ErrorDuringImport as error:
        raise ValueError(f"{key}: '{target}' cannot be imported ({error.value}).") from error
    if not callable(found):
        raise ValueError(f"{key}: there is no class or function '{target}'; correct its {_TARGET}.")
    try:
        inspect.signature(found).bind_partial(**dict.fromkeys(names))
    except TypeError as error:
        raise ValueError(f"{key}: '{target}' {error}.") from error
    except ValueError:  # a builtin without a signature
        return


def _components(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if _TARGET in value:
            yield value
        for inner in value.values():
            yield from _components(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _components(inner)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(inner)
    else:
        yield value


def error_of_component(error: BaseException) -> str:
    """Return in one line why a component could not be built, without what MONAI wraps around it."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = " ".join(str(cause).split())
    return text if isinstance(cause, ValueError | OSError) else f"{type(cause).__name__}: {text}"
