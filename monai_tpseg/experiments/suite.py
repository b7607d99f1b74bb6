"""A suite: the rows of a comparison, each a few overrides of the training config, over seeds and perhaps per task."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_tpseg.catalogue import TASK_NAMES, task_names
from monai_tpseg.networks.build import default_options
from monai_tpseg.parsing import ParseError, read_yaml
from monai_tpseg.words import choose

__all__ = ["Row", "Run", "Suite", "SuiteError", "read_suite"]

_SUITE_KEYS = {"name", "title", "options", "seeds", "tasks", "reference", "holdout", "rows"}
_ROW_KEYS = {"id", "title", "options", "seeds", "per_task", "tables", "paper"}


class SuiteError(ValueError):
    """A suite that cannot be run; the message is one line."""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        id: short name, unique in its suite, also of its folders.
        title: title in the table.
        options: overrides of `train.json`, laid over those of the suite.
        seeds: one run each.
        per_task: tasks that get a model of their own; empty for one model of all tasks.
        tables: numbers of the paper's tables that it belongs to.
        paper: mean Dice that the paper reports for it, in percent, or None.
    """

    id: str
    title: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    per_task: tuple[str, ...] = ()
    tables: tuple[int, ...] = (2,)
    paper: float | None = None


@dataclass(frozen=True)
class Run:
    """One training: a row with a seed, and a task where the row has a model per task.

    Attributes:
        name: name of its folder.
        row: id of its row.
        seed: random seed.
        tasks: task names in row order.
        options: all overrides of `train.json` but seed, tasks, data and folders.
    """

    name: str
    row: str
    seed: int
    tasks: tuple[str, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Suite:
    """Rows that are run and compared.

    Attributes:
        name: name of the suite.
        title: title of its page.
        options: overrides of `train.json` for all rows.
        tasks: task names in row order.
        reference: id of the row that the others are compared with.
        holdout: 0, or n to train on n - 1 parts of the training list and validate on the n-th, so that a choice can be
            made without the validation list.
        rows: in the order they run.
    """

    name: str
    title: str
    options: Mapping[str, Any]
    tasks: tuple[str, ...]
    reference: str
    holdout: int
    rows: tuple[Row, ...]

    def runs(self, only: Sequence[str] = ()) -> list[Run]:
        """Return the trainings in order: the first seed of every row, then the second, and so on.

        Args:
            only: ids of rows; all by default.

        Raises:
            SuiteError: no such row.
        """
        known = [row.id for row in self.rows]
        unknown = [row for row in only if row not in known]
        if unknown:
            raise SuiteError(f"Suite '{self.name}' has no row '{unknown[0]}'; {choose(unknown[0], known)}.")
        rows = [row for row in self.rows if not only or row.id in only]
        seeds = max((len(row.seeds) for row in rows), default=0)
        return [
            run for i in range(seeds) for row in rows if i < len(row.seeds) for run in self._runs(row, row.seeds[i])
        ]

    def _runs(self, row: Row, seed: int) -> list[Run]:
        options = {**self._shared(row), **row.options}
        if not row.per_task:
            return [Run(f"{row.id}-{seed}", row.id, seed, self.tasks, options)]
        if options.get("epoch_cases"):  # the task's share of what one model of all tasks is shown
            options["epoch_cases"] = max(1, options["epoch_cases"] // len(self.tasks))
        return [Run(f"{row.id}-{task}-{seed}", row.id, seed, (task,), options) for task in row.per_task]

    def _shared(self, row: Row) -> dict[str, Any]:
        """The options of all rows, without those of another network than the row's: a peer has no backbone."""
        architecture = row.options.get("architecture", self.options.get("architecture", "tpseg"))
        foreign = {*default_options("tpseg")} - {*default_options(architecture)}
        return {key: value for key, value in self.options.items() if key not in foreign}


def read_suite(path: str | os.PathLike[str]) -> Suite:
    """Read a suite from YAML, see docs/experiments.md.

    Raises:
        SuiteError: the file is missing or no suite; one line with the place.
    """
    file = Path(path)
    if not file.is_file():
        raise SuiteError(f"No suite at '{file}'; give a YAML file such as benchmarks/suites/paper.yaml.")
    try:
        content = read_yaml(file)
    except ParseError as error:
        raise SuiteError(f"'{file}' is not YAML ({error}).") from error
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list) or not content["rows"]:
        raise SuiteError(f"'{file}' must hold an object with a list 'rows'.")
    _only(content, _SUITE_KEYS, str(file))
    try:
        return _suite(content, file)
    except (TypeError, ValueError) as error:
        raise SuiteError(f"'{file}': {error}") from error


def _suite(content: Mapping[str, Any], file: Path) -> Suite:
    tasks = task_names(content.get("tasks") or TASK_NAMES)
    seeds = tuple(int(seed) for seed in content.get("seeds", [0]))
    rows = tuple(_row(entry, f"'{file}', rows[{i}]", tasks, seeds) for i, entry in enumerate(content["rows"]))
    ids = [row.id for row in rows]
    if len(set(ids)) < len(ids):
        raise SuiteError(f"rows must have unique ids, got {', '.join(ids)}.")
    reference, holdout = str(content.get("reference", ids[0])), int(content.get("holdout", 0))
    if reference not in ids:
        raise SuiteError(f"reference '{reference}' is not a row; {choose(reference, ids)}.")
    if holdout < 0 or holdout == 1:
        raise SuiteError(f"holdout must be 0 or at least 2 parts, got {holdout}.")
    name = str(content.get("name", file.stem))
    title = str(content.get("title", name))
    return Suite(name, title, dict(content.get("options") or {}), tasks, reference, holdout, rows)


def _row(entry: Any, where: str, tasks: Sequence[str], seeds: tuple[int, ...]) -> Row:
    if not isinstance(entry, dict) or not entry.get("id"):
        raise SuiteError(f"{where} must be an object with an id, got {entry!r}.")
    _only(entry, _ROW_KEYS, where)
    name = str(entry["id"])
    if not name.replace("-", "").replace("_", "").isalnum():
        raise SuiteError(f"{where}: id '{name}' names a folder; use letters, digits, - and _.")
    per_task = entry.get("per_task", ())
    chosen = tuple(tasks) if per_task is True else tuple(per_task or ())
    if unknown := [task for task in chosen if task not in tasks]:
        raise SuiteError(f"{where}: unknown task '{unknown[0]}'; {choose(unknown[0], tasks)}.")
    return Row(
        id=name,
        title=str(entry.get("title", name)),
        options=dict(entry.get("options") or {}),
        seeds=tuple(int(seed) for seed in entry.get("seeds", seeds)),
        per_task=chosen,
        tables=tuple(int(number) for number in entry.get("tables", [2])),
        paper=None if entry.get("paper") is None else float(entry["paper"]),
    )


def _only(content: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(content) - known):
        raise SuiteError(f"{where} has an unknown key '{unknown[0]}'; the keys are {', '.join(sorted(known))}.")
