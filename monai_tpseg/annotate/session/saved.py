"""Saving and loading of sessions."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_tpseg.annotate.session.exemplar_pictures import ExemplarPicture
from monai_tpseg.annotate.session.history import History, Setup, Step
from monai_tpseg.annotate.session.journal import read_journal
from monai_tpseg.annotate.session.predictor import Result
from monai_tpseg.annotate.session.prompt_model import PromptModel
from monai_tpseg.annotate.session.records import (
    read_result,
    read_setup,
    read_slice,
    result_record,
    setup_record,
    slice_record,
)
from monai_tpseg.annotate.session.session_error import SessionError, no_writing
from monai_tpseg.annotate.session.sources import IN_PROCESS, Sources
from monai_tpseg.files import complete
from monai_tpseg.io.cases import CaseSource
from monai_tpseg.parsing import read_json

__all__ = [
    "Saved",
    "begin_record",
    "check_model",
    "load_exemplar_pictures",
    "picture_path",
    "read_saved",
    "read_source",
    "step_record",
    "steps_record",
    "whole_records",
    "write_source",
]

_SCHEMA = 1
_SOURCE = "source.json"


@dataclass(frozen=True)
class Saved:
    """A saved session.

    Attributes:
        head: first line: weights and sizes.
        history: all steps.
        results: results by number.
        length: size of the valid part of the journal in bytes.
    """

    head: dict[str, Any]
    history: History
    results: dict[int, Result]
    length: int


def write_source(folder: Path, source: CaseSource, sources: Sources = IN_PROCESS) -> None:
    """Write path and identity of the source, the only private file of a session, readable by its owner only.

    Raises:
        SessionError: the file cannot be written.
    """
    paths = source if isinstance(source, tuple) else (source,)
    record = {
        "paths": [str(Path(path).absolute()) for path in paths],
        "several": isinstance(source, tuple),
        "identity": _digest(sources.identity(source)),
    }
    try:
        with complete(folder / _SOURCE) as part:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(json.dumps(record).encode())
            part.chmod(0o600)
    except OSError as error:
        raise no_writing(folder, error) from error


def read_source(folder: Path, source: CaseSource | None = None, sources: Sources = IN_PROCESS) -> CaseSource:
    """Return the source of a session after verifying that it is unchanged.

    Args:
        folder: folder of the session.
        source: current source, if it was moved.
        sources: reader of the source.

    Raises:
        SessionError: the source is unknown or missing, or has changed.
    """
    try:
        record = read_json(folder / _SOURCE)
        paths = tuple(Path(path) for path in record["paths"])
        found = source or (paths if record["several"] else paths[0])
        identity = record["identity"]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        raise SessionError(f"'{folder}' does not identify its source; start a new session.") from None
    try:
        unchanged = _digest(sources.identity(found)) == identity
    except OSError:
        raise SessionError("The source of the session has moved; give its new path as source.") from None
    if not unchanged:
        raise SessionError("The source of the session has changed; start a new session in another folder.")
    return found


def picture_path(folder: Path, digest: str) -> Path:
    """Return the file of a prepared exemplar."""
    return folder / "exemplars" / f"{digest}.npz"


def begin_record(model: PromptModel, shape: tuple[int, ...], setup: Setup) -> dict[str, Any]:
    """Return the first line of a journal."""
    return {"schema": _SCHEMA, **_made_by(model), "shape": list(shape), "setup": setup_record(setup)}


def step_record(step: Step, answer: tuple[int, Result] | None = None) -> dict[str, Any]:
    """Return the line of a step, with its new result, if any."""
    record: dict[str, Any] = {"index": step.index}
    if step.after != step.before:
        record["slice"] = slice_record(step.after)
    if step.setup_after != step.setup_before:
        record["setup"] = setup_record(step.setup_after)
    if answer is not None:
        record["result"] = result_record(*answer)
    return record


def steps_record(steps: Sequence[Step], answers: Sequence[tuple[int, Result] | None] = ()) -> dict[str, Any]:
    """Return the single line of a group of steps, which is complete or missing."""
    answers = answers or [None] * len(steps)
    records = [step_record(step, answer) for step, answer in zip(steps, answers, strict=True)]
    return records[0] if len(records) == 1 else {"steps": records}


def whole_records(head: dict[str, Any], history: History, results: dict[int, Result]) -> Iterator[dict[str, Any]]:
    """Yield the lines of a session, leaving out unreachable results."""
    yield head
    for number in sorted(_reached(history, results)):
        yield {"result": result_record(number, results[number])}
    for steps in history.groups():
        yield steps_record(steps)
    for _ in range(sum(not step.joined for step in history.steps[history.cursor :])):
        yield {"move": -1}


def read_saved(folder: Path) -> Saved:
    """Read a session.

    Raises:
        SessionError: there is no session, it is damaged, or it is of another version of this package.
    """
    lines, length = read_journal(folder)
    if lines[0].get("schema") != _SCHEMA:
        raise SessionError(f"The session in '{folder}' has a different version; start a new one in another folder.")
    try:
        history, results = History(read_setup(lines[0]["setup"])), dict[int, Result]()
        for line in lines[1:]:
            _follow(line, history, results)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, zlib.error):
        raise SessionError(f"The session in '{folder}' is damaged; start a new one in another folder.") from None
    return Saved(lines[0], history, results, length)


def check_model(head: dict[str, Any], model: PromptModel) -> None:
    """Check that a session was made with these weights.

    Raises:
        SessionError: it was made with other weights.
    """
    for key, value in _made_by(model).items():
        if head.get(key) != value:
            raise SessionError(
                f"The session was made with other {key}; give those weights and settings, or start a new session."
            )


def load_exemplar_pictures(folder: Path, saved: Saved) -> dict[str, ExemplarPicture]:
    """Return the exemplar pictures of a session by digest.

    Raises:
        SessionError: a file is missing or damaged.
    """
    setups = [saved.history.setup, *(setup for step in saved.history.steps for setup in _setups(step))]
    used = {one.picture for setup in setups for one in setup.exemplars}
    used |= {one.picture for result in saved.results.values() for one in result.recipe.exemplars}
    return {digest: ExemplarPicture.load(picture_path(folder, digest)) for digest in used if digest}


def _digest(identity: str) -> str:
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()


def _made_by(model: PromptModel) -> dict[str, Any]:
    return {"weights": model.info.sha256, "threshold": model.finish.threshold}


def _setups(step: Step) -> tuple[Setup, Setup]:
    return step.setup_before, step.setup_after


def _follow(line: dict[str, Any], history: History, results: dict[int, Result]) -> None:
    records = line.get("steps", [line])
    for record in records:
        if "result" in record:
            number, result = read_result(record["result"])
            result.found.prob()  # detects damage now, not at the next click
            results[number] = result
    if "move" in line:
        steps = {-1: history.cursor, 1: len(history.steps) - history.cursor}
        if not steps[line["move"]]:
            raise ValueError("a move beyond the steps")
        (history.undo if line["move"] == -1 else history.redo)()
    elif "index" in records[0]:
        history.push([_read_step(record, history) for record in records])


def _read_step(record: dict[str, Any], history: History) -> Step:
    after = read_slice(record["slice"]) if "slice" in record else None
    setup = read_setup(record["setup"]) if "setup" in record else None
    return history.step(int(record["index"]), after, setup)


def _reached(history: History, results: dict[int, Result]) -> set[int]:
    """Return the numbers of the results that a step, an exemplar or another reachable result refers to."""
    new: set[int | None] = {state.result for step in history.steps for state in (step.before, step.after)}
    new |= {one.result for step in history.steps for setup in _setups(step) for one in setup.exemplars}
    reached: set[int] = set()
    while found := {number for number in new if number is not None and number >= 0} - reached:
        reached |= found
        recipes = [results[number].recipe for number in found]
        new = {recipe.previous for recipe in recipes} | {one.result for recipe in recipes for one in recipe.exemplars}
    return reached
