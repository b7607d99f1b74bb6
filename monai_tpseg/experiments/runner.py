"""Runs the trainings of a suite one after another through the bundle's own commands, and collects their results."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_tpseg.experiments.collect import collect
from monai_tpseg.experiments.datalist import write_datalist
from monai_tpseg.experiments.results import ResultsFile
from monai_tpseg.experiments.suite import Run, Suite, SuiteError
from monai_tpseg.files import check_folder, write_atomically
from monai_tpseg.parsing import ParseError, read_json

__all__ = ["evaluation", "run_suite", "train_command"]

logger = logging.getLogger(__name__)


def run_suite(suite: Suite, data: Path, out: Path, bundle: Path, only: Sequence[str] = ()) -> list[str]:
    """Run what is not done yet and write `results.json` after every run.

    A run that was interrupted goes on from its last epoch; one that fails is left and the next is run, so that one bad
    row does not cost a night. The same command repeats what failed.

    Args:
        suite: suite to run.
        data: folder that holds `datalist.json` and that its paths start from.
        out: folder of `results.json` and of the runs.
        bundle: folder of the bundle, with `configs`.
        only: ids of rows; all by default.

    Returns:
        names of the runs that failed; each has its `log.txt`.

    Raises:
        SuiteError: no bundle there, no datalist, or a run's folder holds a run of other options.
        OSError: nothing can be written to `out`; the run that this stopped has failed, and no other is started.
    """
    if not (bundle / "configs" / "train.json").is_file():
        raise SuiteError(f"No bundle at '{bundle}': give the folder that holds configs/train.json with --bundle.")
    results = ResultsFile(out / "results.json", suite)
    runs, failed = suite.runs(only), []
    for i, run in enumerate(runs, start=1):
        folder = out / "runs" / run.name
        if results.has(run):
            logger.info("%d/%d %s is done", i, len(runs), run.name)
            continue
        logger.info("%d/%d %s", i, len(runs), run.name)
        _prepare(run, suite, data, folder)
        if _train(run, data, folder, bundle) and _evaluate(data, folder, bundle):
            results.add(collect(run, folder, evaluation(folder), data))
        else:
            check_folder(folder, out, "--out")  # every other row would fail as well
            logger.warning("%s failed; see '%s'", run.name, folder / "log.txt")
            failed.append(run.name)
    return failed


def train_command(run: Run, data: Path, folder: Path, bundle: Path) -> list[str]:
    """Return the training command of a run, without the interpreter: `-m monai.bundle run ...`."""
    options = {
        "dataset_dir": data,
        "datalist": folder / "datalist.json",
        "output_dir": folder,
        "tasks": list(run.tasks),
        "seed": run.seed,
        "resume": "auto",
        **run.options,
    }
    words = ["-m", "monai.bundle", "run", "--config_file", str(bundle / "configs" / "train.json")]
    return [*words, *(word for key, value in options.items() for word in (f"--{key}", _word(value)))]


def _word(value: Any) -> str:
    """Return an option as the command line of `monai.bundle` reads it."""
    return str(value)


def _prepare(run: Run, suite: Suite, data: Path, folder: Path) -> None:
    """Write the run's datalist and what it is, or check that the folder holds this very run."""
    written = json.dumps({"tasks": list(run.tasks), "seed": run.seed, "options": dict(run.options)}, indent=1) + "\n"
    state = folder / "run.json"
    if state.is_file() and state.read_bytes() != written.encode():
        raise SuiteError(f"'{folder}' holds a run of {_difference(state)}; remove it, or choose another --out.")
    write_datalist(data / "datalist.json", folder / "datalist.json", run.tasks, suite.holdout)
    write_atomically(state, written.encode())


def _difference(state: Path) -> str:
    try:
        read_json(state)
    except ParseError as error:
        return f"unknown options, as '{state.name}' is damaged ({error})"
    return "other options"


def _train(run: Run, data: Path, folder: Path, bundle: Path) -> bool:
    done = folder / "trained"
    if not done.is_file():
        if not _call(train_command(run, data, folder, bundle), folder):
            return False
        write_atomically(done, b"")
    return True


def evaluation(folder: Path) -> Path:
    """Return where the metrics of a trained run's weights lie; a validation in training measures less."""
    return folder / "evaluation"


def _evaluate(data: Path, folder: Path, bundle: Path) -> bool:
    """Run evaluate.json on the weights; whether it ended well."""
    if (evaluation(folder) / "metrics_per_image.csv").is_file():
        return True
    words = ["-m", "monai.bundle", "run", "--config_file", str(bundle / "configs" / "evaluate.json")]
    words += ["--dataset_dir", str(data), "--datalist", str(folder / "datalist.json")]
    words += ["--output_dir", str(evaluation(folder)), "--checkpoint", str(folder / "model.pt")]
    return _call([*words, "--num_workers", "0", "--overlay_images", "False", "--progress", "False"], folder)


def _call(words: Sequence[str], folder: Path) -> bool:
    """Run Python with `words`, its output appended to the run's log; whether it ended well."""
    with (folder / "log.txt").open("ab") as log:
        ended = subprocess.run(
            [sys.executable, *words], stdout=log, stderr=subprocess.STDOUT, env=os.environ, check=False
        )
    return ended.returncode == 0
