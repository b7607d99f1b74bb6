"""Completion in the shell: commands, options, tasks and the weights of the catalogue, by argcomplete."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Iterator
from typing import Any

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.weights import CatalogueError, listed

__all__ = ["complete"]


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks what may come next, and end; otherwise do nothing.

    Without argcomplete, an optional dependency, a shell that asks gets no answer.

    Args:
        parser: of the whole command.
    """
    if "_ARGCOMPLETE" not in os.environ or importlib.util.find_spec("argcomplete") is None:
        return
    import argcomplete
    from argcomplete.completers import ChoicesCompleter, FilesCompleter

    for action in _actions(parser):
        if action.dest in ("task", "tasks"):
            _give(action, ChoicesCompleter(dict.fromkeys(TASK_NAMES, "")))
        elif action.dest == "checkpoint":
            _give(action, _Weights(FilesCompleter()))
    argcomplete.autocomplete(parser)


def _give(action: argparse.Action, completer: Any) -> None:
    action.completer = completer  # type: ignore[attr-defined]  # where argcomplete looks


class _Weights:
    """Names of the catalogue, and files."""

    def __init__(self, files: Any) -> None:
        self.files = files

    def __call__(self, prefix: str, **kwargs: Any) -> list[str]:
        try:
            names = [entry.card.name for entry in listed()]
        except CatalogueError:  # the command itself says what is wrong with the catalogue
            names = []
        return [*(name for name in names if name.startswith(prefix)), *self.files(prefix, **kwargs)]


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in dict.fromkeys(action.choices.values()):
                yield from _actions(inner)
        else:
            yield action
