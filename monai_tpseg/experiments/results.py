"""The results file of a suite: every run with its figures, image by image; see docs/experiments.md for the schema."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_tpseg.experiments.suite import Run, Suite, SuiteError
from monai_tpseg.files import write_atomically
from monai_tpseg.parsing import json_of, read_json

__all__ = ["SCHEMA", "ResultsFile", "merge", "read_results", "write_results"]

SCHEMA = "tpseg-results/1"

_OF_A_ROW = {"id", "title", "tables"}
_OF_A_RUN = {"name", "row", "seed", "tasks", "options", "images", "metrics"}

Results = dict[str, Any]


class ResultsFile:
    """Holds the results of a suite on disk; whole after every addition.

    Args:
        path: path of the file, which is read if it exists.
        suite: suite of the results, which determines titles and order of rows.

    Raises:
        SuiteError: the file is of another suite or another schema.
    """

    def __init__(self, path: Path, suite: Suite) -> None:
        self.path = path
        runs: list[dict[str, Any]] = []
        if path.is_file():
            before = read_results(path)
            if before["suite"] != suite.name:
                raise SuiteError(f"'{path}' holds results of suite '{before['suite']}'; choose another --out.")
            runs = before["runs"]
        self.content: Results = {**_head(suite), "runs": runs}

    def has(self, run: Run) -> bool:
        """Whether this very run, with the same options, is done."""
        wanted = (list(run.tasks), json_of(json.dumps(dict(run.options))))
        return any(r["name"] == run.name and (r["tasks"], r["options"]) == wanted for r in self.content["runs"])

    def add(self, record: dict[str, Any]) -> None:
        """Put in a run, in place of an earlier one of its name, and write the file."""
        self.content["runs"] = [r for r in self.content["runs"] if r["name"] != record["name"]] + [record]
        write_results(self.path, self.content)


def _head(suite: Suite) -> Results:
    from importlib.metadata import version

    rows = [
        {"id": row.id, "title": row.title, "tables": list(row.tables), "paper": row.paper, "planned": len(row.seeds)}
        for row in suite.rows
    ]
    return {
        "schema": SCHEMA,
        "suite": suite.name,
        "title": suite.title,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, torch {version('torch').split('+')[0]}",
        "tasks": list(suite.tasks),
        "reference": suite.reference,
        "holdout": suite.holdout,
        "rows": rows,
    }


def write_results(path: str | os.PathLike[str], content: Results) -> None:
    """Write a results file with one line a run, so that under version control one sees which run was added."""
    head = json.dumps({k: v for k, v in content.items() if k != "runs"}, indent=1)
    runs = ",\n".join(json.dumps(run, separators=(",", ":")) for run in content["runs"])
    write_atomically(path, (head[:-2] + ',\n "runs": [\n' + runs + "\n ]\n}\n").encode())


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read a results file.

    Raises:
        SuiteError: missing, damaged, or of another schema; one line.
    """
    file = Path(path)
    if not file.is_file():
        raise SuiteError(f"No results at '{file}'; run tpseg experiment first.")
    try:
        content: Results = read_json(file)
        found = content["schema"]
    except (ValueError, KeyError, TypeError) as error:
        why = f" ({error})" if isinstance(error, ValueError) else ""
        raise SuiteError(f"'{file}' is not a results file of tpseg experiment{why}.") from error
    if found != SCHEMA:
        raise SuiteError(f"'{file}' has schema '{found}', this version reads '{SCHEMA}'; run the suite again.")
    kinds = {"suite": str, "tasks": list, "rows": list, "runs": list}
    wrong = [key for key, kind in kinds.items() if not isinstance(content.get(key), kind)]
    for key, needed in (("rows", _OF_A_ROW), ("runs", _OF_A_RUN)):
        entries = [] if key in wrong else content[key]
        wrong += [f"{key}[{n}]" for n, one in enumerate(entries) if not (isinstance(one, dict) and needed <= {*one})]
    if wrong:
        raise SuiteError(f"'{file}' is damaged at {wrong[0]}; restore it, or remove it and run the suite again.")
    return content


def merge(results: Sequence[Results]) -> Results:
    """Join results of one suite; of two runs of one name the later file's stays.

    Raises:
        SuiteError: they are of different suites.
    """
    names = {content["suite"] for content in results}
    if len(names) != 1:
        raise SuiteError(f"Only results of one suite can be merged, got {', '.join(sorted(names)) or 'none'}.")
    runs = {run["name"]: run for content in results for run in content["runs"]}
    return {**results[-1], "runs": list(runs.values())}
